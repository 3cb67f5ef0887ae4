//! Expressions over earlier steps: which value, by which path, of one item or of each.

use serde_json::{Map, Value};

use super::{Builder, Draft, LoopNode};
use crate::planner::{
    inputs::singular,
    literals::{Kind, Literal},
    matching::LIKELY,
    shape::{self, Place, Slot, is_missing_without},
    sources::{self, Source, dotted, template, writable},
    text::words,
};

impl Builder<'_> {
    pub(super) fn source(&self, slot: &Slot<'_>, draft: &Draft<'_>) -> Option<Source> {
        let guard = self.clauses[draft.clause].guard.as_ref();
        let source = sources::find(self.catalog, self.done.iter().enumerate(), slot, draft.doc, guard, &draft.wired)?;
        let operation = self.catalog.operation(draft.doc);
        let least = if slot.required {
            LIKELY
        } else if slot.place == Place::Body && !operation.is_safe() {
            // Writing a thing's own values back to it changes nothing: leave them out.
            let same =
                shape::entity(self.done[source.step].operation).iter().any(|e| shape::entity(operation).contains(e));
            if same { f32::INFINITY } else { 0.7 }
        } else if slot.identifies().is_some() {
            0.9
        } else {
            f32::INFINITY
        };
        (source.score >= least && writable(&source.path)).then_some(source)
    }

    /// The expression for a source; a list's items are looped over or the first is taken, as the clause says.
    pub(super) fn wire(&mut self, source: &Source, draft: &mut Draft<'_>) -> Option<Value> {
        let expression = self.expression(source, draft)?;
        draft.wired.push(source.step);
        Some(template(&expression))
    }

    fn expression(&mut self, source: &Source, draft: &mut Draft<'_>) -> Option<String> {
        let step = &self.done[source.step];
        let (id, scope) = (step.id.clone(), step.scope);
        let base = format!("steps.{id}.output");
        let Some(list) = &source.list else {
            self.join(scope, draft)?;
            return Some(dotted(&base, &source.path));
        };
        let existing = self.loops.iter().position(|l| l.source == source.step && l.list == *list);
        let each = self.clauses[draft.clause].each;
        if (each || existing.is_some()) && scope.is_none() && (draft.scope.is_none() || draft.scope == existing) {
            draft.scope = Some(existing.unwrap_or_else(|| self.open_loop(source.step, list)));
            return Some(dotted("item", &source.path));
        }
        self.join(scope, draft)?;
        let at = self.position(source.step, draft.clause);
        if each {
            self.warn(format!("Only one item of what \"{id}\" gives is used: loops in loops are not planned."));
        } else if at == 0 && !self.done[source.step].filtered {
            self.warn(format!("The first item of what \"{id}\" gives is taken."));
        }
        Some(dotted(&format!("{}[{at}]", dotted(&base, list)), &source.path))
    }

    /// A step that uses what a loop's step gives runs in that loop.
    fn join(&self, scope: Option<usize>, draft: &mut Draft<'_>) -> Option<()> {
        match (scope, draft.scope) {
            (None, _) => Some(()),
            (Some(a), Some(b)) => (a == b).then_some(()),
            (Some(a), None) => {
                draft.scope = Some(a);
                Some(())
            }
        }
    }

    /// "my second playlist": which item of a list is meant.
    fn position(&self, step: usize, clause: usize) -> usize {
        let owners: Vec<String> = shape::lists(self.done[step].operation).into_iter().flat_map(|l| l.owners).collect();
        let ordinal = |l: &&Literal| l.kind == Kind::Ordinal && l.after.iter().take(2).any(|w| owners.contains(w));
        let found = self.clauses[clause].literals.iter().find(ordinal);
        found.and_then(|l| l.text.parse::<usize>().ok()).map_or(0, |n| n.saturating_sub(1))
    }

    fn open_loop(&mut self, source: usize, list: &[String]) -> usize {
        let entity = list.last().cloned().or_else(|| shape::path_words(&self.done[source].operation.path).pop()?.pop());
        let id = self.free_id(&format!("each {}", singular(&words(&entity.unwrap_or_default()).join(" "))));
        let items = dotted(&format!("steps.{}.output", self.done[source].id), list);
        self.loops.push(LoopNode { id, source, list: list.to_vec(), items, steps: Vec::new() });
        self.loops.len() - 1
    }

    /// A list input from single values: all of a list's when the clause says so, else one.
    pub(super) fn list_of(&mut self, slot: &Slot<'_>, draft: &mut Draft<'_>, stack: &mut Vec<usize>) -> Option<Value> {
        let items = slot.schema.items.as_deref().filter(|i| i.properties.is_empty() && i.kind != "array")?;
        let name = slot.name.strip_suffix('s').filter(|n| n.len() > 1).unwrap_or(slot.name);
        let one = Slot { name, schema: items, ..slot.clone() };
        let source = self.source(&one, draft).or_else(|| self.produce(&one, draft, stack))?;
        let step = &self.done[source.step];
        if let (Some(list), true, None, [property]) =
            (&source.list, self.clauses[draft.clause].each, step.scope, source.path.as_slice())
        {
            let base = dotted(&format!("steps.{}.output", step.id), list);
            return Some(template(&format!("{base}|map(attribute={})|list", Value::String(property.clone()))));
        }
        self.wire(&source, draft).map(|v| Value::Array(vec![v]))
    }

    /// A required object: its required properties, and what else is known of it.
    pub(super) fn nested(&mut self, slot: &Slot<'_>, draft: &mut Draft<'_>, stack: &mut Vec<usize>) -> Option<Value> {
        let mut out = Map::new();
        let owner: Vec<String> = words(slot.name);
        let inner: Vec<Slot<'_>> = slot
            .schema
            .properties
            .iter()
            .filter(|p| !p.read_only)
            .map(|p| Slot {
                name: &p.name,
                place: Place::Body,
                required: p.required,
                schema: &p.schema,
                description: p.schema.description.as_deref(),
                before: owner.clone(),
            })
            .collect();
        let literals = self.assign_literals(&inner, draft);
        for (i, slot) in inner.iter().enumerate() {
            let deep = slot.schema.kind == "object";
            let known = literals.get(&i).cloned().or_else(|| if deep { None } else { self.known(slot, draft, stack) });
            let value =
                known.or_else(|| is_missing_without(slot).then(|| self.inputs.ask(slot, &draft.id, &draft.title)));
            if let Some(value) = value {
                out.insert(slot.name.to_owned(), value);
            }
        }
        (!out.is_empty()).then_some(Value::Object(out))
    }
}
