//! Puts steps together: fills their inputs from the text, from earlier steps, by inserted steps, or by asking.

mod finding;
mod wiring;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::planner::{
    catalog::Catalog,
    choose::is_vocabulary,
    clauses::Clause,
    conditions,
    inputs::Inputs,
    lexicon::is_stop_word,
    literals::{Kind, Literal},
    matching::{LIKELY, SURE, as_value, choice, has_template, is_email_slot, literal_fit},
    producers::Scores,
    shape::{self, Place, Slot, is_missing_without},
    sources::{Done, template},
    text::{plain, slug, stem, words},
};

/// Steps that may be put in front of a step to find what it needs, one behind the other.
const MAX_DEPTH: usize = 3;
struct LoopNode {
    id: String,
    source: usize,
    list: Vec<String>,
    items: String,
    steps: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Node {
    Step(usize),
    Loop(usize),
}

/// The plan as it grows, step by step in the order of execution.
pub struct Builder<'a> {
    catalog: &'a Catalog,
    clauses: &'a [Clause],
    scores: Scores,
    pub done: Vec<Done<'a>>,
    loops: Vec<LoopNode>,
    top: Vec<Node>,
    taken: HashSet<usize>,
    pub inputs: Inputs,
    pub warnings: Vec<String>,
    /// Conditions that had to be asked, with the input that holds the answer.
    asked: HashMap<String, String>,
}

/// What is known of a step while its inputs are filled.
struct Draft<'s> {
    clause: usize,
    doc: usize,
    depth: usize,
    id: String,
    title: String,
    /// The thing that a following step wants from this one.
    want: Option<&'s str>,
    scope: Option<usize>,
    filtered: bool,
    /// Steps that it takes values from already.
    wired: Vec<usize>,
}

impl<'a> Builder<'a> {
    pub fn new(catalog: &'a Catalog, clauses: &'a [Clause], message: &str) -> Self {
        let vocabulary = clauses.iter().flat_map(|c| &c.literals);
        let taken =
            vocabulary.filter(|l| l.kind == Kind::Name && is_vocabulary(catalog, &l.text)).map(|l| l.start).collect();
        Self {
            catalog,
            clauses,
            scores: Scores::new(catalog, &[(message, 1.0)]),
            done: Vec::new(),
            loops: Vec::new(),
            top: Vec::new(),
            taken,
            inputs: Inputs::default(),
            warnings: Vec::new(),
            asked: HashMap::new(),
        }
    }

    /// Plans operation `doc` for a clause, with what must come before it. Gives the step's place in `done`.
    pub fn add(&mut self, doc: usize, clause: usize) -> usize {
        self.add_step(doc, clause, 0, None, &mut Vec::new())
    }

    fn add_step(
        &mut self,
        doc: usize,
        clause: usize,
        depth: usize,
        want: Option<&str>,
        stack: &mut Vec<usize>,
    ) -> usize {
        let catalog = self.catalog;
        let operation = catalog.operation(doc);
        let title = plain(&shape::title(operation), 80);
        let id = self.free_id(operation.operation_id.as_deref().unwrap_or(&title));
        let mut draft = Draft { clause, doc, depth, id, title, want, scope: None, filtered: false, wired: Vec::new() };
        stack.push(doc);
        let slots = shape::slots(operation);
        let literals = self.assign_literals(&slots, &mut draft);
        let (mut required, mut met) = (0, 0);
        let mut filled: Vec<(usize, Value)> = Vec::new();
        // Ids and addresses first: whose name a plain `name` means, shows by whom the mail goes to.
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_by_key(|&i| slots[i].identifies().is_none() && !is_email_slot(&slots[i].words(), slots[i].schema));
        for i in order {
            let slot = &slots[i];
            let known = literals.get(&i).cloned().or_else(|| self.known(slot, &mut draft, stack));
            if is_missing_without(slot) {
                required += 1;
                met += usize::from(known.is_some());
                let value = known.unwrap_or_else(|| self.inputs.ask(slot, &draft.id, &draft.title));
                filled.push((i, value));
            } else if let Some(value) = known {
                filled.push((i, value));
            }
        }
        stack.pop();
        let json = self.step_json(&draft, &slots, filled);
        self.push(draft, json, required, met)
    }

