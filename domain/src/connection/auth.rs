//! How requests to an API are authorised: the shapes, without any value, and what is checked of them.

use serde::{Deserialize, Serialize};

use super::{
    resolve::{NamedValue, Wanted},
    template,
};
use crate::{error::Faults, oauth::OauthClient, operation::ParameterLocation};

/// More than this many keys or headers are nobody's.
const MAX_KEYS: usize = 10;
const MAX_HEADERS: usize = 20;

/// Names of the values in a credential of `oauth2`.
pub const ACCESS_TOKEN: &str = "accessToken";
pub const REFRESH_TOKEN: &str = "refreshToken";
pub const CLIENT_SECRET: &str = "clientSecret";

/// How requests are authorised; the values themselves are a credential.
///
/// What a credential of each scheme holds is told by [`AuthScheme::parts`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AuthScheme {
    #[default]
    None,
    /// One key; the credential is its text.
    ApiKey {
        #[serde(rename = "in")]
        location: ParameterLocation,
        name: String,
    },
    /// Several keys, all sent with each request; the credential is a JSON object of values by [`KeyPlace::slot`].
    ApiKeys { keys: Vec<KeyPlace> },
    /// The credential is the token.
    Bearer,
    /// The credential is `user:password`.
    Basic,
    /// A client certificate; the credential is a [`Certificate`] as JSON.
    Mtls,
    /// Headers made of texts and secrets; the credential is a JSON object of values by the secrets' names.
    Custom { headers: Vec<HeaderTemplate> },
    /// Schemes that the document declares; the credential is a JSON object of values by their names. Each call takes
    /// those that it needs.
    Document { schemes: Vec<NamedScheme> },
    /// An access token of a provider, sent as a bearer token; the credential is a JSON object with `accessToken`, and
    /// `refreshToken` and `clientSecret` where there are any.
    Oauth2 { client: OauthClient },
    /// The document is to decide; see `connection.auth_resolved`.
    FromDocument { wanted: Wanted },
}

/// A scheme under the document's name for it: `ApiKey`, `Bearer`, `Basic` or `Mtls`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamedScheme {
    pub name: String,
    pub auth: AuthScheme,
}

/// Where one API key travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyPlace {
    #[serde(rename = "in")]
    pub location: ParameterLocation,
    pub name: String,
}

impl KeyPlace {
    /// The key's name within a credential of several: `header x-app-id`. Headers are named without case.
    pub fn slot(&self) -> String {
        match self.location {
            ParameterLocation::Header => format!("header {}", self.name.to_ascii_lowercase()),
            ParameterLocation::Query => format!("query {}", self.name),
            ParameterLocation::Cookie => format!("cookie {}", self.name),
            ParameterLocation::Path => format!("path {}", self.name),
        }
    }
}

/// A header whose value holds `{{ secret.NAME }}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderTemplate {
    pub name: String,
    pub template: String,
}

/// What the credential of `mtls` holds, as JSON. PEM texts.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The client's certificate first, then those that lead to its issuer.
    pub certificate: String,
    pub private_key: String,
}

/// One thing that is put on a request, and where its value lies in the credential.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// `None`: the credential's whole text is the value; else the name in the credential's JSON object.
    pub slot: Option<String>,
    /// Never one of several: each key and each scheme is a part of its own.
    pub auth: AuthScheme,
}

