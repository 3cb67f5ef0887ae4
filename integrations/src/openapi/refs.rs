//! What a `$ref` means: JSON pointers into the document, `$id`, `$anchor` and bare component names.
//!
//! Nothing is fetched. References are resolved when somebody asks, once for each distinct text.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::tape::{Doc, Id, Kind, ROOT};

/// Array elements passed over by pointers with an index, over the whole document.
const MAX_STEPS: usize = 50_000_000;
/// Chains of references longer than this count as circular.
const MAX_HOPS: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Found(Id),
    /// Another file or URL.
    External,
    Dangling,
}

pub struct Refs<'d, 'a> {
    doc: &'d Doc<'a>,
    known: RefCell<HashMap<&'d str, Target>>,
    steps: Cell<usize>,
    ids: HashMap<&'d str, Id>,
    anchors: HashMap<&'d str, Id>,
    /// Each `$ref` of the document: where it stands and its text.
    sites: Vec<(Id, &'d str)>,
}

impl<'d, 'a> Refs<'d, 'a> {
    /// One pass over the table finds every `$ref`, `$id` and anchor. Example values are passed over: what looks like
    /// a reference there is data.
    pub fn new(doc: &'d Doc<'a>) -> Self {
        let (known, steps) = (RefCell::default(), Cell::new(0));
        let mut refs = Refs { doc, known, steps, ids: HashMap::new(), anchors: HashMap::new(), sites: Vec::new() };
        // Open objects, innermost last: where each ends.
        let mut objects: Vec<(Id, Id)> = Vec::new();
        let mut at = ROOT;
        while at < doc.size() {
            while objects.last().is_some_and(|(_, end)| at >= *end) {
                objects.pop();
            }
            let Some(key) = doc.key_at(at) else {
                if doc.real(at) == at && doc.kind(at) == Kind::Object {
                    objects.push((at, doc.after(at)));
                }
                at += 1;
                continue;
            };
            let value = at + 1;
            at = value;
            match key {
                "$ref" => refs.sites.extend(doc.string(value).map(|text| (value, text))),
                "$id" | "$anchor" | "$dynamicAnchor" => {
                    if let (Some(name), Some((owner, _))) = (doc.string(value), objects.last()) {
                        let map = if key == "$id" { &mut refs.ids } else { &mut refs.anchors };
                        map.entry(name).or_insert(*owner);
                    }
                }
                "example" | "default" | "enum" | "const" => at = doc.after(value),
                "examples" if doc.kind(value) == Kind::Array => at = doc.after(value),
                _ if key.starts_with("x-") => at = doc.after(value),
                _ => {}
            }
        }
        refs
    }

    pub fn resolve(&self, text: &'d str) -> Target {
        if let Some(target) = self.known.borrow().get(text) {
            return *target;
        }
        let target = self.look_up(text);
        self.known.borrow_mut().insert(text, target);
        target
    }

    /// Follows `$ref` from `id` to the value that is meant; `None` where the chain leads nowhere or round in a circle.
    pub fn follow(&self, mut id: Id) -> Option<Id> {
        for _ in 0..MAX_HOPS {
            let Some(text) = self.reference(id) else { return Some(self.doc.real(id)) };
            match self.resolve(text) {
                Target::Found(next) => id = next,
                Target::External | Target::Dangling => return None,
            }
        }
        None
    }

    /// The text of the value's own `$ref`.
    pub fn reference(&self, id: Id) -> Option<&'d str> {
        let doc: &'d Doc<'a> = self.doc;
        doc.get(id, "$ref").and_then(|v| doc.string(v))
    }

    /// References that this document cannot answer: place, text and whether they point elsewhere.
    pub fn broken(&self) -> impl Iterator<Item = (Id, &'d str, Target)> {
        self.sites
            .iter()
            .map(|(site, text)| (*site, *text, self.resolve(text)))
            .filter(|(_, _, target)| !matches!(target, Target::Found(_)))
    }

    fn look_up(&self, text: &'d str) -> Target {
        let (base, fragment) = match text.split_once('#') {
            Some((base, fragment)) => (base, Some(fragment)),
            None => (text, None),
        };
        let root = match self.ids.get(base) {
            _ if base.is_empty() => ROOT,
            Some(id) => *id,
            // Some documents write a component's bare name.
            None if fragment.is_none() && !base.contains(['/', '.', ':']) => return self.by_name(base),
            None => return Target::External,
        };
        match fragment.unwrap_or_default() {
            "" => Target::Found(root),
            pointer if pointer.starts_with('/') => match self.walk(root, pointer) {
                Some(id) => Target::Found(self.doc.real(id)),
                None => Target::Dangling,
            },
            name => self.by_name(name),
        }
    }

    fn by_name(&self, name: &str) -> Target {
        let component = |path: &str| self.walk(ROOT, path).and_then(|group| self.doc.get(group, name));
        let found = self
            .anchors
            .get(name)
            .copied()
            .or_else(|| component("/components/schemas"))
            .or_else(|| component("/definitions"));
        found.map_or(Target::Dangling, |id| Target::Found(self.doc.real(id)))
    }

    fn walk(&self, root: Id, pointer: &str) -> Option<Id> {
        pointer.split('/').skip(1).try_fold(root, |at, step| match self.doc.kind(at) {
            Kind::Array => {
                let index: usize = step.parse().ok().filter(|i| *i < self.doc.len(at))?;
                self.steps.set(self.steps.get() + index);
                if self.steps.get() > MAX_STEPS { None } else { self.doc.items(at).nth(index) }
            }
            _ => self.doc.get(at, &decode(step)),
        })
    }
}

/// The component's name in a reference: its last step.
pub fn name_of(reference: &str) -> Cow<'_, str> {
    decode(reference.rsplit(['/', '#']).next().unwrap_or(reference))
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
