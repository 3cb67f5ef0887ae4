//! A parsed document as one flat table: a 12-byte entry for each key and value, in document order, file after file.
//!
//! Texts stay in the input where they can, unescaped ones go to `extra`; so the 13 MB of a large document cost about
//! 6 MB more, and JSON and YAML share all code behind it. Containers know where they end, which makes skipping a
//! subtree one step. A YAML alias points at its anchor and is never copied out: an alias bomb stays small.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Number, Value};

/// Index of a value in the table. The document's first file is [`ROOT`].
pub type Id = u32;
pub const ROOT: Id = 0;

/// Objects with more members than this get an index at the first look-up.
const WIDE: u32 = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    True,
    False,
    Number,
    String,
    Array,
    Object,
    /// A member's name; the entry after it is its value.
    Key,
    /// A YAML merge key (`<<`) that has been carried out: not a member.
    Merged,
    /// Stands for the value at `a`.
    Alias,
}

/// Scalars and keys: `a` = offset, `b` = length in the text of file `file`, or in `extra`. Containers: `a` = index after
/// the last entry, `b` = number of children.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub kind: Kind,
    /// Number of the file, or [`EXTRA`].
    pub file: u16,
    pub a: u32,
    pub b: u32,
}

/// In place of a file's number: the text is in `extra`.
pub(super) const EXTRA: u16 = u16::MAX;

/// A file's text. Shared, so that a parser can read it while the table that holds it is written.
#[derive(Clone)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Owned(Arc<String>),
}

impl Text<'_> {
    pub fn as_str(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Owned(text) => text,
        }
    }
}

/// A file of the document.
pub(super) struct File<'a> {
    /// Its value's place in the table; the next file's is where it ends.
    pub start: Id,
    /// As warnings name it; empty for the first.
    pub name: String,
    pub text: Text<'a>,
}

#[derive(Default)]
pub struct Doc<'a> {
    pub(super) files: Vec<File<'a>>,
    pub(super) extra: String,
    pub(super) entries: Vec<Entry>,
    wide: RefCell<HashMap<Id, Arc<WideIndex>>>,
}

/// Member name → its last value.
type WideIndex = HashMap<String, Id>;

impl<'a> Doc<'a> {
    pub(super) fn entry(&self, id: Id) -> Entry {
        self.entries[id as usize]
    }

    /// The value itself where `id` is an alias.
    pub fn real(&self, id: Id) -> Id {
        let entry = self.entry(id);
        if entry.kind == Kind::Alias { entry.a } else { id }
    }

    pub fn kind(&self, id: Id) -> Kind {
        self.entry(self.real(id)).kind
    }

    pub fn is_object(&self, id: Id) -> bool {
        self.kind(id) == Kind::Object
    }

    /// The number of the file that holds this value.
    pub fn file_of(&self, id: Id) -> usize {
        if self.files.len() == 1 {
            return 0;
        }
        self.files.partition_point(|file| file.start <= id).saturating_sub(1)
    }

    /// The value that a file is.
    pub fn file_root(&self, file: usize) -> Id {
        self.files.get(file).map_or(ROOT, |file| file.start)
    }

