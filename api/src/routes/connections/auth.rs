//! `authType` and `authConfig`: the scheme's shape, and the values that go to the vault.

use std::collections::BTreeMap;

use domain::{
    connection::{AuthScheme, Certificate, HeaderTemplate, KeyPlace},
    error::Faults,
    operation::ParameterLocation,
};
use poem_openapi::{Enum, Object, types::ToJSON};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

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
    /// Not available in this version.
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

/// The credential, by `authType`. It goes to the vault and is never returned.
#[derive(Debug, Default, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthConfig {
    /// `api_key`: where the key travels; `header` when absent.
    #[oai(rename = "in")]
    location: Option<KeyPlaceName>,
    /// `api_key`: the header's, query parameter's or cookie's name; `X-API-Key` when absent.
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
}

/// Scheme and credential that a client asks for. What `present` has and the client does not name stays.
pub fn read(
    auth_type: Option<AuthType>,
    config: AuthConfig,
    present: &AuthScheme,
    faults: &mut Faults,
) -> (AuthScheme, Option<SecretString>) {
    let wanted = auth_type.unwrap_or(AuthType::of(present));
    if wanted == AuthType::Oauth2 {
        let message = "is not available in this version; use none, api_key, bearer, basic, mtls or custom";
        faults.add("authType", message);
        return (AuthScheme::None, None);
    }
    let is_key = wanted == AuthType::ApiKey;
    let shape = [
        ("in", config.location.is_some(), is_key && config.keys.is_none()),
        ("name", config.name.is_some(), is_key && config.keys.is_none()),
        ("headerName", config.header_name.is_some(), is_key && config.keys.is_none()),
        ("headers", config.headers.is_some(), wanted == AuthType::Custom),
    ];
    for (field, _, _) in shape.iter().filter(|(_, given, fits)| *given && !fits) {
        let message = match is_key && *field != "headers" {
            true => "does not stand beside keys; each key has its own".to_owned(),
            false => format!("does not belong to authType {}", name_of(wanted)),
        };
        faults.add(format!("authConfig.{field}"), message);
    }
    let auth = scheme(wanted, &config, present);
    let AuthConfig { value, api_key, keys, token, username, password, certificate, private_key, secrets, .. } = config;
    let values = Values { value, api_key, keys, token, username, password, certificate, private_key, secrets };
    let secret = values.into_secret(&auth, "authConfig.", faults);
    (auth, secret)
}

fn name_of(wanted: AuthType) -> String {
    wanted.to_json().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn scheme(wanted: AuthType, config: &AuthConfig, present: &AuthScheme) -> AuthScheme {
    match wanted {
        AuthType::None | AuthType::Oauth2 => AuthScheme::None,
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
    }
}

fn keys(config: &AuthConfig, present: &AuthScheme) -> AuthScheme {
    let named = config.location.is_some() || config.name.is_some() || config.header_name.is_some();
    match (&config.keys, present) {
        (Some(keys), _) => AuthScheme::ApiKeys { keys: keys.iter().map(KeyBody::place).collect() },
        (None, AuthScheme::ApiKeys { .. }) if !named => present.clone(),
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
        ];
        let fits: &[&str] = match auth {
            AuthScheme::None => &[],
            AuthScheme::ApiKey { .. } | AuthScheme::Bearer => &["value", "apiKey", "token"],
            AuthScheme::ApiKeys { .. } => &["keys"],
            AuthScheme::Basic => &["username", "password"],
            AuthScheme::Mtls => &["certificate", "privateKey"],
            AuthScheme::Custom { .. } => &["secrets"],
        };
        for (field, _) in given.iter().filter(|(field, given)| *given && !fits.contains(field)) {
            faults.add(format!("{path}{field}"), format!("does not belong to authType {}", auth.as_str()));
        }
        match auth {
            AuthScheme::None => None,
            AuthScheme::ApiKey { .. } | AuthScheme::Bearer => self.one(path, faults),
            AuthScheme::ApiKeys { .. } => several(self.keys?, path, faults),
            AuthScheme::Basic => joined(self.username.as_deref(), self.password.as_ref(), path, faults),
            AuthScheme::Mtls => pair(self.certificate, self.private_key, path, faults),
            AuthScheme::Custom { .. } => Some(json(&exposed(&self.secrets?))),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> AuthConfig {
        crate::body::decode(text.as_bytes()).unwrap()
    }

    fn of(wanted: AuthType, text: &str, present: &AuthScheme) -> (AuthScheme, Option<String>, Vec<String>) {
        let mut faults = Faults::default();
        let (auth, secret) = read(Some(wanted), config(text), present, &mut faults);
        let secret = secret.map(|secret| secret.expose_secret().to_owned());
        (auth, secret, faults.0.into_iter().map(|fault| fault.field).collect())
    }

    #[test]
    fn several_keys_are_stored_together() {
        let text = r#"{"keys":[{"in":"query","name":"app","value":"one"},{"name":"X-Key","value":"two"}]}"#;
        let (auth, secret, faults) = of(AuthType::ApiKey, text, &AuthScheme::None);
        assert!(faults.is_empty());
        assert_eq!(auth.slots(), ["query app", "header x-key"]);
        assert_eq!(secret.unwrap(), r#"{"header x-key":"two","query app":"one"}"#);
        let half = r#"{"name":"n","keys":[{"name":"a","value":"one"},{"name":"b"}]}"#;
        assert_eq!(of(AuthType::ApiKey, half, &AuthScheme::None).2, ["authConfig.name", "authConfig.keys[1].value"]);
        let later = r#"{"keys":[{"name":"a"},{"name":"b"}]}"#;
        assert_eq!(of(AuthType::ApiKey, later, &AuthScheme::None).1, None);
    }

    #[test]
    fn certificates_and_templates_take_their_own_values() {
        let (auth, secret, _) = of(AuthType::Mtls, r#"{"certificate":"C","privateKey":"K"}"#, &AuthScheme::None);
        assert_eq!((auth, secret.unwrap().as_str()), (AuthScheme::Mtls, r#"{"certificate":"C","privateKey":"K"}"#));
        assert_eq!(of(AuthType::Mtls, r#"{"certificate":"C"}"#, &AuthScheme::None).2, ["authConfig.privateKey"]);
        let text = r#"{"headers":{"X-A":"k={{ secret.K }}"},"secrets":{"K":"one"}}"#;
        let (custom, secret, _) = of(AuthType::Custom, text, &AuthScheme::None);
        assert_eq!((custom.slots(), secret.unwrap().as_str()), (vec!["K".to_owned()], r#"{"K":"one"}"#));
        let (kept, secret, _) = of(AuthType::Custom, r#"{"secrets":{"K":"two"}}"#, &custom);
        assert_eq!((kept, secret.unwrap().as_str()), (custom, r#"{"K":"two"}"#));
        let wrong = r#"{"headers":{},"token":"t","secrets":{}}"#;
        let expected = ["authConfig.headers", "authConfig.token", "authConfig.secrets"];
        assert_eq!(of(AuthType::Basic, wrong, &AuthScheme::None).2, expected);
    }
}
