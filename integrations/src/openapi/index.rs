//! What a file refers to and what in it can be referred to: its `$ref`s, `$id`s and anchors, found in one pass.
//!
//! Example values are passed over: what looks like a reference there is data. But `default` under `responses`, or a
//! property that happens to be called `example`, is a name and no keyword.

use std::collections::HashMap;

use url::Url;

use super::tape::{Doc, Id, Kind};

/// Members of these are named by the document's author, so they are no keywords.
const OF_NAMES: [&str; 18] = [
    "properties",
    "patternProperties",
    "dependentSchemas",
    "definitions",
    "$defs",
    "schemas",
    "responses",
    "parameters",
    "headers",
    "examples",
    "requestBodies",
    "securitySchemes",
    "securityDefinitions",
    "links",
    "callbacks",
    "pathItems",
    "content",
    "encoding",
];

/// What relative references within a range of the table are relative to: a file, or a schema with an `$id`.
pub struct Base {
    start: Id,
    end: Id,
    /// The base that this one lies in.
    outer: Option<u32>,
    pub url: Option<Url>,
}

#[derive(Default)]
pub struct Index {
    /// Each `$ref`: the place of its text.
    pub sites: Vec<Id>,
    /// In the order of the table.
    bases: Vec<Base>,
    /// `$id` as written, and made absolute.
    ids: HashMap<String, Id>,
    /// `$anchor` and `$dynamicAnchor`, by file.
    anchors: HashMap<(usize, String), Id>,
}

/// An object that the pass is in.
struct Open {
    id: Id,
    end: Id,
    /// Its members are names.
    names: bool,
    /// It is one of the members of `examples`.
    example: bool,
    base: u32,
}

impl Index {
    /// Takes the file that begins at `start` and ends with the table.
    pub fn scan(&mut self, doc: &Doc<'_>, start: Id, url: Option<Url>) {
        let file = doc.file_of(start);
        let base = self.base(start, doc.size(), None, url);
        let mut open: Vec<Open> = Vec::new();
        // The key before the value at hand, and whether it is a name.
        let mut key: Option<(&str, bool)> = None;
        let mut at = start;
        while at < doc.size() {
            while open.last().is_some_and(|o| at >= o.end) {
                open.pop();
            }
            if let Some(name) = doc.key_at(at) {
                let outer = open.last();
                let names = outer.is_some_and(|o| o.names);
                let value = at + 1;
                at = value;
                key = Some((name, names));
                // No name, even among names: those of schemas stand for objects.
                if name == "$ref" && doc.string(value).is_some() {
                    self.sites.push(value);
                    continue;
                }
                if names {
                    continue;
                }
                match name {
                    "$id" | "$anchor" | "$dynamicAnchor" => self.mark(doc, file, name, value, open.last_mut()),
                    "example" | "default" | "enum" | "const" => at = doc.after(value),
                    "examples" if doc.kind(value) == Kind::Array => at = doc.after(value),
                    "value" if outer.is_some_and(|o| o.example) => at = doc.after(value),
                    _ if name.starts_with("x-") => at = doc.after(value),
                    _ => {}
                }
                continue;
            }
            if doc.real(at) == at && doc.kind(at) == Kind::Object {
                let outer = open.last();
                let names = key.is_some_and(|(name, is_name)| !is_name && OF_NAMES.contains(&name));
                let example = outer.is_some_and(|o| o.names && o.example);
                let of_examples = names && key.is_some_and(|(name, _)| name == "examples");
                let base = outer.map_or(base, |o| o.base);
                open.push(Open { id: at, end: doc.after(at), names, example: example || of_examples, base });
            }
            key = None;
            at += 1;
        }
    }

    fn base(&mut self, start: Id, end: Id, outer: Option<u32>, url: Option<Url>) -> u32 {
        self.bases.push(Base { start, end, outer, url });
        (self.bases.len() - 1) as u32
    }

    /// Notes a name that a schema gives itself.
    fn mark(&mut self, doc: &Doc<'_>, file: usize, key: &str, value: Id, owner: Option<&mut Open>) {
        let (Some(name), Some(owner)) = (doc.string(value), owner) else { return };
        if key != "$id" {
            self.anchors.entry((file, name.to_string())).or_insert(owner.id);
            return;
        }
        self.ids.entry(name.to_string()).or_insert(owner.id);
        let outer = &self.bases[owner.base as usize];
        let url = match &outer.url {
            Some(base) => base.join(name).ok(),
            None => Url::parse(name).ok(),
        };
        let Some(mut url) = url else { return };
        url.set_fragment(None);
        self.ids.entry(url.as_str().to_string()).or_insert(owner.id);
        // Bases stay in the order of the table. An `$id` that stands behind an inner one is found by its name only.
        let last = self.bases.last().map_or(0, |b| b.start);
        if owner.id > last {
            owner.base = self.base(owner.id, owner.end, Some(owner.base), Some(url));
        }
    }

    /// The innermost base around a place.
    pub fn base_of(&self, at: Id) -> u32 {
        if self.bases.len() == 1 {
            return 0;
        }
        let mut found = self.bases.partition_point(|base| base.start <= at).saturating_sub(1) as u32;
        while let Some(base) = self.bases.get(found as usize)
            && at >= base.end
            && let Some(outer) = base.outer
        {
            found = outer;
        }
        found
    }

    pub fn base_url(&self, base: u32) -> Option<&Url> {
        self.bases.get(base as usize).and_then(|base| base.url.as_ref())
    }

    /// The value that a base is.
    pub fn base_root(&self, base: u32) -> Option<Id> {
        self.bases.get(base as usize).map(|base| base.start)
    }

    /// The schema with this `$id`.
    pub fn by_id(&self, id: &str) -> Option<Id> {
        self.ids.get(id).copied()
    }

    pub fn by_anchor(&self, file: usize, name: &str) -> Option<Id> {
        self.anchors.get(&(file, name.to_string())).copied()
    }

    /// Where a reference points that leaves its file: without the fragment. `Err` says why it points nowhere.
    pub fn absolute(&self, base: u32, reference: &str) -> Result<Url, &'static str> {
        let joined = match self.base_url(base) {
            Some(url) => url.join(reference),
            None => Url::parse(reference),
        };
        match joined {
            Ok(mut url) => {
                url.set_fragment(None);
                Ok(url)
            }
            Err(url::ParseError::RelativeUrlWithoutBase) => {
                Err("is relative, and the document came without an address or other files")
            }
            Err(_) => Err("is no URL"),
        }
    }
}
