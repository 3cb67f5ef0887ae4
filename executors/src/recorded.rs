//! What is recorded of a call shows no credential, not even where an API wants it in the path.

use std::collections::BTreeMap;

use domain::call::{CallFacts, without_secret};
use secrecy::ExposeSecret;

use crate::authorise::Opened;

/// The facts with the credential's values struck out of the path: the whole, each of several, a password behind its name.
pub(crate) fn shown(mut facts: CallFacts, opened: Option<&Opened>) -> CallFacts {
    let Some(opened) = opened else { return facts };
    let whole = opened.value.expose_secret();
    let several: BTreeMap<String, String> = serde_json::from_str(whole).unwrap_or_default();
    let password = whole.split_once(':').map(|(_, password)| password);
    for secret in several.values().map(String::as_str).chain(password).chain([whole]) {
        facts.path = without_secret(&facts.path, secret);
    }
    facts
}

#[cfg(test)]
mod tests {
    use domain::ids::CredentialId;
    use integrations::egress::OutboundRequest;

    use super::*;

    #[test]
    fn every_value_of_a_credential_is_struck_out() {
        let path = |secret: &str| {
            let opened = Opened { credential: CredentialId::default(), version: 1, value: secret.to_owned().into() };
            shown(OutboundRequest::get("https://a.test/t0ken1/t0ken2/items").facts(), Some(&opened)).path
        };
        assert_eq!(path("t0ken1"), "/[redacted]/t0ken2/items");
        assert_eq!(path("maria:t0ken2"), "/t0ken1/[redacted]/items");
        assert_eq!(path(r#"{"a":"t0ken1","b":"t0ken2"}"#), "/[redacted]/[redacted]/items");
    }
}
