//! Authentication that the document is to decide: what was asked for, and what the document makes of it.

use serde::{Deserialize, Serialize};

use super::{
    AuthScheme, NamedScheme, SpecSecurity,
    security::{is_basic, is_bearer, place_of},
};
use crate::operation::{ParameterLocation, SecurityScheme};

/// What a connection was given without a word about where it travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Wanted {
    /// `authType: api_key` without a name; `X-API-Key` where the document declares no key.
    ApiKey {
        #[serde(rename = "in", default, skip_serializing_if = "Option::is_none")]
        location: Option<ParameterLocation>,
    },
    /// A value, and no type: a key or a token.
    Value,
    /// A token, and no type; a bearer token where the document declares nothing that fits.
    Token,
    /// Values by the names of the document's schemes.
    Schemes { values: Vec<NamedValue> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedValue {
    pub name: String,
    pub shape: Shape,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    Text,
    /// `user:password`.
    Pair,
    Certificate,
}

impl Wanted {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Wanted::ApiKey { .. } | Wanted::Value => "api_key",
            Wanted::Token => "bearer",
            Wanted::Schemes { .. } => "document",
        }
    }

    /// The names of the values in the credential.
    pub(super) fn slots(&self) -> Vec<String> {
        match self {
            Wanted::Schemes { values } => values.iter().map(|value| value.name.clone()).collect(),
            _ => Vec::new(),
        }
    }

    /// What it means by a document; by none when there is none. `Err`: why that cannot be told, in words.
    pub fn resolve(&self, document: Option<&SpecSecurity>) -> Result<AuthScheme, String> {
        let candidates = || document.into_iter().flat_map(SpecSecurity::candidates);
        match self {
            Wanted::ApiKey { location } => {
                let fits = |scheme: &SecurityScheme| key(scheme).filter(|found| at(found, *location));
                let usual = || AuthScheme::ApiKey {
                    location: location.unwrap_or(ParameterLocation::Header),
                    name: "X-API-Key".into(),
                };
                Ok(candidates().find_map(fits).unwrap_or_else(usual))
            }
            Wanted::Value => candidates().find_map(|scheme| key(scheme).or_else(|| token(scheme))).ok_or_else(|| {
                "nothing says where the value travels: the document declares no API key and no token. Set authType, \
                 and in and name for an API key."
                    .to_owned()
            }),
            Wanted::Token => {
                let found = candidates().find_map(token).or_else(|| candidates().find_map(key));
                Ok(found.unwrap_or(AuthScheme::Bearer))
            }
            Wanted::Schemes { values } => schemes(values, document),
        }
    }
}

fn key(scheme: &SecurityScheme) -> Option<AuthScheme> {
    place_of(scheme).map(|place| AuthScheme::ApiKey { location: place.location, name: place.name })
}

fn token(scheme: &SecurityScheme) -> Option<AuthScheme> {
    is_bearer(scheme).then_some(AuthScheme::Bearer)
}

fn at(auth: &AuthScheme, wanted: Option<ParameterLocation>) -> bool {
    matches!(auth, AuthScheme::ApiKey { location, .. } if wanted.is_none_or(|wanted| wanted == *location))
}

/// Every value at its scheme; all that do not fit are named.
fn schemes(values: &[NamedValue], document: Option<&SpecSecurity>) -> Result<AuthScheme, String> {
    let Some(document) = document else {
        return Err("values by scheme need an OpenAPI document that declares the schemes".into());
    };
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for NamedValue { name, shape } in values {
        let Some(scheme) = document.schemes.iter().find(|scheme| scheme.name == *name) else {
            faults.push(format!("the document declares no security scheme {name}"));
            continue;
        };
        let auth = match shape {
            Shape::Text => key(scheme).or_else(|| token(scheme)),
            Shape::Pair => is_basic(scheme).then_some(AuthScheme::Basic),
            Shape::Certificate => (scheme.kind == "mutualTLS").then_some(AuthScheme::Mtls),
        };
        match auth {
            Some(auth) => found.push(NamedScheme { name: name.clone(), auth }),
            None => faults.push(format!("the value of {name} does not fit what the document declares under this name")),
        }
    }
    if faults.is_empty() { Ok(AuthScheme::Document { schemes: found }) } else { Err(faults.join("; ")) }
}
