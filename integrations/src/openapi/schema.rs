//! A JSON Schema in short: merged, resolved to a bounded depth and size, safe against circles.
//!
//! `allOf` and `$ref` (with whatever stands beside it) are merged; of `oneOf` and `anyOf` the properties are united,
//! none of them required. Each schema has a node budget that is shared out fairly among its properties, so a big first
//! property cannot hide the others.

use domain::operation::{Property, Schema};

use super::context::{Context, MAX_NAME, SHORT};
use super::refs::{Target, name_of};
use super::tape::{Id, Kind};

/// How much of a schema is kept.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Levels of properties.
    pub levels: usize,
    /// Schemas below the top one.
    pub nodes: usize,
}

/// Request bodies and success responses: what steps are wired by.
pub const FULL: Size = Size { levels: 4, nodes: 150 };
/// Error responses, of which a document has many alike, and parameters.
pub const BRIEF: Size = Size { levels: 2, nodes: 24 };

/// Schemas looked at for one summary, alternatives of one schema, and the longest chain of references within it.
const MAX_PARTS: usize = 3_000;
const MAX_ALTERNATIVES: usize = 200;
const MAX_CHAIN: usize = 32;
const MAX_CHOICES: usize = 100;
const MAX_REQUIRED: usize = 1_000;
/// Nodes of an example or default that is kept.
const EXAMPLE_NODES: usize = 40;

/// The schema at `id` in short.
pub fn summarise(ctx: &Context<'_, '_>, id: Id, size: Size) -> Schema {
    let size = if ctx.scarce() { Size { levels: 0, nodes: 0 } } else { size };
    let mut summariser = Summariser { ctx, size, parts_left: MAX_PARTS, open: Vec::new() };
    summariser.build(id, 0, size.nodes).schema
}

/// A value as JSON where it is small enough.
fn small_value(ctx: &Context<'_, '_>, id: Id) -> Option<serde_json::Value> {
    let mut budget = EXAMPLE_NODES;
    let value = ctx.doc.value(id, &mut budget)?;
    ctx.charge((EXAMPLE_NODES - budget) * 64);
    Some(value)
}

/// An example or default small enough to show; `null` says nothing.
pub fn example_value(ctx: &Context<'_, '_>, id: Id) -> Option<serde_json::Value> {
    small_value(ctx, id).filter(|v| !v.is_null())
}

/// The keywords of one schema object that we read.
#[derive(Default, Clone, Copy)]
struct Keywords {
    reference: Option<Id>,
    kind: Option<Id>,
    format: Option<Id>,
    description: Option<Id>,
    properties: Option<Id>,
    required: Option<Id>,
    items: Option<Id>,
    choices: Option<Id>,
    constant: Option<Id>,
    example: Option<Id>,
    examples: Option<Id>,
    default: Option<Id>,
    nullable: Option<Id>,
    read_only: Option<Id>,
    all_of: Option<Id>,
    any_of: Option<Id>,
    one_of: Option<Id>,
}

/// What the merged schemas say together. The outermost word on a matter counts.
#[derive(Default)]
struct Merged<'d> {
    kind: Option<&'d str>,
    /// Alternatives of different types: `kind` stays open.
    mixed: bool,
    format: Option<&'d str>,
    name: Option<String>,
    description: Option<&'d str>,
    properties: Vec<Member<'d>>,
    required: Vec<&'d str>,
    items: Option<Id>,
    choices: Option<Id>,
    constant: Option<Id>,
    example: Option<Id>,
    default: Option<Id>,
    nullable: bool,
    read_only: bool,
    truncated: bool,
    /// Schemas that are in here already.
    seen: Vec<Id>,
}

struct Member<'d> {
    name: &'d str,
    id: Id,
    /// Only some alternatives have it.
    optional: bool,
}

struct Built {
    schema: Schema,
    read_only: bool,
    nodes: usize,
}

struct Summariser<'c, 'd, 'a> {
    ctx: &'c Context<'d, 'a>,
    size: Size,
    parts_left: usize,
    /// Schemas being built, outermost first: meeting one again is a circle.
    open: Vec<Id>,
}

impl<'d> Summariser<'_, 'd, '_> {
    fn build(&mut self, id: Id, level: usize, budget: usize) -> Built {
        let mut merged = Merged::default();
        self.merge(id, &mut merged, true, false, 0);
        self.ctx.charge(400);
        let depth = self.open.len();
        self.open.append(&mut merged.seen);
        let mut schema = self.head(&merged, level);
        let mut left = budget;
        if let Some(items) = merged.items {
            match left.checked_sub(1) {
                Some(rest) => {
                    let built = self.build(items, level, rest);
                    left = rest - built.nodes.min(rest);
                    schema.items = Some(Box::new(built.schema));
                }
                None => schema.truncated = true,
            }
        }
        let room = if level < self.size.levels { merged.properties.len().min(left) } else { 0 };
        schema.truncated |= room < merged.properties.len();
        schema.properties.reserve_exact(room);
        left -= room;
        for (i, member) in merged.properties.iter().take(room).enumerate() {
            let built = self.build(member.id, level + 1, left / (room - i));
            left -= built.nodes.min(left);
            let required = !member.optional && merged.required.contains(&member.name);
            let name = self.ctx.keep(member.name, MAX_NAME);
            schema.properties.push(Property { name, required, read_only: built.read_only, schema: built.schema });
        }
        self.open.truncate(depth);
        Built { schema, read_only: merged.read_only, nodes: budget - left }
    }

