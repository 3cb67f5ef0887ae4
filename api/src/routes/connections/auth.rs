//! `authType` and `authConfig`: the scheme's shape, and the values that go to the vault.

use std::collections::BTreeMap;

use domain::{
    connection::{AuthScheme, CLIENT_SECRET, Certificate, HeaderTemplate, KeyPlace, NamedValue, Shape, Wanted},
    error::Faults,
    operation::ParameterLocation,
};
use poem_openapi::{Enum, Object, types::ToJSON};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::client::ClientParts;
use crate::types::Secret;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum AuthType {
    None,
    ApiKey,
    Bearer,
    Basic,
    /// A client certificate, shown in the TLS handshake.
    Mtls,
    /// Headers of your own: templates with `{{ secret.NAME }}`.
    Custom,
    /// Schemes of the OpenAPI document, with a value for each by its name there.
    Document,
    /// An access token that a provider gives once a person has agreed: see `POST /oauth/authorize`.
    Oauth2,
}

impl AuthType {
    fn of(auth: &AuthScheme) -> Self {
        match auth {
            AuthScheme::None => AuthType::None,
            AuthScheme::ApiKey { .. } | AuthScheme::ApiKeys { .. } => AuthType::ApiKey,
            AuthScheme::Bearer => AuthType::Bearer,
            AuthScheme::Basic => AuthType::Basic,
            AuthScheme::Mtls => AuthType::Mtls,
            AuthScheme::Custom { .. } => AuthType::Custom,
            AuthScheme::Document { .. } | AuthScheme::FromDocument { wanted: Wanted::Schemes { .. } } => {
                AuthType::Document
            }
            AuthScheme::Oauth2 { .. } => AuthType::Oauth2,
            AuthScheme::FromDocument { wanted: Wanted::ApiKey { .. } | Wanted::Value } => AuthType::ApiKey,
            AuthScheme::FromDocument { wanted: Wanted::Token } => AuthType::Bearer,
        }
    }
}

#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "lowercase")]
pub enum KeyPlaceName {
    Header,
    Query,
    Cookie,
}

impl From<KeyPlaceName> for ParameterLocation {
    fn from(place: KeyPlaceName) -> Self {
        match place {
            KeyPlaceName::Header => ParameterLocation::Header,
            KeyPlaceName::Query => ParameterLocation::Query,
            KeyPlaceName::Cookie => ParameterLocation::Cookie,
        }
    }
}

/// One of several API keys.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyBody {
    /// `header` when absent.
    #[oai(rename = "in")]
    location: Option<KeyPlaceName>,
    name: String,
    value: Option<Secret>,
}

impl KeyBody {
    fn place(&self) -> KeyPlace {
        let location = self.location.map_or(ParameterLocation::Header, Into::into);
        KeyPlace { location, name: self.name.clone() }
    }
}

/// The value of one of the document's schemes: a key or token, or user name and password, or a certificate.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchemeValueBody {
    value: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    certificate: Option<Secret>,
    private_key: Option<Secret>,
}

