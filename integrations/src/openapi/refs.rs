//! What a `$ref` means: JSON pointers into the document's files, `$id`, `$anchor` and bare component names.
//!
//! Nothing is fetched here: the files are there, or it is known why not ([`super::reader`]). References are resolved
//! when somebody asks, once for each distinct text and base.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::index::Index;
use super::tape::{Doc, Id, Kind, ROOT};

/// Array elements passed over by pointers with an index, over the whole document.
const MAX_STEPS: usize = 50_000_000;
/// Chains of references longer than this count as circular.
const MAX_HOPS: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Found(Id),
    /// A file that is not there.
    External,
    Dangling,
}

/// The document's files by their URL.
#[derive(Default)]
pub struct Files {
    pub known: HashMap<String, Id>,
    /// Why a file is not there.
    pub missing: HashMap<String, String>,
}

pub struct Refs<'d, 'a> {
    doc: &'d Doc<'a>,
    index: &'d Index,
    files: &'d Files,
    known: RefCell<HashMap<(u32, &'d str), Target>>,
    steps: Cell<usize>,
}

impl<'d, 'a> Refs<'d, 'a> {
    pub fn new(doc: &'d Doc<'a>, index: &'d Index, files: &'d Files) -> Self {
        Refs { doc, index, files, known: RefCell::default(), steps: Cell::new(0) }
    }

    /// What the reference `text` that stands at `at` points to.
    pub fn resolve(&self, at: Id, text: &'d str) -> Target {
        self.resolve_within(at, text, MAX_HOPS)
    }

    fn resolve_within(&self, at: Id, text: &'d str, hops: usize) -> Target {
        let key = (self.index.base_of(at), text);
        if let Some(target) = self.known.borrow().get(&key) {
            return *target;
        }
        let target = self.look_up(at, key.0, text, hops);
        self.known.borrow_mut().insert(key, target);
        target
    }

    /// Follows `$ref` from `id` to the value that is meant; `None` where the chain leads nowhere or round in a circle.
    pub fn follow(&self, id: Id) -> Option<Id> {
        self.follow_within(id, MAX_HOPS)
    }

    fn follow_within(&self, mut id: Id, hops: usize) -> Option<Id> {
        for left in (0..hops).rev() {
            let Some((place, text)) = self.reference(id) else { return Some(self.doc.real(id)) };
            match self.resolve_within(place, text, left) {
                Target::Found(next) => id = next,
                Target::External | Target::Dangling => return None,
            }
        }
        None
    }

    /// The value's own `$ref`: the place of its text, and the text.
    pub fn reference(&self, id: Id) -> Option<(Id, &'d str)> {
        let doc: &'d Doc<'a> = self.doc;
        let place = doc.get(id, "$ref")?;
        doc.string(place).map(|text| (place, text))
    }

    /// References that cannot be answered: place, text and why.
    pub fn broken(&self) -> impl Iterator<Item = (Id, &'d str, Cow<'d, str>)> {
        let doc: &'d Doc<'a> = self.doc;
        self.index.sites.iter().filter_map(move |site| {
            let text = doc.string(*site)?;
            match self.resolve(*site, text) {
                Target::Found(_) => None,
                Target::Dangling => Some((*site, text, Cow::Borrowed("leads nowhere"))),
                Target::External => Some((*site, text, self.why_missing(*site, text))),
            }
        })
    }

    fn why_missing(&self, site: Id, text: &str) -> Cow<'d, str> {
        match self.index.absolute(self.index.base_of(site), text) {
            Err(reason) => Cow::Borrowed(reason),
            Ok(url) => match self.files.missing.get(url.as_str()) {
                Some(reason) => Cow::Borrowed(reason.as_str()),
                None => Cow::Borrowed("leaves the document and is not followed"),
            },
        }
    }

