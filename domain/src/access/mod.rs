//! Denials of known actors: one stream of one event each, so that no stream grows hot.

use serde::{Deserialize, Serialize};

use crate::{aggregate::aggregate, error::Rejection, event::events};

events! {
    pub enum AccessEvent {
        "access.denied" v "1" = Denied { permission: String, role: String, method: String, path: String },
    }
}

#[derive(Debug)]
pub enum AccessCommand {
    /// `path` is the request's path without its query.
    Deny { permission: String, role: String, method: String, path: String },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Access {
    pub denied: bool,
}

impl Access {
    fn evolve(&mut self, event: AccessEvent) {
        let AccessEvent::Denied { .. } = event;
        self.denied = true;
    }
}

fn decide(_: &Access, command: AccessCommand) -> Result<Vec<AccessEvent>, Rejection> {
    let AccessCommand::Deny { permission, role, method, path } = command;
    Ok(vec![AccessEvent::Denied { permission, role, method, path }])
}

aggregate!(Access, "access", AccessCommand, AccessEvent, decide);
