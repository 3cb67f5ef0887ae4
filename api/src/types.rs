//! Types of the contract that OpenAPI knows by their form: times, ids, secrets.

use std::{borrow::Cow, marker::PhantomData};

use chrono::{DateTime, Utc};
use domain::ids::TypedId;
use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef},
    types::{ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type},
};
use secrecy::SecretString;
use serde_json::Value;

use crate::{clock, problem::Problem};

/// The format's name under which the body checker knows ids; the pattern holds the prefix.
pub const ID_FORMAT: &str = "typeid";

macro_rules! plain_type {
    ($({$($generics:tt)*})? $name:ty, $label:expr, $schema:expr) => {
        impl $(<$($generics)*>)? Type for $name {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                Cow::Borrowed($label)
            }
            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Inline(Box::new($schema))
            }
            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }
            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }
    };
}

/// RFC 3339, UTC, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub DateTime<Utc>);

plain_type!(Time, "string_date-time", MetaSchema::new_with_format("string", "date-time"));

impl From<DateTime<Utc>> for Time {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time)
    }
}

impl ToJSON for Time {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(clock::text(self.0)))
    }
}

impl ParseFromJSON for Time {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let Some(Value::String(text)) = value else { return Err(ParseError::custom("a time is an RFC 3339 text")) };
        DateTime::parse_from_rfc3339(&text).map(|t| Self(t.to_utc())).map_err(ParseError::custom)
    }
}

/// A value that is taken and never given.
#[derive(Debug, Clone)]
pub struct Secret(pub SecretString);

plain_type!(
    Secret,
    "string_password",
    MetaSchema { write_only: true, ..MetaSchema::new_with_format("string", "password") }
);

impl ParseFromJSON for Secret {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let Some(Value::String(text)) = value else { return Err(ParseError::custom("a secret is a text")) };
        Ok(Self(SecretString::from(text)))
    }
}

/// Only the derive macro asks for it: a secret in an answer is nothing.
impl ToJSON for Secret {
    fn to_json(&self) -> Option<Value> {
        None
    }
}

/// An id in a path or a body, checked when it is used, so that a wrong one is named with its field.
#[derive(Debug, Clone)]
pub struct Id<T> {
    text: String,
    marker: PhantomData<fn() -> T>,
}

impl<T: TypedId> Id<T> {
    /// 422 with the field's name when the text is no id of this kind.
    pub fn typed(&self, field: &str) -> Result<T, Problem> {
        self.text.parse().map_err(|error: domain::ids::IdError| Problem::field(field, error.to_string()))
    }
}

plain_type!(
    {T: TypedId + Send + Sync + 'static} Id<T>,
    "string_typeid",
    MetaSchema {
        pattern: Some(format!("^{}_[0-7][0-9a-hjkmnp-tv-z]{{25}}$", T::PREFIX)),
        example: Some(Value::String(T::from(example_uuid()).to_string())),
        ..MetaSchema::new_with_format("string", ID_FORMAT)
    }
);

fn example_uuid() -> uuid::Uuid {
    uuid::Uuid::from_u128(0x0190_f5fe_1234_7abc_8def_0123_4567_89ab)
}

impl<T: TypedId + Send + Sync + 'static> ToJSON for Id<T> {
    fn to_json(&self) -> Option<Value> {
        Some(Value::String(self.text.clone()))
    }
}

impl<T: TypedId + Send + Sync + 'static> ParseFromJSON for Id<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let Some(Value::String(text)) = value else { return Err(ParseError::custom("an id is a text")) };
        Ok(Self { text, marker: PhantomData })
    }
}

impl<T: TypedId + Send + Sync + 'static> ParseFromParameter for Id<T> {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        Ok(Self { text: text.to_owned(), marker: PhantomData })
    }
}

/// A number in a path, from 1; checked when it is used.
#[derive(Debug, Clone)]
pub struct Ordinal(String);

plain_type!(
    Ordinal,
    "integer_ordinal",
    MetaSchema { minimum: Some(1.0), ..MetaSchema::new_with_format("integer", "int32") }
);

impl Ordinal {
    pub fn number(&self, field: &str) -> Result<i32, Problem> {
        let number = self.0.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| Problem::field(field, "must be a whole number from 1"))
    }
}

impl ParseFromParameter for Ordinal {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        Ok(Self(text.to_owned()))
    }
}

/// A plain word in a path, percent-decoded.
#[derive(Debug, Clone)]
pub struct Segment(pub String);

plain_type!(Segment, "string", MetaSchema::new("string"));

impl ParseFromParameter for Segment {
    fn parse_from_parameter(text: &str) -> ParseResult<Self> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let escaped =
                (*first == b'%').then(|| after.get(..2)).flatten().and_then(|digits| hex::decode(digits).ok());
            bytes.extend(escaped.as_deref().unwrap_or(&[*first]));
            rest = if escaped.is_some() { &after[2..] } else { after };
        }
        String::from_utf8(bytes).map(Self).map_err(ParseError::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_and_ordinals_checked() {
        let of = |text: &str| Segment::parse_from_parameter(text).ok().map(|segment| segment.0);
        assert_eq!(of("each%5B3%5d.send").as_deref(), Some("each[3].send"));
        assert_eq!(of("100%").as_deref(), Some("100%"));
        assert_eq!(of("a+b%2").as_deref(), Some("a+b%2"));
        assert_eq!(of("%ff"), None);
        assert_eq!(Ordinal("7".into()).number("n").unwrap(), 7);
        assert!(Ordinal("0".into()).number("n").is_err() && Ordinal("x".into()).number("n").is_err());
    }
}