    /// Number of entries: keys and values of the whole document.
    pub fn size(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Children of a container, 0 for scalars.
    pub fn len(&self, id: Id) -> usize {
        let entry = self.entry(self.real(id));
        if matches!(entry.kind, Kind::Array | Kind::Object) { entry.b as usize } else { 0 }
    }

    /// The index after this entry and all it contains.
    pub fn after(&self, id: Id) -> Id {
        let entry = self.entry(id);
        if matches!(entry.kind, Kind::Array | Kind::Object) { entry.a } else { id + 1 }
    }

    fn raw_text(&self, entry: Entry) -> &str {
        let range = entry.a as usize..(entry.a + entry.b) as usize;
        match entry.file {
            EXTRA => &self.extra[range],
            file => &self.files[file as usize].text.as_str()[range],
        }
    }

    /// The member name at `id`, where the entry is one.
    pub fn key_at(&self, id: Id) -> Option<&str> {
        let entry = self.entry(id);
        (entry.kind == Kind::Key).then(|| self.raw_text(entry))
    }

    /// A string value.
    pub fn string(&self, id: Id) -> Option<&str> {
        let entry = self.entry(self.real(id));
        // A YAML alias may point at an anchored key.
        matches!(entry.kind, Kind::String | Kind::Key).then(|| self.raw_text(entry))
    }

    /// Any scalar as text (`version: 1.10` stays `1.10`); `None` for null and containers.
    pub fn scalar(&self, id: Id) -> Option<&str> {
        let entry = self.entry(self.real(id));
        match entry.kind {
            Kind::String | Kind::Key | Kind::Number => Some(self.raw_text(entry)),
            Kind::True => Some("true"),
            Kind::False => Some("false"),
            _ => None,
        }
    }

    /// A boolean; documents also write it as a string.
    pub fn boolean(&self, id: Id) -> Option<bool> {
        match self.scalar(id)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The members of an object in document order, duplicates included; nothing for other values.
    pub fn members(&self, id: Id) -> impl Iterator<Item = (&str, Id)> {
        let id = self.real(id);
        let entry = self.entry(id);
        let end = if entry.kind == Kind::Object { entry.a } else { id };
        let mut at = id + 1;
        std::iter::from_fn(move || {
            while at < end {
                let (key, value) = (self.entry(at), at + 1);
                at = self.after(value);
                if key.kind == Kind::Key {
                    return Some((self.raw_text(key), value));
                }
            }
            None
        })
    }

    /// The elements of an array; nothing for other values.
    pub fn items(&self, id: Id) -> impl Iterator<Item = Id> {
        let id = self.real(id);
        let entry = self.entry(id);
        let end = if entry.kind == Kind::Array { entry.a } else { id };
        let mut at = id + 1;
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let item = at;
                at = self.after(at);
                item
            })
        })
    }

    /// The member of that name; of duplicates the last.
    pub fn get(&self, id: Id, key: &str) -> Option<Id> {
        let id = self.real(id);
        let entry = self.entry(id);
        if entry.kind != Kind::Object {
            return None;
        }
        if entry.b > WIDE {
            return self.wide_index(id).get(key).copied();
        }
        self.members(id).filter(|(k, _)| *k == key).last().map(|(_, v)| v)
    }

    fn wide_index(&self, id: Id) -> Arc<WideIndex> {
        if let Some(index) = self.wide.borrow().get(&id) {
            return index.clone();
        }
        let index: Arc<WideIndex> = Arc::new(self.members(id).map(|(k, v)| (k.to_string(), v)).collect());
        self.wide.borrow_mut().insert(id, index.clone());
        index
    }

    /// The value as JSON, or `None` when it has more than `budget` nodes or one text over 1,000 bytes.
    pub fn value(&self, id: Id, budget: &mut usize) -> Option<Value> {
        *budget = budget.checked_sub(1)?;
        let id = self.real(id);
        let entry = self.entry(id);
        Some(match entry.kind {
            Kind::Array => Value::Array(self.items(id).map(|v| self.value(v, budget)).collect::<Option<_>>()?),
            Kind::Object => {
                let mut map = Map::new();
                for (key, value) in self.members(id) {
                    map.insert(key.to_string(), self.value(value, budget)?);
                }
                Value::Object(map)
            }
            Kind::True => Value::Bool(true),
            Kind::False => Value::Bool(false),
            Kind::Null => Value::Null,
            _ if entry.b > 1_000 => return None,
            Kind::Number => number(self.raw_text(entry)),
            _ => Value::String(self.raw_text(entry).to_string()),
        })
    }

    /// RFC 6901 pointer to a value: a search from the top, for messages only (absurdly long keys are cut). In another
    /// file than the first, the file's name and `#` stand before it.
    pub fn pointer(&self, id: Id) -> String {
        let (mut at, mut pointer) = match self.files.get(self.file_of(id)) {
            Some(file) if file.start > ROOT => (file.start, format!("{}#", file.name)),
            _ => (ROOT, String::new()),
        };
        while at != id {
            let holds = |v: Id| (v..self.after(v)).contains(&id);
            let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
            let found = match self.entry(at).kind {
                Kind::Object => self.members(at).find(|(_, v)| holds(*v)).map(|(key, v)| (escape(key), v)),
                _ => self.items(at).enumerate().find(|(_, v)| holds(*v)).map(|(i, v)| (i.to_string(), v)),
            };
            let Some((step, next)) = found else { break };
            pointer.push('/');
            pointer.push_str(&super::context::clip(&step, super::context::MAX_NAME));
            at = next;
        }
        pointer
    }
}

fn number(text: &str) -> Value {
    if let Ok(n) = text.parse::<i64>() {
        return Value::from(n);
    }
    if let Ok(n) = text.parse::<u64>() {
        return Value::from(n);
    }
    match text.parse::<f64>().ok().and_then(Number::from_f64) {
        Some(n) => Value::Number(n),
        None => Value::String(text.to_string()),
    }
}
