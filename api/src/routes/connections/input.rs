//! What clients send for a connection, and what the use cases want of it.

use commands::connection::CreateConnection;
use domain::{
    connection::{AuthScheme, ConnectionPatch},
    error::Faults,
    operation::ParameterLocation,
};
use poem_openapi::{Enum, Object};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::upload;
use crate::{problem::Problem, types::Secret};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum AuthType {
    None,
    ApiKey,
    Bearer,
    Basic,
    /// Not available in this version.
    Oauth2,
    /// Not available in this version.
    Custom,
}

#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "lowercase")]
pub enum KeyPlace {
    Header,
    Query,
    Cookie,
}

/// The credential, by `authType`. It goes to the vault and is never returned.
#[derive(Debug, Default, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthConfig {
    /// `api_key`: where the key travels; `header` when absent.
    #[oai(rename = "in")]
    location: Option<KeyPlace>,
    /// `api_key`: the header's, query parameter's or cookie's name; `X-API-Key` when absent.
    name: Option<String>,
    /// The same as `name`, in a header.
    header_name: Option<String>,
    /// `api_key`: the key. `apiKey` is the same.
    value: Option<Secret>,
    api_key: Option<Secret>,
    /// `bearer`: the token.
    token: Option<Secret>,
    /// `basic`.
    username: Option<String>,
    /// `basic`.
    password: Option<Secret>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateConnectionBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: String,
    #[oai(validator(max_length = 2000))]
    pub description: Option<String>,
    /// Where the OpenAPI document is. `documentationUrl` is the same.
    #[oai(validator(max_length = 2048))]
    pub spec_url: Option<String>,
    #[oai(validator(max_length = 2048))]
    pub documentation_url: Option<String>,
    /// The OpenAPI document itself: a text (JSON or YAML), or a JSON object.
    pub spec: Option<Value>,
    /// Instead of `spec`: a zip or tar.gz archive in base64, for a document of several files.
    pub spec_archive: Option<String>,
    /// Which file of the archive is the document. When absent: the only file with an `openapi` or `swagger` key, else
    /// the one of them named `openapi`, `swagger` or `api`.
    pub spec_root: Option<String>,
    /// What requests go to; the document's first server when absent.
    #[oai(validator(max_length = 2048))]
    pub base_url: Option<String>,
    pub auth_type: Option<AuthType>,
    pub auth_config: Option<AuthConfig>,
}

