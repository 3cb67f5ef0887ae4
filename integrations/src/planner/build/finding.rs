//! Finding what nobody typed: values from elsewhere in the request, and steps put in front to look ids up.

use serde_json::Value;

use super::{Builder, Draft, MAX_DEPTH};
use crate::planner::{
    literals::{Kind, Literal},
    matching::{LIKELY, SURE, as_value, choice, literal_fit},
    producers,
    shape::{self, Slot, is_missing_without},
    sources::{self, Source, writable},
    text::{stem, words},
};

/// Producers that are tried for one input.
const MAX_TRIES: usize = 6;

/// The slot as one that a bare `id` or `ids` of this thing fills.
fn of_thing<'s>(slot: &Slot<'s>, thing: &str) -> Slot<'s> {
    Slot { before: vec![thing.to_owned()], ..slot.clone() }
}

impl Builder<'_> {
    /// Addresses and ids are unmistakable: they may come from another part of the request, used there or not.
    pub(super) fn literal_elsewhere(&self, slot: &Slot<'_>, clause: usize) -> Option<Value> {
        let sure = |l: &&Literal| {
            let fit = literal_fit(slot, l);
            match l.kind {
                Kind::Email | Kind::Url => fit >= SURE,
                Kind::Id | Kind::Number => fit >= 0.95,
                _ => false,
            }
        };
        let others = self.clauses.iter().enumerate().filter(|(i, _)| *i != clause).flat_map(|(_, c)| &c.literals);
        others.filter(sure).find_map(|l| as_value(slot.schema, l))
    }

    /// Plans a step that finds what the slot needs, if the text gives it anything to find it by.
    pub(super) fn produce(&mut self, slot: &Slot<'_>, draft: &Draft<'_>, stack: &mut Vec<usize>) -> Option<Source> {
        if draft.depth >= MAX_DEPTH {
            return None;
        }
        let (doc, thing) = self.producer(slot, draft.doc, draft.clause, draft.depth, stack)?;
        let step = self.add_step(doc, draft.clause, draft.depth + 1, Some(&thing), stack);
        let guard = self.clauses[draft.clause].guard.as_ref();
        let only = std::iter::once((step, &self.done[step]));
        let slot = &of_thing(slot, &thing);
        sources::find(self.catalog, only, slot, draft.doc, guard, &draft.wired)
            .filter(|s| s.score >= LIKELY && writable(&s.path))
    }

    /// Stems of the things whose values may fill a slot; `None` when nothing may be looked up for it.
    fn things(&self, slot: &Slot<'_>, doc: usize, clause: usize) -> Option<Vec<String>> {
        let clause = &self.clauses[clause];
        let spoken = |text: &str| -> Vec<String> { words(text).iter().map(|w| stem(w)).collect() };
        match slot.identifies() {
            Some(thing) if !self.catalog.producers(&thing).is_empty() => Some(vec![thing]),
            // A bare `ids`: of what, the operation's title tells ("Follow artists").
            Some(_) if slot.words().len() == 1 => Some(spoken(&shape::title(self.catalog.operation(doc)))),
            Some(_) => None,
            // "mail all customers": the address comes with the things that the clause names.
            None if clause.each => Some(spoken(&clause.text)),
            None => None,
        }
    }

    fn producer(
        &self,
        slot: &Slot<'_>,
        doc: usize,
        clause: usize,
        depth: usize,
        stack: &[usize],
    ) -> Option<(usize, String)> {
        let picks = producers::picks_from_list(&self.clauses[clause]);
        let things = self.things(slot, doc, clause)?;
        let free = self.free(clause);
        let mut best: Option<(usize, String, f32)> = None;
        for thing in things {
            let slot = &of_thing(slot, &thing);
            for (producer, points) in
                producers::rank(self.catalog, &thing, doc, &free, &self.scores).into_iter().take(MAX_TRIES)
            {
                let better = best.as_ref().is_none_or(|b| points > b.2);
                if !better
                    || stack.contains(&producer)
                    || sources::yields(self.catalog, self.catalog.operation(producer), slot, doc) < LIKELY
                {
                    continue;
                }
                let mut seen = stack.to_vec();
                seen.push(producer);
                if let Some(grounded) = self.reach(producer, clause, depth + 1, &mut seen)
                    && (grounded || picks)
                {
                    best = Some((producer, thing.clone(), points));
                }
            }
        }
        best.map(|(producer, thing, _)| (producer, thing))
    }

    /// Whether an operation can run without asking; `Some(true)` when a value of the text is what makes it so.
    fn reach(&self, doc: usize, clause: usize, depth: usize, seen: &mut Vec<usize>) -> Option<bool> {
        let operation = self.catalog.operation(doc);
        let slots = shape::slots(operation);
        let free = self.free(clause);
        let said: Vec<String> = words(&self.clauses[clause].text).iter().map(|w| stem(w)).collect();
        let mut grounded = producers::searchable(&slots, &free) >= LIKELY;
        for slot in slots.iter().filter(|s| is_missing_without(s)) {
            if free.iter().any(|l| literal_fit(slot, l) >= LIKELY) {
                grounded = true;
                continue;
            }
            let listed =
                !slot.schema.choices.is_empty() || slot.schema.items.as_ref().is_some_and(|i| !i.choices.is_empty());
            let guard = self.clauses[clause].guard.as_ref();
            let wired = sources::find(self.catalog, self.done.iter().enumerate(), slot, doc, guard, &[])
                .is_some_and(|s| s.score >= LIKELY);
            if (listed && (choice(slot.schema, &said).is_some() || slot.schema.kind == "array")) || wired {
                continue;
            }
            let thing = slot.identifies()?;
            if depth >= MAX_DEPTH {
                return None;
            }
            let behind = producers::rank(self.catalog, &thing, doc, &free, &self.scores)
                .into_iter()
                .take(MAX_TRIES)
                .find_map(|(p, _)| {
                    if seen.contains(&p) || sources::yields(self.catalog, self.catalog.operation(p), slot, doc) < LIKELY
                    {
                        return None;
                    }
                    seen.push(p);
                    let found = self.reach(p, clause, depth + 1, seen);
                    seen.pop();
                    found
                });
            grounded |= behind?;
        }
        Some(grounded)
    }
}
