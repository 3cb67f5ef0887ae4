//! `APIQ_PUBLIC_URL` and `APIQ_OAUTH_PROVIDERS_FILE`: where browsers find this service, and its clients at OAuth
//! providers.

use domain::oauth::{Built, ClientAuth, Dialect, OauthClient, Provider, scope};
use secrecy::SecretString;
use serde::Deserialize;

/// A client of this installation.
#[derive(Debug, Clone)]
pub struct OauthSettings {
    pub provider: Provider,
    pub client_id: String,
    pub client_secret: Option<SecretString>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    providers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    title: Option<String>,
    issuer: Option<String>,
    authorization_url: Option<String>,
    token_url: Option<String>,
    revocation_url: Option<String>,
    client_id: String,
    client_secret: Option<String>,
    /// In place of the secret: a file that holds it.
    client_secret_file: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    /// `basic` or `body`; the metadata's word, else `basic`, when absent.
    client_auth: Option<ClientAuth>,
}

/// Without a slash at the end.
pub fn public_url(text: &str) -> Result<String, String> {
    let refuse = || format!("\"{text}\" is no URL such as https://apiq.example.com");
    let uri: poem::http::Uri = text.parse().map_err(|_| refuse())?;
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.is_empty() || authority.contains('@') {
        return Err(refuse());
    }
    if uri.query().is_some() || !matches!(uri.path(), "" | "/") {
        return Err("it must have no path and no query".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Every fault of the file in one sentence; none of them repeats a secret.
pub fn providers(path: &str) -> Result<Vec<OauthSettings>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read ({error})"))?;
    let file: File = serde_json::from_str(&text).map_err(|error| {
        // serde's sentence repeats what it has read.
        format!("{path} has not the form that is wanted, at line {} column {}", error.line(), error.column())
    })?;
    let (mut read, mut faults) = (Vec::new(), Vec::new());
    for (index, entry) in file.providers.into_iter().enumerate() {
        let at = format!("providers[{index}]");
        match entry.checked() {
            Ok(client) => {
                let twice = read.iter().any(|known: &OauthSettings| known.provider.name == client.provider.name);
                if twice {
                    faults.push(format!("{at}.name is there twice"));
                }
                read.push(client);
            }
            Err(found) => faults.extend(found.into_iter().map(|fault| format!("{at}.{fault}"))),
        }
    }
    if faults.is_empty() { Ok(read) } else { Err(format!("{path}: {}", faults.join("; "))) }
}

impl Entry {
    fn checked(self) -> Result<OauthSettings, Vec<String>> {
        let mut faults = Vec::new();
        let built = Built::named(&self.name);
        let mut provider = built.clone().unwrap_or_else(|| Provider { name: self.name.clone(), ..Provider::default() });
        if !provider.has_sound_name() {
            faults.push("name must be of a-z, 0-9 and -, and not begin with at-".to_owned());
        }
        let own = [&self.issuer, &self.authorization_url, &self.token_url, &self.revocation_url];
        if built.is_some() && own.iter().any(|url| url.is_some()) {
            faults.push("name is built in, with its endpoints; choose another one".to_owned());
        }
        if built.is_none() {
            let looks_right = OauthClient {
                issuer: self.issuer.clone(),
                authorization_url: self.authorization_url.clone(),
                token_url: self.token_url.clone(),
                revocation_url: self.revocation_url.clone(),
                client_id: Some(self.client_id.clone()),
                ..OauthClient::default()
            };
            let mut found = domain::error::Faults::default();
            looks_right.check(&mut found);
            let name = |field: &str| match field.trim_start_matches("authConfig.") {
                "provider" => "issuer".to_owned(),
                other => other.to_owned(),
            };
            faults.extend(found.0.iter().map(|fault| format!("{} {}", name(&fault.field), fault.message)));
            provider.dialect = Dialect::Standard;
            provider.title = self.name.clone();
            provider.issuer = self.issuer;
            provider.authorization_url = self.authorization_url;
            provider.token_url = self.token_url;
            provider.revocation_url = self.revocation_url;
        }
        provider.title = self.title.unwrap_or(provider.title);
        if self.client_id.trim().is_empty() {
            faults.push("clientId is empty".to_owned());
        }
        if self.scopes.iter().any(|scope| !scope::is_token(scope)) {
            faults.push("scopes must be scopes, each a text of its own".to_owned());
        }
        provider.scopes = self.scopes;
        provider.client_auth = self.client_auth.or(provider.client_auth);
        let secret = match (self.client_secret, self.client_secret_file) {
            (Some(_), Some(_)) => {
                faults.push("clientSecretFile stands beside clientSecret: give one of the two".to_owned());
                None
            }
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) => Some(text.trim().to_owned()),
                Err(error) => {
                    faults.push(format!("clientSecretFile {path} cannot be read ({error})"));
                    None
                }
            },
            (given, None) => given,
        };
        let client_secret = secret.filter(|secret| !secret.is_empty()).map(SecretString::from);
        match faults.is_empty() {
            true => Ok(OauthSettings { provider, client_id: self.client_id, client_secret }),
            false => Err(faults),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<OauthSettings>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("providers.json");
        std::fs::write(&path, text).unwrap();
        providers(path.to_str().unwrap())
    }

    #[test]
    fn built_in_ones_need_a_client_and_others_their_place() {
        let read = of(r#"{"providers":[
            {"name":"github","clientId":"a","clientSecret":"s","scopes":["repo"]},
            {"name":"acme","title":"Acme","issuer":"https://id.acme.test","clientId":"b"}]}"#)
        .unwrap();
        assert_eq!((read[0].provider.dialect, read[0].provider.title.as_str()), (Dialect::Github, "GitHub"));
        assert_eq!((read[1].provider.title.as_str(), read[1].client_secret.is_none()), ("Acme", true));
    }

    #[test]
    fn every_fault_is_named_and_no_secret() {
        let sentence = of(r#"{"providers":[
            {"name":"A b","clientId":"","tokenUrl":"ftp://x","clientSecret":"canary","clientSecretFile":"/x"},
            {"name":"slack","clientId":"a","issuer":"https://x.test"},{"name":"slack","clientId":"b"},{"name":"slack","clientId":"b"}]}"#)
        .unwrap_err();
        for part in [
            "providers[0].name",
            "authorizationUrl",
            "tokenUrl",
            "clientId",
            "clientSecretFile",
            "[1].name is built in",
            "[3].name is there twice",
        ] {
            assert!(sentence.contains(part), "{part}: {sentence}");
        }
        assert!(!sentence.contains("canary"));
        let sentence = of(r#"{"providers":[{"name":"a","clientSecret":"canary","colour":1}]}"#).unwrap_err();
        assert!(sentence.contains("line 1") && !sentence.contains("canary"), "{sentence}");
    }

    #[test]
    fn public_urls_are_origins() {
        assert_eq!(public_url("https://apiq.example.com/").unwrap(), "https://apiq.example.com");
        for bad in ["apiq.example.com", "ftp://x", "https://u:p@x.test", "https://x.test/path", "https://x.test/?q"] {
            assert!(public_url(bad).is_err(), "{bad}");
        }
    }
}
