//! The gate between a model's answer and a plan: known tools, known arguments, references that resolve, no secrets.
//! All faults are found at once, so that one repair can mend them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{
    answer::{Answer, RawStep},
    tools::Tool,
};
use crate::planner::{
    catalog::Catalog,
    inputs::Inputs,
    shape,
    sources::template,
    text::{plain, slug},
};

/// A sound plan. `used`: tools in order; `arguments`/`asked`: how many there are, and how many the run must give.
pub struct Checked {
    pub name: Option<String>,
    pub steps: Vec<Value>,
    pub inputs: Inputs,
    pub used: Vec<usize>,
    pub arguments: usize,
    pub asked: usize,
}

impl Checked {
    pub fn explanation(&self, catalog: &Catalog, tools: &[Tool<'_>]) -> String {
        let line = |(i, &t): (usize, &usize)| {
            let tool = &tools[t];
            let writes = if tool.operation.is_safe() { "" } else { ", writes" };
            let connection = plain(&catalog.connection(tool.doc).name, 60);
            let title = plain(&shape::title(tool.operation), 80);
            format!("{}. {title} ({} {} on {connection}{writes})", i + 1, tool.operation.method, tool.operation.path)
        };
        self.used.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
    }
}

struct Checker<'t, 'a> {
    tools: &'t [Tool<'a>],
    faults: Vec<String>,
    /// The model's step ids that may be referred to from here on, with our own.
    ids: HashMap<String, String>,
    taken: Vec<String>,
    loops: usize,
    out: Checked,
}