/// The credential, by `authType`; without one, the document says how its values travel. It goes to the vault and is never returned.
#[derive(Debug, Default, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthConfig {
    /// `api_key`: where the key travels; as the document says, else `header`, when absent.
    #[oai(rename = "in")]
    location: Option<KeyPlaceName>,
    /// `api_key`: the header's, query parameter's or cookie's name; as the document says, else `X-API-Key`, when absent.
    name: Option<String>,
    /// The same as `name`, in a header.
    header_name: Option<String>,
    /// `api_key`: the key. `apiKey` is the same.
    value: Option<Secret>,
    api_key: Option<Secret>,
    /// `api_key`: several keys, all sent with each request; instead of `in`, `name` and `value`.
    keys: Option<Vec<KeyBody>>,
    /// `bearer`: the token.
    token: Option<Secret>,
    /// `basic`.
    username: Option<String>,
    /// `basic`.
    password: Option<Secret>,
    /// `mtls`: PEM; the client's certificate first, then those that lead to its issuer.
    certificate: Option<Secret>,
    /// `mtls`: PEM (PKCS#8, PKCS#1 or SEC1), not encrypted.
    private_key: Option<Secret>,
    /// `custom`: a template for each header, such as `Token {{ secret.KEY }}`. Nothing else is evaluated.
    headers: Option<BTreeMap<String, String>>,
    /// `custom`: the values that the templates name.
    secrets: Option<BTreeMap<String, Secret>>,
    /// `document`: a value for each scheme, by its name in the document's `securitySchemes`.
    schemes: Option<BTreeMap<String, SchemeValueBody>>,
    /// `oauth2`: a provider that `GET /oauth/providers` lists; else give `issuer`, or `authorizationUrl` and `tokenUrl`.
    provider: Option<String>,
    /// `oauth2`: its metadata names the endpoints.
    issuer: Option<String>,
    /// `oauth2`.
    authorization_url: Option<String>,
    /// `oauth2`.
    token_url: Option<String>,
    /// `oauth2`: RFC 7009.
    revocation_url: Option<String>,
    /// `oauth2`: your own client; the installation's when absent.
    client_id: Option<String>,
    /// `oauth2`: of your own client.
    client_secret: Option<Secret>,
    /// `oauth2`: what is asked for; the provider's usual ones when absent.
    scopes: Option<Vec<String>>,
}

/// Values alone, for a scheme that is there already.
#[derive(Debug, Default)]
pub struct Values {
    pub value: Option<Secret>,
    pub api_key: Option<Secret>,
    pub keys: Option<Vec<KeyBody>>,
    pub token: Option<Secret>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub certificate: Option<Secret>,
    pub private_key: Option<Secret>,
    pub secrets: Option<BTreeMap<String, Secret>>,
    pub schemes: Option<BTreeMap<String, SchemeValueBody>>,
    pub client_secret: Option<Secret>,
}

/// Scheme and credential that a client asks for. What `present` has and the client does not name stays.
pub fn read(
    auth_type: Option<AuthType>,
    config: AuthConfig,
    present: &AuthScheme,
    faults: &mut Faults,
) -> (AuthScheme, Option<SecretString>) {
    let inferred = if *present == AuthScheme::None { config.inferred() } else { None };
    let wanted = auth_type.or(inferred).unwrap_or(AuthType::of(present));
    let is_key = wanted == AuthType::ApiKey;
    let shape = [
        ("in", config.location.is_some(), is_key && config.keys.is_none()),
        ("name", config.name.is_some(), is_key && config.keys.is_none()),
        ("headerName", config.header_name.is_some(), is_key && config.keys.is_none()),
        ("headers", config.headers.is_some(), wanted == AuthType::Custom),
        ("provider", config.provider.is_some(), wanted == AuthType::Oauth2),
        ("issuer", config.issuer.is_some(), wanted == AuthType::Oauth2),
        ("authorizationUrl", config.authorization_url.is_some(), wanted == AuthType::Oauth2),
        ("tokenUrl", config.token_url.is_some(), wanted == AuthType::Oauth2),
        ("revocationUrl", config.revocation_url.is_some(), wanted == AuthType::Oauth2),
        ("clientId", config.client_id.is_some(), wanted == AuthType::Oauth2),
        ("scopes", config.scopes.is_some(), wanted == AuthType::Oauth2),
    ];
    for (field, _, _) in shape.iter().filter(|(_, given, fits)| *given && !fits) {
        let message = match is_key && *field != "headers" {
            true => "does not stand beside keys; each key has its own".to_owned(),
            false => format!("does not belong to authType {}", name_of(wanted)),
        };
        faults.add(format!("authConfig.{field}"), message);
    }
    let auth = match (auth_type, &config) {
        (None, config) if inferred == Some(AuthType::ApiKey) && config.keys.is_none() && !config.names_place() => {
            AuthScheme::FromDocument { wanted: Wanted::Value }
        }
        (None, _) if inferred == Some(AuthType::Bearer) => AuthScheme::FromDocument { wanted: Wanted::Token },
        _ => scheme(wanted, &config, present),
    };
    let AuthConfig {
        value,
        api_key,
        keys,
        token,
        username,
        password,
        certificate,
        private_key,
        secrets,
        schemes,
        client_secret,
        ..
    } = config;
    let values = Values {
        value,
        api_key,
        keys,
        token,
        username,
        password,
        certificate,
        private_key,
        secrets,
        schemes,
        client_secret,
    };
    let secret = values.into_secret(&auth, "authConfig.", faults);
    (auth, secret)
}

