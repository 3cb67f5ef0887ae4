//! The OAuth client that a body names, over the one that the connection has.

use domain::{connection::AuthScheme, oauth::OauthClient};

/// The parts of a body that make a client.
#[derive(Debug, Default, Clone)]
pub struct ClientParts {
    pub provider: Option<String>,
    pub issuer: Option<String>,
    pub authorization_url: Option<String>,
    pub token_url: Option<String>,
    pub revocation_url: Option<String>,
    pub client_id: Option<String>,
    pub scopes: Option<Vec<String>>,
}

impl ClientParts {
    /// Does it say anything?
    pub fn is_empty(&self) -> bool {
        let texts = [&self.provider, &self.issuer, &self.authorization_url, &self.token_url];
        let more = [&self.revocation_url, &self.client_id];
        texts.iter().chain(&more).all(|text| text.is_none()) && self.scopes.is_none()
    }

    /// What is named anew counts; a provider that is named takes the place of the one before, with all its parts.
    pub fn over(self, present: &AuthScheme) -> OauthClient {
        let before = match present {
            AuthScheme::Oauth2 { client } => client.clone(),
            _ => OauthClient::default(),
        };
        let named = [&self.provider, &self.issuer, &self.authorization_url, &self.token_url];
        let moved = named.iter().any(|place| place.is_some());
        let kept = |given: Option<String>, before: Option<String>| given.or(before.filter(|_| !moved));
        OauthClient {
            provider: kept(self.provider, before.provider),
            issuer: kept(self.issuer, before.issuer),
            authorization_url: kept(self.authorization_url, before.authorization_url),
            token_url: kept(self.token_url, before.token_url),
            revocation_url: kept(self.revocation_url, before.revocation_url),
            client_id: kept(self.client_id, before.client_id),
            scopes: self.scopes.unwrap_or(before.scopes),
        }
    }
}
