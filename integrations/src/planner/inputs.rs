//! What the run has to be given: values that neither the text nor an earlier step holds, each with its question.

use domain::operation::Schema;
use serde_json::{Map, Value, json};

use super::{
    shape::{Slot, is_id_word},
    text::{camel, plain},
};

/// The workflow's input as it grows. Names are unique; ids of the same thing are asked once.
#[derive(Debug, Default)]
pub struct Inputs {
    properties: Map<String, Value>,
    required: Vec<String>,
    pub questions: Vec<String>,
}

impl Inputs {
    /// Asks for a slot's value and gives the expression that stands for it: `{{ input.customerId }}`.
    pub fn ask(&mut self, slot: &Slot<'_>, step: &str, title: &str) -> Value {
        let is_id = slot.identifies().is_some();
        let base = match (slot.words().as_slice(), slot.before.last()) {
            ([one], Some(before)) if is_id_word(one) => camel(&format!("{} {one}", singular(before))),
            _ => camel(slot.name),
        };
        let wanted = brief(slot.schema, slot.description);
        let same = |known: &Value| known.get("type") == wanted.get("type");
        let name = match self.properties.get(&base) {
            Some(known) if is_id && same(known) => return expression(&base),
            Some(_) => self.free(&camel(&format!("{step} {base}"))),
            None => base,
        };
        let about = slot.description.map(|d| plain(d, 120)).filter(|d| !d.is_empty());
        let about = about.map(|d| format!(" ({d})")).unwrap_or_default();
        self.add(&name, wanted, format!("Which value shall \"{}\" have for \"{}\"?{about}", name, plain(title, 80)));
        expression(&name)
    }

    /// Asks whether something is so: a condition that can't be told from the data.
    pub fn confirm(&mut self, condition: &str) -> String {
        let name = self.free("conditionHolds");
        let text = plain(condition, 160);
        self.add(
            &name,
            json!({"type": "boolean", "description": format!("Whether: {text}")}),
            format!("Is it so that {text}?"),
        );
        format!("input.{name}")
    }

    /// Declares an input under a given name, as a model named it; the schema is that of the slot it goes to.
    pub fn declare(&mut self, name: &str, slot: Option<&Slot<'_>>, title: &str) {
        if self.properties.contains_key(name) {
            return;
        }
        let schema = slot.map_or_else(|| json!({}), |s| brief(s.schema, s.description));
        self.add(name, schema, format!("Which value shall \"{}\" have for \"{}\"?", plain(name, 60), plain(title, 80)));
    }

    fn add(&mut self, name: &str, schema: Value, question: String) {
        self.properties.insert(name.to_owned(), schema);
        self.required.push(name.to_owned());
        self.questions.push(question);
    }

    fn free(&self, base: &str) -> String {
        let mut name = base.to_owned();
        let mut n = 2;
        while self.properties.contains_key(&name) {
            name = format!("{base}{n}");
            n += 1;
        }
        name
    }

    /// The JSON Schema of the input; `None` when nothing is asked.
    pub fn schema(&self) -> Option<Value> {
        (!self.properties.is_empty()).then(|| {
            json!({"type": "object", "properties": self.properties, "required": self.required, "additionalProperties": false})
        })
    }
}

fn expression(name: &str) -> Value {
    Value::String(format!("{{{{ input.{name} }}}}"))
}

/// Type, format, choices and a short description; enough to check and to show a form.
fn brief(schema: &Schema, description: Option<&str>) -> Value {
    let mut out = Map::new();
    if !schema.kind.is_empty() {
        out.insert("type".into(), Value::String(schema.kind.clone()));
    }
    if let Some(format) = &schema.format {
        out.insert("format".into(), Value::String(format.clone()));
    }
    if !schema.choices.is_empty() {
        out.insert("enum".into(), Value::Array(schema.choices.clone()));
    }
    if let Some(text) = description.or(schema.description.as_deref()) {
        out.insert("description".into(), Value::String(plain(text, 200)));
    }
    Value::Object(out)
}

/// A rough English singular, for names only.
pub fn singular(word: &str) -> String {
    if let Some(root) = word.strip_suffix("ies").filter(|r| r.len() > 1) {
        return format!("{root}y");
    }
    for ending in ["sses", "shes", "ches", "xes"] {
        if word.ends_with(ending) {
            return word[..word.len() - 2].to_owned();
        }
    }
    match word {
        "people" => "person".to_owned(),
        "children" => "child".to_owned(),
        w if w.ends_with('s') && !w.ends_with("ss") && !w.ends_with("us") && !w.ends_with("is") && w.len() > 3 => {
            w[..w.len() - 1].to_owned()
        }
        w => w.to_owned(),
    }
}