/// # Errors
/// Every fault of the answer, one sentence each.
pub fn check(answer: &Answer, tools: &[Tool<'_>]) -> Result<Checked, Vec<String>> {
    let out = Checked {
        name: answer.name.clone().filter(|n| !n.is_empty()),
        steps: Vec::new(),
        inputs: Inputs::default(),
        used: Vec::new(),
        arguments: 0,
        asked: 0,
    };
    let mut checker = Checker { tools, faults: Vec::new(), ids: HashMap::new(), taken: Vec::new(), loops: 0, out };
    let steps = checker.steps(&answer.steps);
    if checker.out.used.is_empty() && checker.faults.is_empty() {
        checker.faults.push("the plan calls no tool".to_owned());
    }
    if checker.faults.is_empty() { Ok(Checked { steps, ..checker.out }) } else { Err(checker.faults) }
}

impl Checker<'_, '_> {
    fn steps(&mut self, steps: &[RawStep]) -> Vec<Value> {
        steps.iter().filter_map(|s| self.step(s)).collect()
    }

    fn step(&mut self, step: &RawStep) -> Option<Value> {
        match step {
            RawStep::Call { id, tool, arguments } => self.call(id, tool, arguments),
            RawStep::Condition { id, expression, then, otherwise } => {
                let expression = self.expression(expression, "the condition's expression");
                let own = self.name(id, "condition");
                let before = self.ids.clone();
                let then = self.steps(then);
                // What one branch gives doesn't exist in the other one, nor for certain behind both.
                self.ids = before.clone();
                let otherwise = self.steps(otherwise);
                self.ids = before;
                Some(
                    json!({"id": own, "name": "Condition", "type": "condition", "expression": expression, "then": then, "else": otherwise}),
                )
            }
            RawStep::Loop { id, items, steps } => {
                let items = self.expression(items, "the loop's items");
                let own = self.name(id, "loop");
                let before = self.ids.clone();
                self.loops += 1;
                let steps = self.steps(steps);
                self.loops -= 1;
                let inside = std::mem::replace(&mut self.ids, before);
                // Behind the loop its steps are lists: they may be named.
                self.ids.extend(inside);
                Some(json!({"id": own, "name": "Loop", "type": "loop", "items": items, "as": "item", "steps": steps}))
            }
            RawStep::Transform { id, output } => {
                let output = self.values(output, None);
                let own = self.name(id, "transform");
                Some(json!({"id": own, "name": "Transform", "type": "transform", "output": output}))
            }
        }
    }

    fn call(&mut self, id: &str, name: &str, arguments: &Map<String, Value>) -> Option<Value> {
        let at = match find(self.tools, name) {
            Ok(at) => at,
            Err(fault) => {
                self.faults.push(fault);
                return None;
            }
        };
        let tools = self.tools;
        let tool = &tools[at];
        for argument in arguments.keys().filter(|a| tool.slot(a).is_none()) {
            let known: Vec<&str> = tool.slots.iter().map(|s| s.name).take(30).collect();
            let argument = plain(argument, 60);
            self.faults.push(format!("{} has no argument \"{argument}\"; it has: {}", tool.name, known.join(", ")));
        }
        for slot in tool.slots.iter().filter(|s| shape::is_missing_without(s) && !arguments.contains_key(s.name)) {
            self.faults.push(format!("{} lacks the argument \"{}\"", tool.name, plain(slot.name, 60)));
        }
        self.out.arguments += arguments.len();
        let values = self.values(arguments, Some(tool));
        self.out.used.push(at);
        let title = plain(&shape::title(tool.operation), 80);
        let own = self.name(id, tool.operation.operation_id.as_deref().unwrap_or(&title));
        let mut step = json!({
            "id": own, "name": title, "type": "api_call", "connectionId": tool.connection_id,
            "method": tool.operation.method, "endpoint": tool.operation.path, "parameters": values,
        });
        if let Some(operation_id) = &tool.operation.operation_id {
            step["operationId"] = json!(operation_id);
        }
        Some(step)
    }

    /// Our id for a step; from here on the model's own name for it may be used.
    fn name(&mut self, theirs: &str, wish: &str) -> String {
        let base = slug(wish);
        let mut own = base.clone();
        let mut n = 2;
        while self.taken.contains(&own) {
            own = format!("{base}_{n}");
            n += 1;
        }
        self.taken.push(own.clone());
        let theirs = if theirs.is_empty() { own.clone() } else { theirs.to_owned() };
        if self.ids.insert(theirs.clone(), own.clone()).is_some() {
            self.faults.push(format!("two steps have the id \"{}\"", plain(&theirs, 40)));
        }
        own
    }

    fn values(&mut self, values: &Map<String, Value>, tool: Option<&Tool<'_>>) -> Map<String, Value> {
        values.iter().map(|(name, value)| (name.clone(), self.value(value, name, tool, 0))).collect()
    }

    fn value(&mut self, value: &Value, name: &str, tool: Option<&Tool<'_>>, depth: usize) -> Value {
        match value {
            Value::String(text) => {
                let slot = tool.filter(|_| depth == 0).and_then(|t| t.slot(name));
                let (text, inputs) = self.text(text, name);
                for input in &inputs {
                    let title = tool.map(|t| shape::title(t.operation)).unwrap_or_else(|| "the workflow".to_owned());
                    // The slot's schema is the input's only when the value is the input and nothing else.
                    let alone = text == format!("{{{{ input.{input} }}}}");
                    self.out.inputs.declare(input, slot.filter(|_| alone), &title);
                }
                self.out.asked += usize::from(!inputs.is_empty() && depth == 0 && tool.is_some());
                Value::String(text)
            }
            Value::Array(list) => Value::Array(list.iter().map(|v| self.value(v, name, tool, depth + 1)).collect()),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(k, v)| (k.clone(), self.value(v, k, tool, depth + 1))).collect())
            }
            other => other.clone(),
        }
    }

    /// A condition or a loop's list: one template.
    fn expression(&mut self, text: &str, place: &str) -> Value {
        let bare = text.trim();
        let bare = bare.strip_prefix("{{").and_then(|t| t.strip_suffix("}}")).unwrap_or(bare).trim();
        if bare.is_empty() {
            self.faults.push(format!("{place} is missing"));
        }
        let (text, inputs) = self.text(&format!("{{{{ {bare} }}}}"), place);
        for input in inputs {
            self.out.inputs.declare(&input, None, place);
        }
        if bare.contains("{{") { template("false") } else { Value::String(text) }
    }

    /// A text with its templates checked and step ids made ours; and the inputs it names.
    fn text(&mut self, text: &str, place: &str) -> (String, Vec<String>) {
        let mut out = String::new();
        let mut inputs = Vec::new();
        let mut rest = text;
        if text.contains("{%") || text.contains("{#") {
            self.faults.push(format!("\"{}\": only {{{{ … }}}} may be used, no statements", plain(place, 60)));
        }
        while let Some(open) = rest.find("{{") {
            let Some(length) = rest[open..].find("}}") else {
                self.faults.push(format!("\"{}\" holds a template that isn't closed", plain(place, 60)));
                break;
            };
            out.push_str(&rest[..open]);
            let inside = rest[open + 2..open + length].trim();
            out.push_str(&format!("{{{{ {} }}}}", self.references(inside, place, &mut inputs)));
            rest = &rest[open + length + 2..];
        }
        out.push_str(rest);
        (out, inputs)
    }

    /// Checks the names at the roots of an expression and renames steps. Text in quotes is left alone.
    fn references(&mut self, expression: &str, place: &str, inputs: &mut Vec<String>) -> String {
        let mut out = String::new();
        let mut chars = expression.char_indices().peekable();
        let mut quote = None;
        while let Some((at, c)) = chars.next() {
            let inside = quote.is_some();
            if inside && c == '\\' {
                // What a backslash escapes ends no string.
                out.push(c);
                if let Some((_, escaped)) = chars.next() {
                    out.push(escaped);
                }
                continue;
            }
            if Some(c) == quote {
                quote = None;
            } else if !inside && matches!(c, '"' | '\'') {
                quote = Some(c);
            }
            let begins = (c.is_alphabetic() || c == '_') && !inside;
            let member = out.trim_end().ends_with('.');
            if !begins || member || out.ends_with(|p: char| p.is_alphanumeric() || p == '_') {
                out.push(c);
                continue;
            }
            let word = identifier(&expression[at..], false);
            for _ in 1..word.chars().count() {
                chars.next();
            }
            let after = &expression[at + word.len()..];
            let child = after.strip_prefix('.').map(|a| identifier(a, word == "steps")).filter(|c| !c.is_empty());
            out.push_str(&word);
            match (word.as_str(), child) {
                ("steps", Some(step)) => match self.ids.get(&step).cloned() {
                    Some(own) => {
                        out.push('.');
                        out.push_str(&own);
                        for _ in 0..=step.chars().count() {
                            chars.next();
                        }
                    }
                    None => self.faults.push(format!(
                        "\"{}\" refers to step \"{}\", which is no earlier step",
                        plain(place, 60),
                        plain(&step, 40)
                    )),
                },
                ("input", Some(input)) => inputs.push(input),
                ("steps" | "input", None) => {
                    self.faults.push(format!("\"{}\" names no step or input after \"{word}\"", plain(place, 60)))
                }
                ("item" | "loop", _) if self.loops > 0 => {}
                ("item", _) => self.faults.push(format!("\"{}\" uses \"item\" outside a loop", plain(place, 60))),
                (
                    "execution" | "true" | "false" | "none" | "null" | "and" | "or" | "not" | "in" | "is" | "if"
                    | "else",
                    _,
                ) => {}
                // Names of filters and tests stand behind a bar or "is".
                _ if is_filter(&out, &word) => {}
                _ => {
                    self.faults.push(format!("\"{}\" uses the unknown name \"{}\"", plain(place, 60), plain(&word, 40)))
                }
            }
        }
        if quote.is_some() {
            // A "}}" inside a string would end the template for us and not for the interpreter.
            self.faults.push(format!("\"{}\" holds a text that isn't closed inside its template", plain(place, 60)));
        }
        out
    }
}

