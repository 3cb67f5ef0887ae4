//! JSON text into the table, by serde_json's own tokeniser: no tree in between, texts borrowed from the input.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Limits;
use super::builder::Builder;
use super::tape::Kind;

/// The error is one sentence with line and column.
pub fn parse(builder: &mut Builder<'_>, text: &str, limits: &Limits) -> Result<(), String> {
    let mut input = serde_json::Deserializer::from_str(text);
    Node(builder).deserialize(&mut input).map_err(|e| describe(&e, limits))?;
    input.end().map_err(|e| describe(&e, limits))
}

fn describe(error: &serde_json::Error, limits: &Limits) -> String {
    let text = error.to_string();
    if text.starts_with("recursion limit exceeded") {
        let place = format!("line {} column {}", error.line(), error.column());
        return format!("the document is nested deeper than {} levels at {place}", limits.max_depth.min(127));
    }
    if error.is_data() { text } else { format!("not valid JSON: {text}") }
}

struct Node<'b, 'a>(&'b mut Builder<'a>);

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl Node<'_, '_> {
    fn scalar<E: Error>(self, kind: Kind, text: &str) -> Result<(), E> {
        self.0.text(kind, text).map(drop).map_err(E::custom)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar(Kind::Null, "")
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<(), E> {
        self.scalar(if v { Kind::True } else { Kind::False }, "")
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<(), E> {
        self.scalar(Kind::Number, &v.to_string())
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<(), E> {
        self.scalar(Kind::Number, &v.to_string())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<(), E> {
        self.scalar(Kind::Number, &format!("{v:?}"))
    }

    fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<(), E> {
        self.scalar(Kind::String, v)
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<(), E> {
        self.scalar(Kind::String, v)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<(), A::Error> {
        let id = self.0.open(Kind::Array).map_err(A::Error::custom)?;
        let mut children = 0;
        while input.next_element_seed(Node(self.0))?.is_some() {
            children += 1;
        }
        self.0.close(id, children);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<(), A::Error> {
        let id = self.0.open(Kind::Object).map_err(A::Error::custom)?;
        let mut children = 0;
        while input.next_key_seed(Key(self.0))?.is_some() {
            input.next_value_seed(Node(self.0))?;
            children += 1;
        }
        self.0.close(id, children);
        Ok(())
    }
}

struct Key<'b, 'a>(&'b mut Builder<'a>);

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E: Error>(self, v: &'de str) -> Result<(), E> {
        self.0.text(Kind::Key, v).map(drop).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<(), E> {
        self.0.text(Kind::Key, v).map(drop).map_err(E::custom)
    }
}
