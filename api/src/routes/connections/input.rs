//! What clients send for a connection, and what the use cases want of it.

use commands::connection::CreateConnection;
use domain::{
    connection::{AuthScheme, ConnectionPatch},
    error::Faults,
};
use poem_openapi::{Enum, Object};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    auth::{self, AuthConfig, AuthType},
    upload,
};
use crate::problem::Problem;

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
    /// Hours between refreshes by schedule, up to 8,760; 0 ends them.
    #[oai(validator(maximum(value = "8760")))]
    pub refresh_interval: Option<u32>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApproveConnectionBody {
    /// Origins of `waitingHosts`, as they are written there.
    #[oai(validator(min_items = 1, max_items = 100))]
    pub hosts: Option<Vec<String>>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
pub struct RejectConnectionBody {
    /// Shown with the connection.
    #[oai(validator(max_length = 500))]
    pub reason: Option<String>,
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
        let (auth, secret) = auth::read(self.auth_type, config, &AuthScheme::None, &mut faults);
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
        let config = self.auth_config.unwrap_or_default();
        let (auth, secret) = auth::read(self.auth_type, config, present, &mut faults);
        faults.into_result()?;
        let patch = ConnectionPatch {
            name: self.name,
            description: self.description,
            base_url: self.base_url,
            auth: Some(auth).filter(|auth| auth != present),
            active: self.status.map(|status| matches!(status, ConnectionStatusName::Active)),
            refresh_interval: self.refresh_interval,
            ..ConnectionPatch::default()
        };
        Ok((patch, secret))
    }
}

#[cfg(test)]
mod tests {
    use domain::operation::ParameterLocation;
    use secrecy::ExposeSecret;

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
        assert_eq!(fields(problem), ["documentationUrl", "spec", "authConfig.token", "authConfig.username"]);
        let text = r#"{"name":"a","authConfig":{"token":"t","username":"u"}}"#;
        assert_eq!(fields(body(text).into_command().unwrap_err()), ["authConfig.token", "authConfig.password"]);
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