impl AuthScheme {
    /// As clients name it: `authType`.
    pub fn as_str(&self) -> &'static str {
        match self {
            AuthScheme::None => "none",
            AuthScheme::ApiKey { .. } | AuthScheme::ApiKeys { .. } => "api_key",
            AuthScheme::Bearer => "bearer",
            AuthScheme::Basic => "basic",
            AuthScheme::Mtls => "mtls",
            AuthScheme::Custom { .. } => "custom",
            AuthScheme::Document { .. } => "document",
            AuthScheme::Oauth2 { .. } => "oauth2",
            AuthScheme::FromDocument { wanted } => wanted.as_str(),
        }
    }

    /// The kind of credential whose values fit.
    pub fn credential_kind(&self) -> &'static str {
        match self {
            AuthScheme::ApiKeys { .. } => "api_keys",
            other => other.as_str(),
        }
    }

    /// Is a credential of this scheme one of the other, and as safe there? Where OAuth is involved; values of other
    /// schemes are looked at when they are sent.
    pub fn keeps_credential(&self, other: &Self) -> bool {
        match (self, other) {
            (AuthScheme::Oauth2 { client }, AuthScheme::Oauth2 { client: new }) => client.shares_secret(new),
            (AuthScheme::Oauth2 { .. }, _) | (_, AuthScheme::Oauth2 { .. }) => false,
            _ => true,
        }
    }

    /// Everything that goes on a request.
    pub fn parts(&self) -> Vec<Part> {
        match self {
            AuthScheme::None | AuthScheme::FromDocument { .. } => Vec::new(),
            AuthScheme::Document { schemes } => {
                schemes.iter().map(|s| Part { slot: Some(s.name.clone()), auth: s.auth.clone() }).collect()
            }
            AuthScheme::Oauth2 { .. } => {
                vec![Part { slot: Some(ACCESS_TOKEN.to_owned()), auth: AuthScheme::Bearer }]
            }
            AuthScheme::ApiKeys { keys } => keys
                .iter()
                .map(|key| Part {
                    slot: Some(key.slot()),
                    auth: AuthScheme::ApiKey { location: key.location, name: key.name.clone() },
                })
                .collect(),
            other => vec![Part { slot: None, auth: other.clone() }],
        }
    }

    /// The names of the values that a credential of this scheme holds beside each other; empty for a plain text.
    pub fn slots(&self) -> Vec<String> {
        match self {
            AuthScheme::ApiKeys { keys } => keys.iter().map(KeyPlace::slot).collect(),
            AuthScheme::Custom { headers } => {
                let mut names: Vec<String> =
                    headers.iter().flat_map(|h| template::names(&h.template).unwrap_or_default()).collect();
                names.sort_unstable();
                names.dedup();
                names
            }
            AuthScheme::Document { schemes } => schemes.iter().map(|scheme| scheme.name.clone()).collect(),
            AuthScheme::FromDocument { wanted } => wanted.slots(),
            _ => Vec::new(),
        }
    }

    /// Names every fault of the scheme's shape.
    pub(super) fn check(&self, faults: &mut Faults) {
        match self {
            AuthScheme::ApiKey { location, name } => check_key(*location, name, "authConfig.", faults),
            AuthScheme::ApiKeys { keys } => check_keys(keys, faults),
            AuthScheme::Custom { headers } => check_headers(headers, faults),
            AuthScheme::FromDocument { wanted: Wanted::Schemes { values } } => check_values(values, faults),
            AuthScheme::Oauth2 { client } => client.check(faults),
            _ => {}
        }
    }
}

fn check_keys(keys: &[KeyPlace], faults: &mut Faults) {
    if keys.is_empty() || keys.len() > MAX_KEYS {
        faults.add("authConfig.keys", format!("must have 1 to {MAX_KEYS} entries"));
    }
    for (index, key) in keys.iter().enumerate() {
        let path = format!("authConfig.keys[{index}].");
        check_key(key.location, &key.name, &path, faults);
        if keys[..index].iter().any(|other| other.slot() == key.slot()) {
            faults.add(format!("{path}name"), "is there twice at the same place");
        }
    }
}

fn check_values(values: &[NamedValue], faults: &mut Faults) {
    if values.is_empty() || values.len() > MAX_KEYS {
        faults.add("authConfig.schemes", format!("must have 1 to {MAX_KEYS} entries"));
    }
    if values.iter().any(|value| value.name.is_empty() || value.name.len() > 200) {
        faults.add("authConfig.schemes", "must be named as in the document's securitySchemes");
    }
}

fn check_key(location: ParameterLocation, name: &str, path: &str, faults: &mut Faults) {
    let field = format!("{path}name");
    let fits = match location {
        ParameterLocation::Query => !name.is_empty() && name.len() <= 200 && !name.chars().any(char::is_control),
        _ => is_token(name),
    };
    if !fits {
        faults.add(&field, "must be the header's, query parameter's or cookie's name");
    } else if location == ParameterLocation::Header && is_reserved(name) {
        faults.add(&field, "is a header that the client sets by itself");
    }
    if location == ParameterLocation::Path {
        faults.add(format!("{path}in"), "must be header, query or cookie");
    }
}

fn check_headers(headers: &[HeaderTemplate], faults: &mut Faults) {
    if headers.is_empty() || headers.len() > MAX_HEADERS {
        faults.add("authConfig.headers", format!("must have 1 to {MAX_HEADERS} entries"));
    }
    let mut holds_secret = headers.is_empty();
    for (index, header) in headers.iter().enumerate() {
        let shown: String = header.name.chars().filter(|c| !c.is_control()).take(60).collect();
        let field = format!("authConfig.headers.{shown}");
        if !is_token(&header.name) {
            faults.add(&field, "is no header's name");
        } else if is_reserved(&header.name) {
            faults.add(&field, "is a header that the client sets by itself");
        } else if header.name.eq_ignore_ascii_case("cookie") {
            faults.add(&field, "cannot be made of a template; use authType api_key with in: cookie");
        }
        if headers[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&header.name)) {
            faults.add(&field, "is there twice; case makes no difference");
        }
        match template::names(&header.template) {
            Ok(names) => holds_secret |= !names.is_empty(),
            Err(message) => {
                // One fault for one header: what the others hold is not known to be nothing.
                holds_secret = true;
                faults.add(&field, message);
            }
        }
    }
    if !holds_secret {
        faults.add("authConfig.headers", "hold no {{ secret.NAME }}: a constant header belongs into the step");
    }
}

