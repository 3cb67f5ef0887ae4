//! Whose client a connection uses, and what it asks for: settings, no secret.

use serde::{Deserialize, Serialize};

use super::{provider, scope};
use crate::{connection::origin, error::Faults};

/// More scopes than this are nobody's.
const MAX_SCOPES: usize = 100;

/// The client of a connection with `authType: oauth2`; its secret, when it has one of its own, is the credential's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OauthClient {
    /// One of those that this installation knows; else `issuer`, or both endpoints, are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Its metadata names the endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_url: Option<String>,
    /// Absent: the client that the operator has set up with the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What is asked for; none: the provider's usual ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

impl OauthClient {
    /// The same client at the same provider: what was granted to one holds for the other.
    pub fn is_same(&self, other: &Self) -> bool {
        let without_scopes = |client: &Self| Self { scopes: Vec::new(), ..client.clone() };
        without_scopes(self) == without_scopes(other)
    }

    /// Is its secret the other's, too, and sent to the same place? What is shown to one provider is no other's to see.
    pub fn shares_secret(&self, other: &Self) -> bool {
        let place = |client: &Self| {
            let origins = [&client.token_url, &client.revocation_url].map(|url| url.as_deref().and_then(origin));
            (client.provider.clone(), client.issuer.clone(), client.client_id.clone(), origins)
        };
        place(self) == place(other)
    }

    /// Each URL that a person typed, with its field.
    pub fn urls(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("authConfig.issuer", self.issuer.as_deref()),
            ("authConfig.authorizationUrl", self.authorization_url.as_deref()),
            ("authConfig.tokenUrl", self.token_url.as_deref()),
            ("authConfig.revocationUrl", self.revocation_url.as_deref()),
        ]
    }

    /// Where the provider is, for its name and its callback: `auth.example.com`, `localhost-3000`. Without an issuer
    /// nobody vouches for the two endpoints being one provider's: a token endpoint that is elsewhere has its part in the
    /// name, so that the codes of one pair come back to no other one.
    pub fn host(&self) -> Option<String> {
        let url = self.issuer.as_deref().or(self.authorization_url.as_deref())?;
        let place = word(&origin(url)?)?;
        let token = self.token_url.as_deref().filter(|_| self.issuer.is_none()).and_then(origin);
        match token.filter(|token| Some(token) != origin(url).as_ref()) {
            Some(token) => Some(format!("{place}--{}", word(&token)?)),
            None => Some(place),
        }
    }

    /// Names every fault.
    pub fn check(&self, faults: &mut Faults) {
        let own = self.issuer.is_some() || self.authorization_url.is_some() || self.token_url.is_some();
        match &self.provider {
            Some(_) if own || self.revocation_url.is_some() => {
                faults.add("authConfig.provider", "does not stand beside endpoints: give one or the other");
            }
            Some(name) if !provider::is_name(name) => faults.add("authConfig.provider", "is no provider's name"),
            Some(_) => {}
            None if self.issuer.is_some() => {
                // Else one provider's codes would go to another's endpoint.
                let both = [("authorizationUrl", &self.authorization_url), ("tokenUrl", &self.token_url)];
                for (field, _) in both.iter().filter(|(_, url)| url.is_some()) {
                    faults.add(
                        format!("authConfig.{field}"),
                        "is what the issuer's metadata says: give one or the other",
                    );
                }
            }
            None if !own => {
                faults.add("authConfig.provider", "is required, or issuer, or authorizationUrl and tokenUrl");
            }
            None => {
                let both = [("authorizationUrl", &self.authorization_url), ("tokenUrl", &self.token_url)];
                for (field, _) in both.iter().filter(|(_, url)| url.is_none()) {
                    faults.add(format!("authConfig.{field}"), "is required where there is no issuer");
                }
            }
        }
        if self.provider.is_none() && own && self.client_id.is_none() {
            faults.add("authConfig.clientId", "is required for a provider of your own");
        }
        for (field, url) in self.urls() {
            check_url(field, url, faults);
        }
        if self.client_id.as_ref().is_some_and(|id| !scope::is_printable(id, 500)) {
            faults.add("authConfig.clientId", "must have 1 to 500 printable characters");
        }
        if self.scopes.len() > MAX_SCOPES || self.scopes.iter().any(|scope| !scope::is_token(scope)) {
            let message = format!("must be at most {MAX_SCOPES} scopes, of printable characters without quotes");
            faults.add("authConfig.scopes", message);
        }
    }
}

