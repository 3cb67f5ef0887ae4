//! YAML text into the table, from the parser events beneath serde-saphyr.
//!
//! Events instead of serde: scalars keep their spelling (`version: 1.10`), aliases stay references instead of being
//! copied out, duplicate keys do not stop us, and no recursion follows the nesting of the input. Types follow the
//! YAML 1.2 core schema: `yes`, `no` and `on` are strings.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};

use super::Limits;
use super::builder::Builder;
use super::tape::{Id, Kind};

/// Members looked at while carrying out merge keys, over the whole document.
const MAX_MERGED: usize = 1_000_000;

/// Reads the first document of the stream. The error is one sentence with line and column.
pub fn parse(builder: &mut Builder<'_>, text: &str, limits: &Limits) -> Result<(), String> {
    let mut options = Options::default();
    // The scanner runs ahead of the events, so it needs the cap too.
    options.flow_nesting_limit = limits.max_depth;
    options.block_nesting_limit = limits.max_depth;
    options.set_emit_comments(false);
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { builder, open: Vec::new(), anchors: HashMap::new(), merged: 0 };
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|e| describe(&e, limits))?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        reader.take(event).map_err(|message| format!("{message} at {}", place(&span)))?;
    }
    Ok(())
}

fn place(span: &Span) -> String {
    format!("line {} column {}", span.start.line(), span.start.col() + 1)
}

fn describe(error: &ScanError, limits: &Limits) -> String {
    let at = error.marker();
    let what = match error.kind() {
        serde_saphyr::granit_parser::ErrorKind::RecursionLimitExceeded => {
            format!("the document is nested deeper than {} levels", limits.max_depth)
        }
        _ => format!("not valid YAML: {}", error.info()),
    };
    format!("{what} at line {} column {}", at.line(), at.col() + 1)
}

/// A container that has begun. An object alternates between key and value.
struct Open {
    id: Id,
    object: bool,
    anchor: usize,
    /// Values so far, and for an object whether the next node is one.
    children: u32,
    value_next: bool,
    merges: bool,
}

struct Reader<'b, 'a> {
    builder: &'b mut Builder<'a>,
    open: Vec<Open>,
    /// Only values that are complete: an alias inside its own anchor finds nothing.
    anchors: HashMap<usize, Id>,
    merged: usize,
}

impl Reader<'_, '_> {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let kind = if self.at_key() { Kind::Key } else { scalar_kind(&text, style, tag.as_deref()) };
                let merge = kind == Kind::Key && text == "<<" && style == ScalarStyle::Plain;
                let id = self.builder.text(kind, &text)?;
                self.remember(anchor, id);
                self.count(merge);
            }
            Event::Alias(anchor) => {
                let Some(&target) = self.anchors.get(&anchor) else {
                    return Err("an alias refers to a value that contains it".to_string());
                };
                if self.at_key() {
                    return Err("an alias as a key is not supported".to_string());
                }
                self.builder.alias(target)?;
                self.count(false);
            }
            Event::SequenceStart(_, anchor, _) => self.begin(Kind::Array, anchor)?,
            Event::MappingStart(_, anchor, _) => self.begin(Kind::Object, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            _ => {}
        }
        Ok(())
    }

    fn at_key(&self) -> bool {
        self.open.last().is_some_and(|open| open.object && !open.value_next)
    }

    fn remember(&mut self, anchor: usize, id: Id) {
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
    }

    /// A key or value of the innermost container is done.
    fn count(&mut self, merge: bool) {
        if let Some(open) = self.open.last_mut() {
            open.merges |= merge;
            if !open.object || open.value_next {
                open.children += 1;
            }
            open.value_next = open.object && !open.value_next;
        }
    }

    fn begin(&mut self, kind: Kind, anchor: usize) -> Result<(), String> {
        if self.at_key() {
            return Err("a list or mapping as a key is not supported".to_string());
        }
        let id = self.builder.open(kind)?;
        let object = kind == Kind::Object;
        self.open.push(Open { id, object, anchor, children: 0, value_next: false, merges: false });
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(mut open) = self.open.pop() else { return Ok(()) };
        if open.merges {
            open.children += self.merge(open.id, open.children)?;
        }
        self.builder.close(open.id, open.children);
        self.remember(open.anchor, open.id);
        self.count(false);
        Ok(())
    }

    /// Carries out `<<`: members of the named mappings join, where the mapping has no such key itself. They are
    /// shared, not copied, and each counts as a node, so that merging cannot outgrow the cap either.
    fn merge(&mut self, object: Id, children: u32) -> Result<u32, String> {
        let doc = self.builder.doc();
        let mut at = object + 1;
        let (mut names, mut sources, mut hidden) = (HashSet::new(), Vec::new(), Vec::new());
        for _ in 0..children {
            let (key, value) = (at, at + 1);
            match doc.key_at(key) {
                Some("<<") if doc.is_object(value) => sources.push(doc.real(value)),
                Some("<<") if doc.kind(value) == Kind::Array => {
                    sources.extend(doc.items(value).filter(|v| doc.is_object(*v)).map(|v| doc.real(v)));
                }
                name => {
                    names.extend(name.map(str::to_string));
                    at = doc.after(value);
                    continue;
                }
            }
            hidden.push(key);
            at = doc.after(value);
        }
        let mut added = Vec::new();
        for source in sources {
            self.merged += doc.len(source) + 1;
            if self.merged > MAX_MERGED {
                return Err(format!("merge keys (`<<`) unfold to more than {MAX_MERGED} members"));
            }
            for (name, value) in doc.members(source) {
                if names.insert(name.to_string()) {
                    added.push((value - 1, value));
                }
            }
        }
        for key in hidden {
            self.builder.hide_key(key);
        }
        for (key, value) in &added {
            self.builder.share_member(*key, *value)?;
        }
        Ok(added.len() as u32)
    }
}

fn scalar_kind(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Kind {
    match tag.and_then(|t| t.core_suffix()) {
        Some("str") => return Kind::String,
        Some("null") => return Kind::Null,
        _ if style != ScalarStyle::Plain => return Kind::String,
        _ => {}
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "true" | "True" | "TRUE" => Kind::True,
        "false" | "False" | "FALSE" => Kind::False,
        _ if is_number(text) => Kind::Number,
        _ => Kind::String,
    }
}

/// Decimal integers and floats. Hexadecimal, octal and the infinities stay strings: JSON has no spelling for them.
fn is_number(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && body.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
        && body.bytes().any(|b| b.is_ascii_digit())
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}
