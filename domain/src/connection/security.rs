//! What an API's document says of authentication: what a call needs, and what a connection sends of what it has.

use serde::{Deserialize, Serialize};

use super::{AuthScheme, KeyPlace, Part, origin};
use crate::operation::{Operation, ParameterLocation, SecurityRequirement, SecurityScheme, SpecSummary};

/// More ways than this are not kept with a connection.
const MAX_WAYS: usize = 50;
/// More places than this are nobody's; nothing beyond them is asked for.
const MAX_ELSEWHERE: usize = 1_000;

/// What a call needs: any one alternative is enough, and each names everything that is needed together. An empty
/// alternative says that it may go without; no alternatives at all, that it is public.
pub type Needs = Vec<Vec<SecurityScheme>>;

/// What a document says of security as a whole: kept with the connection.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecSecurity {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemes: Vec<SecurityScheme>,
    /// The ways that calls want, each once: the document's default first, then those of operations in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<SecurityRequirement>,
    /// Operations that may change something.
    #[serde(skip_serializing_if = "is_zero")]
    pub writes: u32,
    /// Origins that single operations are at, where they have servers of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
}

/// Where an operation's own server may be. `//host` takes its scheme from the document's URL, so it is both.
fn origins(server: &str) -> Vec<String> {
    match server.strip_prefix("//") {
        Some(host) => ["https", "http"].iter().filter_map(|scheme| origin(&format!("{scheme}://{host}"))).collect(),
        None => origin(server).into_iter().collect(),
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl SpecSecurity {
    pub fn of(spec: &SpecSummary) -> Self {
        let mut ways: Vec<SecurityRequirement> = Vec::new();
        let own = spec.operations.iter().filter_map(|operation| operation.security.as_ref()).flatten();
        for way in spec.security.iter().chain(own) {
            if ways.len() < MAX_WAYS && !ways.contains(way) {
                ways.push(way.clone());
            }
        }
        let writes = spec.operations.iter().filter(|operation| !operation.is_safe()).count();
        let mut elsewhere: Vec<String> = Vec::new();
        for origin in spec.operations.iter().filter_map(|o| o.servers.first()).flat_map(|server| origins(server)) {
            if elsewhere.len() < MAX_ELSEWHERE && !elsewhere.contains(&origin) {
                elsewhere.push(origin);
            }
        }
        let writes = u32::try_from(writes).unwrap_or(u32::MAX);
        Self { schemes: spec.security_schemes.clone(), ways, writes, elsewhere }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The schemes that are ways on their own, the likeliest first; then those that nothing asks for.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &SecurityScheme> {
        let alone = self.ways.iter().filter(|way| way.with.is_empty() && !way.scheme.is_empty());
        let named = alone.filter_map(|way| self.schemes.iter().find(|scheme| scheme.name == way.scheme));
        named.chain(&self.schemes)
    }
}

/// What an operation needs by its own word or the document's; `None`: the document says nothing.
pub fn needs(spec: &SpecSummary, operation: &Operation) -> Option<Needs> {
    let list = match &operation.security {
        Some(own) => own,
        None if spec.security.is_empty() => return None,
        None => &spec.security,
    };
    let scheme = |wanted: &SecurityRequirement| {
        let known = spec.security_schemes.iter().find(|s| s.name == wanted.scheme).cloned();
        SecurityScheme { scopes: wanted.scopes.clone(), ..known.unwrap_or_else(|| unknown(&wanted.scheme)) }
    };
    let alternative = |way: &SecurityRequirement| {
        std::iter::once(way).chain(&way.with).filter(|wanted| !wanted.scheme.is_empty()).map(scheme).collect()
    };
    Some(list.iter().map(alternative).collect())
}

/// Named, but not declared.
fn unknown(name: &str) -> SecurityScheme {
    SecurityScheme {
        name: name.to_owned(),
        kind: String::new(),
        scheme: None,
        location: None,
        parameter_name: None,
        scopes: Vec::new(),
    }
}

/// What goes on one call.
#[derive(Debug, Clone, PartialEq)]
pub enum Sending {
    /// Nothing, and no credential is read: the call is public, or the connection has no authentication.
    Nothing,
    Parts(Vec<Part>),
    /// The connection has nothing that the call takes. In words: what it takes.
    Lacking(String),
}

impl AuthScheme {
    /// What of this scheme goes on a call. `movable`: a single key has its place from the document, so that it may
    /// travel at another one where the document says so.
    pub fn sending(&self, needs: Option<&Needs>, movable: bool) -> Sending {
        let all = || match self.parts() {
            parts if parts.is_empty() => Sending::Nothing,
            parts => Sending::Parts(parts),
        };
        let Some(needs) = needs else { return all() };
        if needs.is_empty() || *self == AuthScheme::None {
            return Sending::Nothing;
        }
        // Written by hand: the user's word counts more than the document's.
        if matches!(self, AuthScheme::Custom { .. }) {
            return all();
        }
        let together = |way: &Vec<SecurityScheme>| way.iter().map(|need| self.covers(need)).collect::<Option<Vec<_>>>();
        if let Some(parts) = needs.iter().filter(|way| !way.is_empty()).find_map(together) {
            return Sending::Parts(parts);
        }
        if movable && let Some(part) = needs.iter().find_map(|way| self.moved(way)) {
            return Sending::Parts(vec![part]);
        }
        if needs.iter().any(Vec::is_empty) {
            return Sending::Nothing;
        }
        // Nobody can tell whether what the connection has is what such a scheme means.
        if needs.iter().flatten().any(|need| !is_known(need)) {
            return all();
        }
        Sending::Lacking(in_words(needs))
    }

    /// The part that is what the document means by `need`.
    pub fn covers(&self, need: &SecurityScheme) -> Option<Part> {
        if let AuthScheme::Document { schemes } = self {
            let found = schemes.iter().find(|scheme| scheme.name == need.name)?;
            return Some(Part { slot: Some(found.name.clone()), auth: found.auth.clone() });
        }
        let fits = |part: &Part| match (need.kind.as_str(), &part.auth) {
            ("apiKey", AuthScheme::ApiKey { location, name }) => {
                let own = KeyPlace { location: *location, name: name.clone() };
                place_of(need).is_some_and(|place| place.slot() == own.slot())
            }
            ("apiKey", AuthScheme::Bearer | AuthScheme::Basic) => is_authorization(place_of(need).as_ref()),
            (_, AuthScheme::Bearer) => is_bearer(need),
            (_, AuthScheme::Basic) => is_basic(need),
            (_, AuthScheme::ApiKey { location, name }) if is_bearer(need) || is_basic(need) => {
                is_authorization(Some(&KeyPlace { location: *location, name: name.clone() }))
            }
            ("mutualTLS", AuthScheme::Mtls) => true,
            _ => false,
        };
        self.parts().into_iter().find(fits)
    }

    /// The only key, at the place of a way that wants one key.
    fn moved(&self, way: &[SecurityScheme]) -> Option<Part> {
        let (AuthScheme::ApiKey { .. }, [need]) = (self, way) else { return None };
        let KeyPlace { location, name } = place_of(need)?;
        Some(Part { slot: None, auth: AuthScheme::ApiKey { location, name } })
    }
}

/// Where an `apiKey` scheme travels, when it says so.
pub(super) fn place_of(scheme: &SecurityScheme) -> Option<KeyPlace> {
    let (Some(location), Some(name)) = (scheme.location, scheme.parameter_name.clone()) else { return None };
    (scheme.kind == "apiKey").then_some(KeyPlace { location, name })
}

/// A token in `Authorization`, wherever it comes from.
pub(super) fn is_bearer(scheme: &SecurityScheme) -> bool {
    match scheme.kind.as_str() {
        "http" => scheme.scheme.as_deref() == Some("bearer"),
        "oauth2" | "openIdConnect" => true,
        _ => false,
    }
}

pub(super) fn is_basic(scheme: &SecurityScheme) -> bool {
    scheme.kind == "http" && scheme.scheme.as_deref() == Some("basic")
}

fn is_authorization(place: Option<&KeyPlace>) -> bool {
    place.is_some_and(|place| {
        place.location == ParameterLocation::Header && place.name.eq_ignore_ascii_case("authorization")
    })
}

fn is_known(scheme: &SecurityScheme) -> bool {
    place_of(scheme).is_some() || is_bearer(scheme) || is_basic(scheme) || scheme.kind == "mutualTLS"
}

/// `petKey (header X-Key) and appId (query app_id), or petAuth (bearer token)`.
pub fn in_words(needs: &Needs) -> String {
    let one = |scheme: &SecurityScheme| match place_of(scheme) {
        Some(place) => format!("{} ({} {})", scheme.name, location(place.location), place.name),
        None if is_bearer(scheme) => format!("{} (bearer token)", scheme.name),
        None if is_basic(scheme) => format!("{} (user name and password)", scheme.name),
        None if scheme.kind == "mutualTLS" => format!("{} (client certificate)", scheme.name),
        None => scheme.name.clone(),
    };
    let ways = needs.iter().filter(|way| !way.is_empty());
    ways.map(|way| way.iter().map(one).collect::<Vec<_>>().join(" and ")).collect::<Vec<_>>().join(", or ")
}

fn location(location: ParameterLocation) -> &'static str {
    match location {
        ParameterLocation::Header => "header",
        ParameterLocation::Query => "query",
        ParameterLocation::Cookie => "cookie",
        ParameterLocation::Path => "path",
    }
}