    fn free_id(&self, name: &str) -> String {
        let base = slug(name);
        let mut id = base.clone();
        let mut n = 2;
        while self.done.iter().any(|d| d.id == id) || self.loops.iter().any(|l| l.id == id) {
            id = format!("{base}_{n}");
            n += 1;
        }
        id
    }

    /// Literals that no step has taken, of one clause.
    fn free(&self, clause: usize) -> Vec<&'a Literal> {
        self.clauses[clause].literals.iter().filter(|l| !self.taken.contains(&l.start)).collect()
    }

    /// Gives each literal of the clause to the slot it fits best, and each slot at most one.
    fn assign_literals(&mut self, slots: &[Slot<'_>], draft: &mut Draft<'_>) -> HashMap<usize, Value> {
        let free = self.free(draft.clause);
        let mut pairs: Vec<(f32, usize, &Literal)> = Vec::new();
        for (i, slot) in slots.iter().enumerate() {
            let searching = draft.depth > 0 && slot.place == Place::Query;
            let least = if slot.required || searching { LIKELY } else { SURE };
            // What is needed goes before what is nice to have.
            let needed = if slot.required { 0.1 } else { 0.0 };
            let fits = free.iter().map(|l| (literal_fit(slot, l), i, *l)).filter(|p| p.0 >= least);
            pairs.extend(fits.map(|p| (p.0 + needed, p.1, p.2)));
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)).then_with(|| a.2.start.cmp(&b.2.start)));
        let mut out = HashMap::new();
        for (_, i, literal) in pairs {
            if out.contains_key(&i) || self.taken.contains(&literal.start) {
                continue;
            }
            let Some(value) = as_value(slots[i].schema, literal) else { continue };
            self.taken.insert(literal.start);
            draft.filtered |= slots[i].place != Place::Body;
            out.insert(i, value);
        }
        out
    }

    /// A slot's value from anything but the clause's literals; `None`: ask, or leave out what is optional.
    fn known(&mut self, slot: &Slot<'_>, draft: &mut Draft<'_>, stack: &mut Vec<usize>) -> Option<Value> {
        if let Some(value) = self.fixed(slot, draft) {
            return Some(value);
        }
        if let Some(source) = self.source(slot, draft) {
            return self.wire(&source, draft);
        }
        if !is_missing_without(slot) {
            return None;
        }
        if slot.schema.kind == "array"
            && let Some(value) = self.list_of(slot, draft, stack)
        {
            return Some(value);
        }
        if slot.schema.kind == "object" && !slot.schema.properties.is_empty() && slot.place == Place::Body {
            return self.nested(slot, draft, stack);
        }
        self.literal_elsewhere(slot, draft.clause).or_else(|| {
            let source = self.produce(slot, draft, stack)?;
            self.wire(&source, draft)
        })
    }

    /// A choice that the text names, or the only one there is.
    fn fixed(&self, slot: &Slot<'_>, draft: &Draft<'_>) -> Option<Value> {
        let said: Vec<String> = words(&self.clauses[draft.clause].text);
        let said: Vec<String> = said.iter().filter(|w| !is_stop_word(w)).map(|w| stem(w)).collect();
        if slot.required {
            if let Some(value) = draft.want.and_then(|w| choice(slot.schema, &[w.to_owned()])) {
                return Some(value);
            }
            if let [only] = slot.schema.choices.as_slice()
                && !only.as_str().is_some_and(has_template)
            {
                return Some(only.clone());
            }
            return choice(slot.schema, &said);
        }
        // "active customers" filters; "list orders" doesn't ask for `sort=list`.
        let own: Vec<String> = words(&draft.title).iter().map(|w| stem(w)).collect();
        let said: Vec<String> = said.into_iter().filter(|s| !own.contains(s)).collect();
        (slot.place == Place::Query && slot.schema.kind == "string").then(|| choice(slot.schema, &said)).flatten()
    }

    fn warn(&mut self, text: String) {
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    fn step_json(&self, draft: &Draft<'_>, slots: &[Slot<'_>], filled: Vec<(usize, Value)>) -> Value {
        let operation = self.catalog.operation(draft.doc);
        let mut parameters = Map::new();
        let mut body = Map::new();
        for (i, value) in filled {
            let slot = &slots[i];
            let twice = slots.iter().filter(|s| s.name == slot.name).count() > 1;
            // One name in two places can't be told apart in the flat map: the body's goes where it belongs.
            let target = if twice && slot.place == Place::Body { &mut body } else { &mut parameters };
            target.insert(slot.name.to_owned(), value);
        }
        let mut step = Map::new();
        step.insert("id".into(), json!(draft.id));
        step.insert("name".into(), json!(draft.title));
        step.insert("type".into(), json!("api_call"));
        step.insert("connectionId".into(), json!(self.catalog.connection(draft.doc).connection_id));
        if let Some(id) = &operation.operation_id {
            step.insert("operationId".into(), json!(id));
        }
        step.insert("method".into(), json!(operation.method));
        step.insert("endpoint".into(), json!(operation.path));
        step.insert("parameters".into(), Value::Object(parameters));
        if !body.is_empty() {
            step.insert("body".into(), Value::Object(body));
        }
        Value::Object(step)
    }

    fn push(&mut self, draft: Draft<'_>, json: Value, required: usize, met: usize) -> usize {
        let clause = &self.clauses[draft.clause];
        // What only finds something out runs in any case; the condition is for what was asked.
        let guard = clause.guard.clone().filter(|_| draft.depth == 0);
        let json = match &guard {
            None => json,
            Some(guard) => {
                let scope = draft.scope.map(|l| (self.loops[l].source, self.loops[l].list.clone()));
                let expression = conditions::express(guard, &self.done, scope)
                    .unwrap_or_else(|| self.ask_condition(&guard.text, guard.negated));
                let id = self.free_id(&format!("if {}", draft.id));
                json!({"id": id, "name": plain(&format!("If {}", guard.text), 80), "type": "condition", "expression": template(&expression), "then": [json], "else": []})
            }
        };
        let operation = self.catalog.operation(draft.doc);
        let at = self.done.len();
        self.done.push(Done {
            id: draft.id,
            title: draft.title,
            doc: draft.doc,
            operation,
            guard,
            scope: draft.scope,
            filtered: draft.filtered,
            required,
            met,
            json,
        });
        match draft.scope {
            None => self.top.push(Node::Step(at)),
            Some(l) => {
                // Nothing outside a loop uses what is inside, so it may move behind what its steps need.
                self.top.retain(|n| *n != Node::Loop(l));
                self.top.push(Node::Loop(l));
                self.loops[l].steps.push(at);
            }
        }
        at
    }

    /// How many conditions had to be asked.
    pub fn unclear_conditions(&self) -> usize {
        self.asked.len()
    }

    fn ask_condition(&mut self, text: &str, negated: bool) -> String {
        let asked = match self.asked.get(text) {
            Some(known) => known.clone(),
            None => {
                let input = self.inputs.confirm(text);
                let shown = plain(text, 120);
                self.warn(format!(
                    "The condition \"{shown}\" was not understood from the data: the run asks whether it holds."
                ));
                self.asked.insert(text.to_owned(), input.clone());
                input
            }
        };
        if negated { format!("not {asked}") } else { asked }
    }

    /// The steps in order of execution, as the HTTP API writes them.
    pub fn steps(&self) -> Vec<Value> {
        self.top
            .iter()
            .map(|node| match node {
                Node::Step(at) => self.done[*at].json.clone(),
                Node::Loop(l) => {
                    let node = &self.loops[*l];
                    let inner: Vec<Value> = node.steps.iter().map(|s| self.done[*s].json.clone()).collect();
                    let name = format!("For {}", node.id.replace('_', " "));
                    json!({"id": node.id, "name": name, "type": "loop", "items": template(&node.items), "as": "item", "steps": inner})
                }
            })
            .collect()
    }

    /// Literals of the text that no step uses: a value that was said and would be lost.
    pub fn unused(&self) -> Vec<&'a Literal> {
        let all = self.clauses.iter().flat_map(|c| &c.literals);
        all.filter(|l| !self.taken.contains(&l.start) && l.kind != Kind::Ordinal).collect()
    }
}