/// An origin's host and port, as they can stand in a path.
fn word(origin: &str) -> Option<String> {
    let (_, host) = origin.split_once("://")?;
    Some(host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect())
}

fn check_url(field: &str, url: Option<&str>, faults: &mut Faults) {
    let Some(url) = url else { return };
    let sound = url.len() <= 2_048 && !url.chars().any(|c| c.is_control() || c == '\\' || c == ' ');
    let authority = url.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match (url.starts_with("https://") || url.starts_with("http://"), authority) {
        (true, Some(authority)) if sound && !authority.is_empty() && !authority.contains('@') => {
            if url.contains('#') {
                faults.add(field, "must have no fragment");
            }
        }
        _ => faults.add(field, "must be an absolute https:// URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(client: &OauthClient) -> Vec<String> {
        let mut faults = Faults::default();
        client.check(&mut faults);
        faults.0.into_iter().map(|fault| fault.field.trim_start_matches("authConfig.").to_owned()).collect()
    }

    fn own() -> OauthClient {
        OauthClient {
            authorization_url: Some("https://a.test/authorize".into()),
            token_url: Some("https://a.test/token".into()),
            client_id: Some("id".into()),
            ..OauthClient::default()
        }
    }

    #[test]
    fn a_client_is_of_a_known_provider_or_names_its_own() {
        let known = OauthClient { provider: Some("github".into()), ..OauthClient::default() };
        assert!(faults(&known).is_empty() && faults(&own()).is_empty());
        let by_issuer = OauthClient { issuer: Some("https://a.test".into()), ..OauthClient::default() };
        assert_eq!(faults(&by_issuer), ["clientId"]);
        let both = OauthClient { issuer: Some("https://a.test".into()), ..own() };
        assert_eq!(faults(&both), ["authorizationUrl", "tokenUrl"], "of which the metadata speaks");
        assert_eq!(faults(&OauthClient::default()), ["provider"]);
        assert_eq!(faults(&OauthClient { provider: Some("github".into()), ..own() }), ["provider"]);
        assert_eq!(faults(&OauthClient { token_url: None, client_id: None, ..own() }), ["tokenUrl", "clientId"]);
    }

    #[test]
    fn urls_scopes_and_ids_are_looked_at() {
        for bad in ["ftp://a.test", "javascript:alert(1)", "https://u@a.test/t", "https://", "https://a.test/#x", "a b"]
        {
            assert_eq!(faults(&OauthClient { token_url: Some(bad.into()), ..own() }), ["tokenUrl"], "{bad}");
        }
        assert_eq!(faults(&OauthClient { scopes: vec!["a b".into()], ..own() }), ["scopes"]);
        assert_eq!(faults(&OauthClient { client_id: Some("a\nb".into()), ..own() }), ["clientId"]);
    }

    #[test]
    fn the_host_names_the_callback() {
        assert_eq!(own().host().as_deref(), Some("a.test"));
        let local = OauthClient { issuer: Some("http://Localhost:3000/x".into()), ..OauthClient::default() };
        assert_eq!(local.host().as_deref(), Some("localhost-3000"));
        let split = |token: &str| OauthClient { token_url: Some(token.into()), ..own() }.host();
        assert_eq!(split("https://A.test:443/else").as_deref(), Some("a.test"));
        assert_eq!(split("https://b.test/token").as_deref(), Some("a.test--b.test"));
        assert!(own().is_same(&OauthClient { scopes: vec!["a".into()], ..own() }));
        assert!(!own().is_same(&OauthClient { client_id: Some("other".into()), ..own() }));
    }
}