    /// Everything but properties and items.
    fn head(&self, merged: &Merged<'d>, level: usize) -> Schema {
        let ctx = self.ctx;
        let kind = match merged.kind {
            Some(kind) => kind,
            None if merged.mixed => "",
            None if !merged.properties.is_empty() => "object",
            None if merged.items.is_some() => "array",
            None => "",
        };
        let mut schema = Schema {
            kind: ctx.keep(kind, 20),
            format: merged.format.map(|f| ctx.keep(f, 60)),
            name: merged.name.as_deref().map(|n| ctx.keep(n, MAX_NAME)),
            description: merged.description.map(str::trim).filter(|d| !d.is_empty()).map(|d| ctx.keep(d, SHORT)),
            nullable: merged.nullable,
            truncated: merged.truncated,
            ..Schema::default()
        };
        // 2.0 had a type of its own for uploads and downloads.
        if schema.kind == "file" {
            schema.kind = "string".to_string();
            schema.format = Some("binary".to_string());
        }
        if let Some(choices) = merged.choices {
            schema.truncated |= ctx.doc.len(choices) > MAX_CHOICES;
            let values = ctx.doc.items(choices).take(MAX_CHOICES).filter_map(|v| small_value(ctx, v));
            schema.choices = values.collect();
        } else if let Some(constant) = merged.constant {
            schema.choices = small_value(ctx, constant).into_iter().collect();
        }
        // Below the top, examples of objects repeat what their properties say.
        let shown = |v: &Id| level == 0 || !matches!(ctx.doc.kind(*v), Kind::Object | Kind::Array);
        schema.example = merged.example.filter(shown).and_then(|v| example_value(ctx, v));
        schema.default_value = merged.default.and_then(|v| example_value(ctx, v));
        schema
    }

    /// Adds the schema at `id`. `naming`: a `$ref` here is the schema's own name; `optional`: it is one of several
    /// alternatives.
    fn merge(&mut self, id: Id, into: &mut Merged<'d>, naming: bool, optional: bool, chain: usize) {
        let id = self.ctx.doc.real(id);
        self.ctx.charge(16 + into.seen.len());
        if self.parts_left == 0 || chain > MAX_CHAIN || self.ctx.exhausted() || self.open.contains(&id) {
            into.truncated = true;
            return;
        }
        self.parts_left -= 1;
        if into.seen.contains(&id) {
            return;
        }
        self.ctx.charge(2 * self.ctx.doc.len(id));
        into.seen.push(id);
        let words = self.keywords(id);
        self.merge_scalars(&words, into, optional);
        let reference = words.reference.and_then(|at| Some((at, self.ctx.doc.string(at)?)));
        if let Some((at, text)) = reference {
            if naming && into.name.is_none() {
                into.name = Some(name_of(text).into_owned());
            }
            match self.ctx.refs.resolve(at, text) {
                Target::Found(target) => self.merge(target, into, naming, optional, chain + 1),
                Target::External | Target::Dangling => into.truncated = true,
            }
        }
        if let Some(all) = words.all_of {
            let alone = self.ctx.doc.len(all) == 1;
            for part in self.ctx.doc.items(all) {
                self.merge(part, into, naming && alone, optional, chain + 1);
            }
        }
        self.merge_properties(&words, into, optional);
        for alternatives in [words.one_of, words.any_of].into_iter().flatten() {
            self.merge_alternatives(alternatives, into, naming, optional, chain);
        }
    }

    fn merge_scalars(&self, words: &Keywords, into: &mut Merged<'d>, optional: bool) {
        let doc = self.ctx.doc;
        if let Some(kind) = words.kind {
            let (kinds, null) = self.kinds(kind);
            into.nullable |= null && !kinds.is_empty();
            match kinds[..] {
                [] if null => into.kind = into.kind.or(Some("null")),
                [one] => into.kind = into.kind.or(Some(one)),
                [] => {}
                _ => into.mixed |= into.kind.is_none(),
            }
        }
        into.items = into.items.or(words.items.filter(|v| doc.is_object(*v)));
        into.nullable |= words.nullable.and_then(|v| doc.boolean(v)).unwrap_or(false);
        if optional {
            // What one alternative restricts or describes does not hold for the others.
            return;
        }
        let first_example = || words.examples.and_then(|v| doc.items(v).next());
        into.format = into.format.or(words.format.and_then(|v| doc.string(v)));
        into.description = into.description.or(words.description.and_then(|v| doc.string(v)));
        into.choices = into.choices.or(words.choices.filter(|v| doc.kind(*v) == Kind::Array));
        into.constant = into.constant.or(words.constant);
        into.example = into.example.or(words.example).or_else(first_example);
        into.default = into.default.or(words.default);
        into.read_only |= words.read_only.and_then(|v| doc.boolean(v)).unwrap_or(false);
    }

