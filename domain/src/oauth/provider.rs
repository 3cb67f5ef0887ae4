//! Providers: the three that are built in, and what is known of any other one.

use serde::{Deserialize, Serialize};

/// Where a provider does otherwise than the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    #[default]
    Standard,
    /// Errors come with 200; tokens of OAuth apps do not expire; tokens are revoked by a call of its own API.
    Github,
    /// A refresh token comes only when asked for by parameters of its own.
    Google,
    /// `ok: false` comes with 200; scopes are separated by commas; revocation is a method of its own API.
    Slack,
}

/// How a client shows its secret at the token endpoint (RFC 6749, 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    #[default]
    Basic,
    Body,
}

/// A provider as an operator, or this build, describes it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Provider {
    pub name: String,
    pub title: String,
    pub issuer: Option<String>,
    pub authorization_url: Option<String>,
    pub token_url: Option<String>,
    pub revocation_url: Option<String>,
    /// Asked for where nothing else is.
    pub scopes: Vec<String>,
    pub dialect: Dialect,
    pub client_auth: Option<ClientAuth>,
}

/// What is needed to talk to a provider, once its metadata is read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoints {
    /// What the callback is under: the provider's name, or `at-` and its host.
    pub key: String,
    pub title: String,
    pub issuer: Option<String>,
    pub authorization: String,
    pub token: String,
    pub revocation: Option<String>,
    pub dialect: Dialect,
    pub client_auth: ClientAuth,
    /// It says `iss` in every answer (RFC 9207).
    pub names_itself: bool,
    /// What is asked for where nothing else is.
    pub scopes: Vec<String>,
    pub client_id: String,
}

impl Endpoints {
    /// Does the answer come from this provider? `Err` says why not.
    pub fn check_issuer(&self, said: Option<&str>) -> Result<(), &'static str> {
        match (said, &self.issuer) {
            (None, _) if self.names_itself => Err("the answer does not say which provider it comes from"),
            (None, _) => Ok(()),
            (Some(said), Some(issuer)) if said == issuer => Ok(()),
            // Whose issuer nobody has told us is known by its origin.
            (Some(said), None) if same(said, &self.authorization) => Ok(()),
            (Some(_), _) => Err("the answer comes from another provider"),
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    let origin = crate::connection::origin(a);
    origin.is_some() && origin == crate::connection::origin(b)
}

/// As it stands in URLs and settings. `at-` begins the callbacks of those without a name.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=40).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with("at-")
}

/// Those that this build knows by name.
pub struct Built;

impl Built {
    pub const NAMES: [&'static str; 3] = ["github", "google", "slack"];

    pub fn named(name: &str) -> Option<Provider> {
        let of = |title: &str, authorization: &str, token: &str, revocation: &str, dialect| Provider {
            name: name.to_owned(),
            title: title.to_owned(),
            authorization_url: Some(authorization.to_owned()),
            token_url: Some(token.to_owned()),
            revocation_url: Some(revocation.to_owned()),
            dialect,
            client_auth: Some(ClientAuth::Body),
            ..Provider::default()
        };
        match name {
            "github" => Some(of(
                "GitHub",
                "https://github.com/login/oauth/authorize",
                "https://github.com/login/oauth/access_token",
                "https://api.github.com/applications",
                Dialect::Github,
            )),
            "google" => Some(Provider {
                issuer: Some("https://accounts.google.com".into()),
                ..of(
                    "Google",
                    "https://accounts.google.com/o/oauth2/v2/auth",
                    "https://oauth2.googleapis.com/token",
                    "https://oauth2.googleapis.com/revoke",
                    Dialect::Google,
                )
            }),
            "slack" => Some(of(
                "Slack",
                "https://slack.com/oauth/v2/authorize",
                "https://slack.com/api/oauth.v2.access",
                "https://slack.com/api/auth.revoke",
                Dialect::Slack,
            )),
            _ => None,
        }
    }
}

impl Provider {
    /// Is its name one that can be used?
    pub fn has_sound_name(&self) -> bool {
        is_name(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_other_providers_are_told_apart() {
        let known = |issuer: Option<&str>, names_itself| Endpoints {
            issuer: issuer.map(str::to_owned),
            authorization: "https://a.test/authorize".into(),
            names_itself,
            ..Endpoints::default()
        };
        let checked = |endpoints: &Endpoints, said| endpoints.check_issuer(said).is_ok();
        let honest = known(Some("https://a.test"), true);
        assert!(checked(&honest, Some("https://a.test")));
        assert!(!checked(&honest, None), "it promised to name itself");
        for other in ["https://a.test/", "https://A.test", "http://a.test", "https://a.test.evil.test", ""] {
            assert!(!checked(&honest, Some(other)), "{other}");
        }
        let silent = known(None, false);
        assert!(checked(&silent, None) && checked(&silent, Some("https://a.test/x")));
        assert!(!checked(&silent, Some("https://b.test")) && !checked(&silent, Some("a.test")));
    }

    #[test]
    fn what_is_built_in_is_sound() {
        for name in Built::NAMES {
            let provider = Built::named(name).unwrap();
            assert!(provider.has_sound_name() && provider.name == name);
            assert!(provider.token_url.unwrap().starts_with("https://"));
        }
        assert!(Built::named("gitlab").is_none());
        assert!(!is_name("at-a.test") && !is_name("a.b") && !is_name("A") && !is_name(""));
    }
}