impl AuthConfig {
    fn client(&self) -> ClientParts {
        ClientParts {
            provider: self.provider.clone(),
            issuer: self.issuer.clone(),
            authorization_url: self.authorization_url.clone(),
            token_url: self.token_url.clone(),
            revocation_url: self.revocation_url.clone(),
            client_id: self.client_id.clone(),
            scopes: self.scopes.clone(),
        }
    }

    /// What its fields are the fields of; nothing when there are none.
    fn inferred(&self) -> Option<AuthType> {
        let first = [
            (self.provider.is_some() || self.issuer.is_some() || self.token_url.is_some(), AuthType::Oauth2),
            (self.schemes.is_some(), AuthType::Document),
            (self.headers.is_some() || self.secrets.is_some(), AuthType::Custom),
            (self.certificate.is_some() || self.private_key.is_some(), AuthType::Mtls),
            (self.username.is_some() || self.password.is_some(), AuthType::Basic),
            (self.token.is_some(), AuthType::Bearer),
            (
                self.keys.is_some() || self.value.is_some() || self.api_key.is_some() || self.names_place(),
                AuthType::ApiKey,
            ),
        ];
        first.into_iter().find_map(|(given, kind)| given.then_some(kind))
    }

    fn names_place(&self) -> bool {
        self.name.is_some() || self.header_name.is_some()
    }
}