/// The name at the beginning. Models like dashes in step ids; ours have none, so they are read and replaced.
fn identifier(text: &str, dashes: bool) -> String {
    let part = |c: &char| c.is_alphanumeric() || *c == '_' || (dashes && *c == '-');
    text.chars().take_while(part).collect::<String>().trim_end_matches('-').to_owned()
}

fn is_filter(so_far: &str, word: &str) -> bool {
    let before = so_far.trim_end().strip_suffix(word).unwrap_or(so_far).trim_end();
    let last = before.rsplit(|c: char| c.is_whitespace()).next().unwrap_or_default();
    // `map(attribute="id")`: the argument's name.
    before.ends_with('|') || matches!(last, "is" | "not") || (word == "attribute" && before.ends_with('('))
}

/// The tool of that name; else the only one whose operation has that id, or that method and path.
fn find(tools: &[Tool<'_>], name: &str) -> Result<usize, String> {
    if let Some(at) = tools.iter().position(|t| t.name == name) {
        return Ok(at);
    }
    let means = |tool: &Tool<'_>| {
        let operation = tool.operation;
        operation.operation_id.as_deref() == Some(name)
            || name.split_once(' ').is_some_and(|(m, p)| m == operation.method && p == operation.path)
    };
    let mut found = tools.iter().enumerate().filter(|(_, t)| means(t)).map(|(at, _)| at);
    let name = plain(name, 80);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => Err(format!("\"{name}\" means more than one tool: use a tool's name")),
        (None, _) => Err(format!("there is no tool \"{name}\"")),
    }
}
