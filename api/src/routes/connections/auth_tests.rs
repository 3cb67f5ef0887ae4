//! What clients may send as `authConfig`, and what becomes of it.

use domain::{connection::AuthScheme, error::Faults};
use secrecy::ExposeSecret;

use super::auth::*;

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
