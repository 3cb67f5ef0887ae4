//! Writes the table: one file after the other, each front to back, within the caps.

use std::time::Instant;

use super::Limits;
use super::tape::{Doc, EXTRA, Entry, File, Id, Kind, Text};

/// The clock is asked once for so many entries.
const CLOCK_EVERY: usize = 4_096;

/// Each method fails, with the reason, where a cap is reached.
pub struct Builder<'a> {
    doc: Doc<'a>,
    depth: usize,
    max_depth: usize,
    max_nodes: usize,
    /// When reading must have ended, and the seconds to name then.
    until: Instant,
    seconds: u64,
    /// Where the text of the file that is being read begins in memory, and its length.
    reading: (usize, usize),
}

/// How far the table was before a file.
#[derive(Clone, Copy)]
struct Mark {
    entries: usize,
    extra: usize,
}

impl<'a> Builder<'a> {
    pub fn new(limits: &Limits) -> Self {
        Builder {
            doc: Doc::default(),
            depth: 0,
            max_depth: limits.max_depth,
            max_nodes: limits.max_nodes.min(u32::MAX as usize / 2),
            until: Instant::now() + limits.max_time,
            seconds: limits.max_time.as_secs(),
            reading: (0, 0),
        }
    }

    pub fn doc(&self) -> &Doc<'a> {
        &self.doc
    }

    pub fn ends_at(&mut self, until: Instant) {
        self.until = until;
    }

    /// `Err`: the time is over. Asked once for each file; within one it is asked while it grows.
    pub fn has_time(&self) -> Result<(), String> {
        match Instant::now() > self.until {
            true => Err(format!("reading the document takes longer than {} s", self.seconds)),
            false => Ok(()),
        }
    }

    /// Reads one more file with `parse`; when that fails, nothing of it stays.
    pub fn file(
        &mut self,
        name: &str,
        text: Text<'a>,
        parse: impl FnOnce(&mut Self, &str) -> Result<(), String>,
    ) -> Result<Id, String> {
        if self.doc.files.len() >= usize::from(EXTRA) {
            return Err("the document has too many files".to_string());
        }
        let mark = Mark { entries: self.doc.entries.len(), extra: self.doc.extra.len() };
        // Real documents have one key or value in about 25 bytes.
        let (length, room) = (text.as_str().len(), self.max_nodes.saturating_sub(mark.entries));
        self.doc.entries.reserve((length / 24).min(room) + 16);
        self.reading = (text.as_str().as_ptr() as usize, length);
        let start = mark.entries as Id;
        self.doc.files.push(File { start, name: name.to_string(), text: text.clone() });
        let plain = text.as_str();
        let parsed = parse(self, plain.strip_prefix('\u{feff}').unwrap_or(plain));
        self.depth = 0;
        let reason = match parsed {
            Ok(()) if self.doc.entries.len() > mark.entries => return Ok(start),
            Ok(()) => "the document is empty".to_string(),
            Err(reason) => reason,
        };
        self.doc.files.pop();
        self.doc.entries.truncate(mark.entries);
        self.doc.extra.truncate(mark.extra);
        Err(reason)
    }

    fn push(&mut self, kind: Kind, file: u16, a: u32, b: u32) -> Result<Id, String> {
        let at = self.doc.entries.len();
        if at >= self.max_nodes {
            return Err(format!("the document has more than {} keys and values", self.max_nodes));
        }
        if at.is_multiple_of(CLOCK_EVERY) && Instant::now() > self.until {
            return Err(format!("reading the document takes longer than {} s", self.seconds));
        }
        self.doc.entries.push(Entry { kind, file, a, b });
        Ok(at as u32)
    }

    /// A key or a scalar. A slice of the file is kept as its place, anything else is copied.
    pub fn text(&mut self, kind: Kind, text: &str) -> Result<Id, String> {
        let (begin, length) = self.reading;
        let start = (text.as_ptr() as usize).wrapping_sub(begin);
        if start <= length && text.len() <= length - start {
            return self.push(kind, (self.doc.files.len() - 1) as u16, start as u32, text.len() as u32);
        }
        let start = self.doc.extra.len();
        if start + text.len() > u32::MAX as usize {
            return Err("the document has too much text".to_string());
        }
        self.doc.extra.push_str(text);
        self.push(kind, EXTRA, start as u32, text.len() as u32)
    }

    /// Begins an array or object; `close` must follow.
    pub fn open(&mut self, kind: Kind) -> Result<Id, String> {
        if self.depth >= self.max_depth {
            return Err(format!("the document is nested deeper than {} levels", self.max_depth));
        }
        self.depth += 1;
        self.push(kind, EXTRA, 0, 0)
    }

    pub fn close(&mut self, id: Id, children: u32) {
        self.depth -= 1;
        let end = self.doc.entries.len() as u32;
        let entry = &mut self.doc.entries[id as usize];
        (entry.a, entry.b) = (end, children);
    }

    pub fn alias(&mut self, target: Id) -> Result<Id, String> {
        let target = self.doc.real(target);
        self.push(Kind::Alias, EXTRA, target, 0)
    }

    /// Appends a member that shares key and value of one elsewhere in the table.
    pub fn share_member(&mut self, key: Id, value: Id) -> Result<(), String> {
        let entry = self.doc.entry(key);
        self.push(Kind::Key, entry.file, entry.a, entry.b)?;
        self.alias(value).map(drop)
    }

    pub fn hide_key(&mut self, key: Id) {
        self.doc.entries[key as usize].kind = Kind::Merged;
    }

    /// The table. Postgres takes no NUL in a text, so each is a blank from here on; `true` when there was one.
    pub fn finish(mut self) -> (Doc<'a>, bool) {
        let nul = self.doc.extra.contains('\0');
        if nul {
            self.doc.extra = self.doc.extra.replace('\0', " ");
        }
        (self.doc, nul)
    }
}
