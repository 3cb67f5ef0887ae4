//! What was done to a workspace's cached documents. The cache itself is no aggregate: it may be emptied at any time.
//! One stream of one event each, as for denials.

use serde::{Deserialize, Serialize};

use crate::{aggregate::aggregate, error::Rejection, event::events};

events! {
    pub enum DocumentCacheEvent {
        "document_cache.listed" v "1" = Listed {
            /// Asked for this one only.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            url: Option<String>,
            entries: u64,
        },
        "document_cache.purged" v "1" = Purged {
            /// Absent: everything of the workspace.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            url: Option<String>,
            entries: u64,
            /// As stored: compressed.
            bytes: u64,
        },
    }
}

#[derive(Debug)]
pub enum DocumentCacheCommand {
    List { url: Option<String>, entries: u64 },
    Purge { url: Option<String>, entries: u64, bytes: u64 },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct DocumentCacheLog {
    pub purged: bool,
}

impl DocumentCacheLog {
    fn evolve(&mut self, event: DocumentCacheEvent) {
        self.purged |= matches!(event, DocumentCacheEvent::Purged { .. });
    }
}

fn decide(_: &DocumentCacheLog, command: DocumentCacheCommand) -> Result<Vec<DocumentCacheEvent>, Rejection> {
    Ok(vec![match command {
        DocumentCacheCommand::List { url, entries } => DocumentCacheEvent::Listed { url, entries },
        DocumentCacheCommand::Purge { url, entries, bytes } => DocumentCacheEvent::Purged { url, entries, bytes },
    }])
}

aggregate!(DocumentCacheLog, "document_cache", DocumentCacheCommand, DocumentCacheEvent, decide);