    fn look_up(&self, at: Id, base: u32, text: &str, hops: usize) -> Target {
        let (address, fragment) = match text.split_once('#') {
            Some((address, fragment)) => (address, Some(fragment)),
            None => (text, None),
        };
        let file = self.doc.file_of(at);
        if address.is_empty() {
            return self.within(self.doc.file_root(file), file, base, fragment.unwrap_or_default(), hops);
        }
        let root = self.index.by_id(address).or_else(|| {
            let url = self.index.absolute(base, address).ok()?;
            self.files.known.get(url.as_str()).copied().or_else(|| self.index.by_id(url.as_str()))
        });
        match root {
            Some(root) => self.within(root, self.doc.file_of(root), base, fragment.unwrap_or_default(), hops),
            // Some documents write a component's bare name.
            None if fragment.is_none() && !address.contains(['/', '.', ':']) => self.by_name(file, address, hops),
            None => Target::External,
        }
    }

    /// A fragment: nothing, a pointer, or a name.
    fn within(&self, root: Id, file: usize, base: u32, fragment: &str, hops: usize) -> Target {
        if fragment.is_empty() {
            return Target::Found(self.doc.real(root));
        }
        if !fragment.starts_with('/') {
            return self.by_name(file, fragment, hops);
        }
        // In a schema with an `$id`, `#/…` means the schema by the book and the document in most real ones.
        let inner = || self.index.base_root(base).filter(|id| *id != root).and_then(|id| self.walk(id, fragment, hops));
        match self.walk(root, fragment, hops).or_else(inner) {
            Some(id) => Target::Found(self.doc.real(id)),
            None => Target::Dangling,
        }
    }

    fn by_name(&self, file: usize, name: &str, hops: usize) -> Target {
        let root = self.doc.file_root(file);
        let component = |path: &str| self.walk(root, path, hops).and_then(|group| self.doc.get(group, name));
        let main = |path: &str| self.walk(ROOT, path, hops).and_then(|group| self.doc.get(group, name));
        let found = self
            .index
            .by_anchor(file, name)
            .or_else(|| component("/components/schemas"))
            .or_else(|| component("/definitions"))
            .or_else(|| main("/components/schemas"))
            .or_else(|| main("/definitions"));
        found.map_or(Target::Dangling, |id| Target::Found(self.doc.real(id)))
    }

    /// A pointer's way. It may lead through a value that is itself a reference.
    fn walk(&self, root: Id, pointer: &str, hops: usize) -> Option<Id> {
        pointer.split('/').skip(1).try_fold(root, |at, step| {
            self.step(at, step).or_else(|| {
                let target = self.follow_within(at, hops)?;
                if target == self.doc.real(at) { None } else { self.step(target, step) }
            })
        })
    }

    fn step(&self, at: Id, step: &str) -> Option<Id> {
        match self.doc.kind(at) {
            Kind::Array => {
                let index: usize = step.parse().ok().filter(|i| *i < self.doc.len(at))?;
                self.steps.set(self.steps.get() + index);
                if self.steps.get() > MAX_STEPS { None } else { self.doc.items(at).nth(index) }
            }
            _ => self.doc.get(at, &decode(step)),
        }
    }
}

/// The component's name in a reference: its last step, or the file's name without its ending.
pub fn name_of(reference: &str) -> Cow<'_, str> {
    let reference = reference.trim_end_matches(['#', '/']);
    let name = decode(reference.rsplit(['/', '#']).next().unwrap_or(reference));
    if reference.contains('#') {
        return name;
    }
    match [".yaml", ".yml", ".json"].iter().find_map(|ending| name.strip_suffix(ending)) {
        Some(stem) => Cow::Owned(stem.to_string()),
        None => name,
    }
}

/// One step of a pointer: percent-decoded, then `~1` and `~0`.
fn decode(step: &str) -> Cow<'_, str> {
    if !step.contains(['%', '~']) {
        return Cow::Borrowed(step);
    }
    let mut bytes = Vec::with_capacity(step.len());
    let mut rest = step.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = (first == b'%').then(|| tail.get(..2)).flatten().and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    Cow::Owned(text.replace("~1", "/").replace("~0", "~"))
}