#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "UPPERCASE")]
pub enum ConnectionStatusName {
    Active,
    Inactive,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchConnectionBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    pub name: Option<String>,
    #[oai(validator(max_length = 2000))]
    pub description: Option<String>,
    #[oai(validator(max_length = 2048))]
    pub base_url: Option<String>,
    pub status: Option<ConnectionStatusName>,
    pub auth_type: Option<AuthType>,
    /// A new key, token or password becomes the credential's next version.
    pub auth_config: Option<AuthConfig>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefreshConnectionBody {
    /// A new document instead of the one that was fetched or uploaded before.
    pub spec: Option<Value>,
    /// A new document of several files: a zip or tar.gz archive in base64.
    pub spec_archive: Option<String>,
    /// Which file of the archive is the document; found when absent.
    pub spec_root: Option<String>,
}

impl CreateConnectionBody {
    pub fn into_command(self) -> Result<CreateConnection, Problem> {
        let mut faults = Faults::default();
        if self.spec_url.is_some() && self.documentation_url.is_some() && self.spec_url != self.documentation_url {
            faults.add("documentationUrl", "is another name of specUrl; give one of them");
        }
        let spec = upload::of(self.spec, self.spec_archive, self.spec_root, &mut faults);
        let config = self.auth_config.unwrap_or_default();
        let wanted = self.auth_type.unwrap_or(AuthType::None);
        let auth = scheme(wanted, &config, None, &mut faults);
        let secret = secret(wanted, &config, &mut faults);
        faults.into_result()?;
        Ok(CreateConnection {
            name: self.name,
            description: self.description,
            spec_url: self.spec_url.or(self.documentation_url),
            spec,
            base_url: self.base_url,
            auth,
            secret,
        })
    }
}

impl PatchConnectionBody {
    /// The changes of the connection itself, and a new value for its credential.
    pub fn into_patch(self, present: &AuthScheme) -> Result<(ConnectionPatch, Option<SecretString>), Problem> {
        let mut faults = Faults::default();
        let wanted = self.auth_type.unwrap_or(match present {
            AuthScheme::None => AuthType::None,
            AuthScheme::ApiKey { .. } => AuthType::ApiKey,
            AuthScheme::Bearer => AuthType::Bearer,
            AuthScheme::Basic => AuthType::Basic,
        });
        let config = self.auth_config.unwrap_or_default();
        let auth = scheme(wanted, &config, Some(present), &mut faults);
        let secret = secret(wanted, &config, &mut faults);
        faults.into_result()?;
        let patch = ConnectionPatch {
            name: self.name,
            description: self.description,
            base_url: self.base_url,
            auth: Some(auth).filter(|auth| auth != present),
            active: self.status.map(|status| matches!(status, ConnectionStatusName::Active)),
        };
        Ok((patch, secret))
    }
}

fn scheme(wanted: AuthType, config: &AuthConfig, present: Option<&AuthScheme>, faults: &mut Faults) -> AuthScheme {
    match wanted {
        AuthType::None => AuthScheme::None,
        AuthType::Bearer => AuthScheme::Bearer,
        AuthType::Basic => AuthScheme::Basic,
        AuthType::ApiKey => {
            let (old_location, old_name) = match present {
                Some(AuthScheme::ApiKey { location, name }) => (*location, name.as_str()),
                _ => (ParameterLocation::Header, "X-API-Key"),
            };
            let location = match config.location {
                Some(KeyPlace::Header) => ParameterLocation::Header,
                Some(KeyPlace::Query) => ParameterLocation::Query,
                Some(KeyPlace::Cookie) => ParameterLocation::Cookie,
                None => old_location,
            };
            let name = config.name.as_ref().or(config.header_name.as_ref()).map_or(old_name, String::as_str);
            AuthScheme::ApiKey { location, name: name.to_owned() }
        }
        AuthType::Oauth2 | AuthType::Custom => {
            faults.add("authType", "is not available in this version; use none, api_key, bearer or basic");
            AuthScheme::None
        }
    }
}

/// The one value that the type wants; others are named, not ignored.
fn secret(wanted: AuthType, config: &AuthConfig, faults: &mut Faults) -> Option<SecretString> {
    let given = [
        ("value", config.value.is_some()),
        ("apiKey", config.api_key.is_some()),
        ("token", config.token.is_some()),
        ("username", config.username.is_some()),
        ("password", config.password.is_some()),
        ("in", config.location.is_some()),
        ("name", config.name.is_some()),
        ("headerName", config.header_name.is_some()),
    ];
    let (fits, noun): (&[&str], &str) = match wanted {
        AuthType::ApiKey => (&["value", "apiKey", "in", "name", "headerName"], "api_key"),
        AuthType::Bearer => (&["token", "value"], "bearer"),
        AuthType::Basic => (&["username", "password"], "basic"),
        AuthType::None => (&[], "none"),
        // The type itself is named already.
        AuthType::Oauth2 | AuthType::Custom => return None,
    };
    for (field, _) in given.iter().filter(|(field, given)| *given && !fits.contains(field)) {
        faults.add(format!("authConfig.{field}"), format!("does not belong to authType {noun}"));
    }
    if config.value.is_some() && (config.api_key.is_some() || config.token.is_some()) {
        faults.add("authConfig.value", "is given twice, under two names");
    }
    let plain = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.0.clone());
    match wanted {
        AuthType::ApiKey => plain(&config.value).or_else(|| plain(&config.api_key)),
        AuthType::Bearer => plain(&config.token).or_else(|| plain(&config.value)),
        AuthType::Basic => joined(config.username.as_deref(), config.password.as_ref(), "authConfig.", faults),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> CreateConnectionBody {
        crate::body::decode(text.as_bytes()).unwrap()
    }

    fn fields(problem: Problem) -> Vec<String> {
        problem.details.into_iter().map(|detail| detail.field).collect()
    }

    #[test]
    fn each_type_takes_its_own_credential() {
        let of =
            |auth: &str| body(&format!("{{\"name\":\"a\",\"baseUrl\":\"https://a.example\",{auth}}}")).into_command();
        let key = of(r#""authType":"api_key","authConfig":{"in":"query","name":"k","value":"v"}"#).unwrap();
        assert_eq!(key.auth, AuthScheme::ApiKey { location: ParameterLocation::Query, name: "k".into() });
        assert_eq!(key.secret.unwrap().expose_secret(), "v");
        let old = of(r#""authType":"api_key","authConfig":{"apiKey":"v","headerName":"X-K"}"#).unwrap();
        assert_eq!(old.auth, AuthScheme::ApiKey { location: ParameterLocation::Header, name: "X-K".into() });
        let basic = of(r#""authType":"basic","authConfig":{"username":"u","password":"p:q"}"#).unwrap();
        assert_eq!(basic.secret.unwrap().expose_secret(), "u:p:q");
        assert!(of(r#""authType":"bearer""#).unwrap().secret.is_none(), "the credential may come later");
    }

    #[test]
    fn what_does_not_fit_is_named_at_once() {
        let text = r#"{"name":"a","authType":"oauth2","spec":7,"specUrl":"https://a","documentationUrl":"https://b",
            "authConfig":{"token":"t","username":"u"}}"#;
        let problem = body(text).into_command().unwrap_err();
        assert_eq!(fields(problem), ["documentationUrl", "spec", "authType"]);
        let text = r#"{"name":"a","authConfig":{"token":"t","username":"u"}}"#;
        assert_eq!(fields(body(text).into_command().unwrap_err()), ["authConfig.token", "authConfig.username"]);
        let text = r#"{"name":"a","authType":"basic","authConfig":{"username":"u"}}"#;
        assert_eq!(fields(body(text).into_command().unwrap_err()), ["authConfig.password"]);
    }

    #[test]
    fn a_patch_keeps_what_it_does_not_name() {
        let present = AuthScheme::ApiKey { location: ParameterLocation::Query, name: "k".into() };
        let patch: PatchConnectionBody = crate::body::decode(br#"{"authConfig":{"value":"new"}}"#).unwrap();
        let (patch, secret) = patch.into_patch(&present).unwrap();
        assert!(patch.auth.is_none() && secret.is_some());
    }
}