    /// The types without `null`, and whether it is among them.
    fn kinds(&self, id: Id) -> (Vec<&'d str>, bool) {
        let doc = self.ctx.doc;
        let all: Vec<&'d str> = match doc.string(id) {
            Some(one) => vec![one],
            None => doc.items(id).take(8).filter_map(|v| doc.string(v)).collect(),
        };
        let null = all.contains(&"null");
        (all.into_iter().filter(|k| *k != "null").collect(), null)
    }

    fn merge_properties(&self, words: &Keywords, into: &mut Merged<'d>, optional: bool) {
        let doc = self.ctx.doc;
        if let Some(required) = words.required.filter(|_| !optional) {
            let room = MAX_REQUIRED.saturating_sub(into.required.len());
            into.required.extend(doc.items(required).filter_map(|v| doc.string(v)).take(room));
        }
        let Some(properties) = words.properties.and_then(|at| self.ctx.refs.follow(at)) else { return };
        let inherited = into.properties.len();
        for (name, id) in doc.members(properties) {
            if let Some(member) = into.properties[..inherited].iter_mut().find(|m| m.name == name) {
                member.optional &= optional;
                if !optional {
                    member.id = id;
                }
            } else if into.properties.len() >= self.size.nodes.max(1) || name.len() > MAX_NAME {
                into.truncated = true;
                if into.properties.len() >= self.size.nodes.max(1) {
                    break;
                }
            } else {
                into.properties.push(Member { name, id, optional });
            }
        }
    }

    /// `oneOf`/`anyOf`. A single alternative beside `null` is how 3.1 says nullable: it counts like `allOf`.
    fn merge_alternatives(&mut self, list: Id, into: &mut Merged<'d>, naming: bool, optional: bool, chain: usize) {
        let doc = self.ctx.doc;
        let is_null = |v: &Id| {
            let kind = doc.get(*v, "type").and_then(|t| doc.string(t));
            kind == Some("null")
        };
        let all: Vec<Id> = doc.items(list).take(MAX_ALTERNATIVES).collect();
        into.truncated |= doc.len(list) > all.len();
        self.ctx.charge(16 * all.len());
        let rest: Vec<Id> = all.iter().copied().filter(|v| !is_null(v)).collect();
        into.nullable |= rest.len() < all.len();
        if let [only] = rest[..] {
            return self.merge(only, into, naming, optional, chain + 1);
        }
        let outer = into.kind;
        let mut kinds = Vec::new();
        for alternative in rest {
            into.kind = None;
            self.merge(alternative, into, false, true, chain + 1);
            kinds.push(into.kind.or_else(|| self.implied_kind(alternative)));
        }
        into.kind = match kinds.split_first() {
            _ if outer.is_some() => outer,
            Some((first, others)) if others.iter().all(|k| k == first) => *first,
            _ => None,
        };
        into.mixed |= into.kind.is_none() && !kinds.is_empty();
    }

    /// An alternative that only lists properties is an object all the same.
    fn implied_kind(&self, id: Id) -> Option<&'d str> {
        let id = self.ctx.refs.follow(id)?;
        if self.ctx.doc.get(id, "properties").is_some() || self.ctx.doc.get(id, "required").is_some() {
            return Some("object");
        }
        let kind = self.ctx.doc.get(id, "type")?;
        match self.kinds(kind).0[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    fn keywords(&self, id: Id) -> Keywords {
        let mut words = Keywords::default();
        for (key, value) in self.ctx.doc.members(id) {
            let slot = match key {
                "$ref" => &mut words.reference,
                "type" => &mut words.kind,
                "format" => &mut words.format,
                "description" => &mut words.description,
                "properties" => &mut words.properties,
                "required" => &mut words.required,
                "items" => &mut words.items,
                "enum" => &mut words.choices,
                "const" => &mut words.constant,
                "example" | "x-example" => &mut words.example,
                "examples" => &mut words.examples,
                "default" => &mut words.default,
                "nullable" | "x-nullable" => &mut words.nullable,
                "readOnly" => &mut words.read_only,
                "allOf" => &mut words.all_of,
                "anyOf" => &mut words.any_of,
                "oneOf" => &mut words.one_of,
                _ => continue,
            };
            *slot = Some(value);
        }
        words
    }
}