fn name_of(wanted: AuthType) -> String {
    wanted.to_json().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn scheme(wanted: AuthType, config: &AuthConfig, present: &AuthScheme) -> AuthScheme {
    match wanted {
        AuthType::None => AuthScheme::None,
        AuthType::Oauth2 => AuthScheme::Oauth2 { client: config.client().over(present) },
        AuthType::Bearer => AuthScheme::Bearer,
        AuthType::Basic => AuthScheme::Basic,
        AuthType::Mtls => AuthScheme::Mtls,
        AuthType::Custom => {
            let of = |(name, template): (&String, &String)| HeaderTemplate {
                name: name.clone(),
                template: template.clone(),
            };
            match (&config.headers, present) {
                (Some(headers), _) => AuthScheme::Custom { headers: headers.iter().map(of).collect() },
                (None, AuthScheme::Custom { .. }) => present.clone(),
                (None, _) => AuthScheme::Custom { headers: Vec::new() },
            }
        }
        AuthType::ApiKey => keys(config, present),
        AuthType::Document => match (&config.schemes, present) {
            (None, AuthScheme::Document { .. } | AuthScheme::FromDocument { wanted: Wanted::Schemes { .. } }) => {
                present.clone()
            }
            (schemes, _) => {
                let of =
                    |(name, body): (&String, &SchemeValueBody)| NamedValue { name: name.clone(), shape: body.shape() };
                let values = schemes.iter().flatten().map(of).collect();
                AuthScheme::FromDocument { wanted: Wanted::Schemes { values } }
            }
        },
    }
}

impl SchemeValueBody {
    fn shape(&self) -> Shape {
        match self {
            Self { username: None, password: None, certificate: None, private_key: None, .. } => Shape::Text,
            Self { certificate: None, private_key: None, .. } => Shape::Pair,
            _ => Shape::Certificate,
        }
    }

    fn text(self, path: &str, faults: &mut Faults) -> Option<String> {
        let several = [self.value.is_some(), self.username.is_some(), self.certificate.is_some()];
        if several.iter().filter(|given| **given).count() > 1 {
            faults.add(path.trim_end_matches('.'), "give a value, or user name and password, or a certificate");
        }
        let given = match self.shape() {
            Shape::Text => self.value.map(|secret| secret.0),
            Shape::Pair => joined(self.username.as_deref(), self.password.as_ref(), path, faults),
            Shape::Certificate => pair(self.certificate, self.private_key, path, faults),
        };
        given.map(|secret| secret.expose_secret().to_owned())
    }
}

fn keys(config: &AuthConfig, present: &AuthScheme) -> AuthScheme {
    let named = config.location.is_some() || config.name.is_some() || config.header_name.is_some();
    match (&config.keys, present) {
        (Some(keys), _) => AuthScheme::ApiKeys { keys: keys.iter().map(KeyBody::place).collect() },
        (None, AuthScheme::ApiKeys { .. }) if !named => present.clone(),
        (None, AuthScheme::FromDocument { wanted: Wanted::ApiKey { .. } | Wanted::Value }) if !named => present.clone(),
        (None, other) if !config.names_place() && !matches!(other, AuthScheme::ApiKey { .. }) => {
            AuthScheme::FromDocument { wanted: Wanted::ApiKey { location: config.location.map(Into::into) } }
        }
        (None, _) => {
            let (old_location, old_name) = match present {
                AuthScheme::ApiKey { location, name } => (*location, name.as_str()),
                _ => (ParameterLocation::Header, "X-API-Key"),
            };
            let location = config.location.map_or(old_location, Into::into);
            let name = config.name.as_ref().or(config.header_name.as_ref()).map_or(old_name, String::as_str);
            AuthScheme::ApiKey { location, name: name.to_owned() }
        }
    }
}

impl Values {
    /// The credential's text as the scheme wants it; what does not fit is named, not ignored.
    pub fn into_secret(self, auth: &AuthScheme, path: &str, faults: &mut Faults) -> Option<SecretString> {
        let given = [
            ("value", self.value.is_some()),
            ("apiKey", self.api_key.is_some()),
            ("keys", self.keys.is_some()),
            ("token", self.token.is_some()),
            ("username", self.username.is_some()),
            ("password", self.password.is_some()),
            ("certificate", self.certificate.is_some()),
            ("privateKey", self.private_key.is_some()),
            ("secrets", self.secrets.is_some()),
            ("schemes", self.schemes.is_some()),
            ("clientSecret", self.client_secret.is_some()),
        ];
        let fits: &[&str] = match auth {
            AuthScheme::None => &[],
            AuthScheme::ApiKey { .. } | AuthScheme::Bearer => &["value", "apiKey", "token"],
            AuthScheme::ApiKeys { .. } => &["keys"],
            AuthScheme::Basic => &["username", "password"],
            AuthScheme::Mtls => &["certificate", "privateKey"],
            AuthScheme::Custom { .. } => &["secrets"],
            AuthScheme::Oauth2 { .. } => &["clientSecret"],
            AuthScheme::Document { .. } | AuthScheme::FromDocument { wanted: Wanted::Schemes { .. } } => &["schemes"],
            AuthScheme::FromDocument { .. } => &["value", "apiKey", "token"],
        };
        for (field, _) in given.iter().filter(|(field, given)| *given && !fits.contains(field)) {
            faults.add(format!("{path}{field}"), format!("does not belong to authType {}", auth.as_str()));
        }
        match auth {
            AuthScheme::None => None,
            AuthScheme::Document { .. } | AuthScheme::FromDocument { wanted: Wanted::Schemes { .. } } => {
                by_scheme(self.schemes?, path, faults)
            }
            AuthScheme::ApiKey { .. } | AuthScheme::Bearer | AuthScheme::FromDocument { .. } => self.one(path, faults),
            AuthScheme::ApiKeys { .. } => several(self.keys?, path, faults),
            AuthScheme::Basic => joined(self.username.as_deref(), self.password.as_ref(), path, faults),
            AuthScheme::Mtls => pair(self.certificate, self.private_key, path, faults),
            AuthScheme::Custom { .. } => Some(json(&exposed(&self.secrets?))),
            AuthScheme::Oauth2 { .. } => {
                let secret = self.client_secret?;
                Some(json(&BTreeMap::from([(CLIENT_SECRET, secret.0.expose_secret())])))
            }
        }
    }

    /// The value under whichever of its names.
    fn one(self, path: &str, faults: &mut Faults) -> Option<SecretString> {
        let mut given = [self.value, self.api_key, self.token].into_iter().flatten();
        let (first, second) = (given.next(), given.next());
        if second.is_some() {
            faults.add(format!("{path}value"), "is given twice, under two names");
        }
        first.map(|secret| secret.0)
    }
}

/// A value for each, or none at all.
fn by_scheme(schemes: BTreeMap<String, SchemeValueBody>, path: &str, faults: &mut Faults) -> Option<SecretString> {
    let mut values = BTreeMap::new();
    let count = schemes.len();
    for (name, body) in schemes {
        let at = format!("{path}schemes.{name}.");
        match body.text(&at, faults) {
            Some(text) => _ = values.insert(name, text),
            None if count > 1 => faults.add(format!("{at}value"), "is required: all values are stored together"),
            None => {}
        }
    }
    (!values.is_empty()).then(|| json(&values))
}

/// All values or none: they are stored together.
fn several(keys: Vec<KeyBody>, path: &str, faults: &mut Faults) -> Option<SecretString> {
    if keys.iter().all(|key| key.value.is_none()) {
        return None;
    }
    let mut values = BTreeMap::new();
    for (index, key) in keys.iter().enumerate() {
        match &key.value {
            Some(value) => _ = values.insert(key.place().slot(), value.0.expose_secret().to_owned()),
            None => faults.add(format!("{path}keys[{index}].value"), "is required: all values are stored together"),
        }
    }
    Some(json(&values))
}

fn pair(certificate: Option<Secret>, key: Option<Secret>, path: &str, faults: &mut Faults) -> Option<SecretString> {
    match (certificate, key) {
        (None, None) => None,
        (Some(_), None) => {
            faults.add(format!("{path}privateKey"), "is required beside certificate");
            None
        }
        (None, Some(_)) => {
            faults.add(format!("{path}certificate"), "is required beside privateKey");
            None
        }
        (Some(certificate), Some(key)) => Some(json(&Certificate {
            certificate: certificate.0.expose_secret().to_owned(),
            private_key: key.0.expose_secret().to_owned(),
        })),
    }
}

/// `user:password`; both or neither.
pub fn joined(
    username: Option<&str>,
    password: Option<&Secret>,
    path: &str,
    faults: &mut Faults,
) -> Option<SecretString> {
    match (username, password) {
        (None, None) => None,
        (Some(_), None) => {
            faults.add(format!("{path}password"), "is required beside username");
            None
        }
        (None, Some(_)) => {
            faults.add(format!("{path}username"), "is required beside password");
            None
        }
        (Some(username), Some(_)) if username.contains(':') => {
            faults.add(format!("{path}username"), "must not contain a colon");
            None
        }
        (Some(username), Some(password)) => Some(format!("{username}:{}", password.0.expose_secret()).into()),
    }
}

fn exposed(secrets: &BTreeMap<String, Secret>) -> BTreeMap<&str, &str> {
    secrets.iter().map(|(name, value)| (name.as_str(), value.0.expose_secret())).collect()
}

/// Maps and structs of texts always make JSON.
fn json(value: &impl Serialize) -> SecretString {
    serde_json::to_string(value).unwrap_or_default().into()
}