/// RFC 9110: what a header may be called; cookies are the same.
fn is_token(name: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.len() <= 200 && name.bytes().all(tchar)
}

/// Headers that frame the message or belong to one hop: a value of somebody else's would make another message of it.
fn is_reserved(name: &str) -> bool {
    const RESERVED: [&str; 14] = [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "http2-settings",
    ];
    RESERVED.contains(&name.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(auth: &AuthScheme) -> Vec<String> {
        let mut faults = Faults::default();
        auth.check(&mut faults);
        faults.0.into_iter().map(|fault| fault.field).collect()
    }

    fn key(location: ParameterLocation, name: &str) -> KeyPlace {
        KeyPlace { location, name: name.into() }
    }

    fn custom(headers: &[(&str, &str)]) -> AuthScheme {
        let of =
            |(name, template): &(&str, &str)| HeaderTemplate { name: (*name).into(), template: (*template).into() };
        AuthScheme::Custom { headers: headers.iter().map(of).collect() }
    }

    #[test]
    fn several_keys_are_parts_with_values_of_their_own() {
        let keys = vec![key(ParameterLocation::Header, "X-App-Id"), key(ParameterLocation::Query, "Key")];
        let auth = AuthScheme::ApiKeys { keys };
        assert!(faults(&auth).is_empty());
        assert_eq!(auth.slots(), ["header x-app-id", "query Key"]);
        let parts = auth.parts();
        assert_eq!(parts[1].slot.as_deref(), Some("query Key"));
        assert_eq!(parts[1].auth, AuthScheme::ApiKey { location: ParameterLocation::Query, name: "Key".into() });
        assert_eq!((auth.as_str(), auth.credential_kind()), ("api_key", "api_keys"));
    }

    #[test]
    fn a_key_that_would_frame_the_message_or_stand_twice_is_named() {
        let keys = vec![
            key(ParameterLocation::Header, "Host"),
            key(ParameterLocation::Header, "X-A"),
            key(ParameterLocation::Header, "x-a"),
            key(ParameterLocation::Cookie, "a;b"),
            key(ParameterLocation::Query, "a b"),
            key(ParameterLocation::Path, "id"),
        ];
        assert_eq!(
            faults(&AuthScheme::ApiKeys { keys }),
            ["authConfig.keys[0].name", "authConfig.keys[2].name", "authConfig.keys[3].name", "authConfig.keys[5].in"]
        );
        assert_eq!(faults(&AuthScheme::ApiKeys { keys: vec![] }), ["authConfig.keys"]);
    }

    #[test]
    fn headers_are_checked_by_name_and_template() {
        let good = custom(&[("X-Signature", "k1={{ secret.ONE }};k2={{secret.TWO}}"), ("X-Version", "2")]);
        assert!(faults(&good).is_empty());
        assert_eq!(good.slots(), ["ONE", "TWO"]);
        let bad = custom(&[
            ("Transfer-Encoding", "{{ secret.A }}"),
            ("X Y", "{{ secret.A }}"),
            ("Cookie", "a={{ secret.A }}"),
            ("X-A", "{{ secret.A }}\r\nX-Evil: 1"),
            ("x-a", "{{ input.A }}"),
        ]);
        let expected =
            ["Transfer-Encoding", "X Y", "Cookie", "X-A", "x-a", "x-a"].map(|n| format!("authConfig.headers.{n}"));
        assert_eq!(faults(&bad), expected);
        assert_eq!(faults(&custom(&[("X-A", "constant")])), ["authConfig.headers"]);
    }

    #[test]
    fn what_older_builds_stored_is_read() {
        let stored = r#"{"type":"api_key","in":"header","name":"X-Api-Key"}"#;
        let auth: AuthScheme = serde_json::from_str(stored).unwrap();
        assert_eq!(auth, AuthScheme::ApiKey { location: ParameterLocation::Header, name: "X-Api-Key".into() });
        assert_eq!(serde_json::to_string(&auth).unwrap(), stored);
    }
}
