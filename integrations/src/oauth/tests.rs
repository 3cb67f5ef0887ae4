//! Answers of good and bad providers, as they come over the wire.

use bytes::Bytes;
use domain::oauth::{Dialect, Endpoints, Fault, FaultKind};
use serde_json::{Value, json};
use url::Url;

use super::{answer, authorization};
use crate::egress::OutboundResponse;

fn answered(status: u16, kind: &str, body: &str) -> OutboundResponse {
    OutboundResponse {
        status,
        headers: vec![("content-type".into(), kind.into())],
        body: Bytes::from(body.to_owned()),
        final_url: String::new(),
        elapsed: Default::default(),
        redirects: 0,
        attempts: 1,
        retry_after: None,
        rate_limit: None,
    }
}

fn endpoints(dialect: Dialect) -> Endpoints {
    Endpoints {
        issuer: Some("https://a.test".into()),
        authorization: "https://a.test/authorize?tenant=7".into(),
        token: "https://a.test/token".into(),
        client_id: "client".into(),
        dialect,
        ..Endpoints::default()
    }
}

fn read(dialect: Dialect, status: u16, kind: &str, body: &str) -> Result<Value, Fault> {
    let read = answer::read(&answered(status, kind, body), &endpoints(dialect), &["the-code-1"], Some("n1"))?;
    Ok(serde_json::from_slice(&read).unwrap())
}

const JSON: &str = "application/json";

#[test]
fn good_answers_of_all_forms_become_one() {
    let github = "access_token=gho_1&scope=repo%2Cuser&token_type=bearer";
    let read_github = read(Dialect::Github, 200, "application/x-www-form-urlencoded; charset=utf-8", github).unwrap();
    assert_eq!(read_github, json!({ "access_token": "gho_1", "token_type": "bearer", "scope": "repo user" }));
    let slack = r#"{"ok":true,"access_token":"xoxb-1","token_type":"bot","scope":"chat:write,users:read","expires_in":43200,
        "refresh_token":"xoxe-1","authed_user":{"id":"U1"}}"#;
    let slack = read(Dialect::Slack, 200, JSON, slack).unwrap();
    assert_eq!((&slack["scope"], &slack["refresh_token"]), (&json!("chat:write users:read"), &json!("xoxe-1")));
    let person = r#"{"ok":true,"authed_user":{"access_token":"xoxp-1","scope":"search:read","token_type":"user"}}"#;
    assert_eq!(read(Dialect::Slack, 200, JSON, person).unwrap()["access_token"], "xoxp-1");
    let sloppy = r#"{"access_token":"t","expires_in":"3600","scope":["a","b"],"refresh_token":null}"#;
    let sloppy = read(Dialect::Standard, 200, "text/plain", sloppy).unwrap();
    assert_eq!(
        (&sloppy["expires_in"], &sloppy["scope"], sloppy.get("refresh_token")),
        (&json!(3600), &json!("a b"), None)
    );
    for endless in ["0", "-1", "\"soon\"", "null"] {
        let body = format!(r#"{{"access_token":"t","expires_in":{endless}}}"#);
        assert_eq!(read(Dialect::Standard, 200, JSON, &body).unwrap().get("expires_in"), None, "{endless}");
    }
}

#[test]
fn bad_answers_are_named() {
    use FaultKind::*;
    for (dialect, status, kind, body, expected, words) in [
        (Dialect::Standard, 200, "text/html", "<html>log in</html>", Unreadable, "a web page"),
        (Dialect::Standard, 502, "text/html", "<h1>Bad gateway</h1>", Unreachable, "502 with a web page"),
        (Dialect::Standard, 200, JSON, "", Unreadable, "200 with nothing"),
        (Dialect::Standard, 200, JSON, "[1]", Unreadable, "neither JSON nor a form"),
        (Dialect::Standard, 302, JSON, "{}", Unreadable, "a redirect"),
        (Dialect::Standard, 200, JSON, "{}", Unreadable, "without an access token"),
        (Dialect::Standard, 200, JSON, r#"{"access_token":""}"#, Unreadable, "without an access token"),
        (Dialect::Standard, 200, JSON, r#"{"access_token":"a\r\nb"}"#, Unreadable, "cannot be sent"),
        (Dialect::Standard, 200, JSON, r#"{"access_token":"t","token_type":"mac"}"#, Unreadable, "type mac"),
        (Dialect::Standard, 400, JSON, r#"{"error":"invalid_grant"}"#, GrantGone, "400 invalid_grant"),
        (Dialect::Standard, 401, JSON, r#"{"error":"invalid_client"}"#, Refused, "invalid_client"),
        (Dialect::Standard, 403, JSON, "{}", Refused, "403 without saying why"),
        (Dialect::Standard, 503, JSON, r#"{"error":"temporarily_unavailable"}"#, Unreachable, "503"),
        (Dialect::Github, 200, JSON, r#"{"error":"bad_verification_code"}"#, Refused, "bad_verification_code"),
        (Dialect::Github, 200, "text/plain", "error=bad_refresh_token", GrantGone, "bad_refresh_token"),
        (Dialect::Slack, 200, JSON, r#"{"ok":false,"error":"invalid_refresh_token"}"#, GrantGone, "invalid_refresh"),
        (Dialect::Slack, 200, JSON, r#"{"ok":false}"#, Refused, "an error without a name"),
    ] {
        let fault = read(dialect, status, kind, body).unwrap_err();
        assert_eq!(fault.kind, expected, "{body}: {fault}");
        assert!(fault.words.contains(words), "{body}: {fault}");
    }
    let echo = r#"{"error":"invalid_request","error_description":"the-code-1 is not known"}"#;
    let fault = read(Dialect::Standard, 400, JSON, echo).unwrap_err();
    assert!(!fault.words.contains("the-code-1") && fault.words.contains("[redacted]"), "{fault}");
}

#[test]
fn an_id_token_is_of_this_authorization() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let of = |claims: Value| {
        let token = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims.to_string()));
        read(Dialect::Standard, 200, JSON, &json!({ "access_token": "t", "id_token": token }).to_string())
    };
    let claims = |nonce: &str, iss: &str, aud: &str| json!({ "nonce": nonce, "iss": iss, "aud": [aud] });
    assert!(of(claims("n1", "https://a.test", "client")).is_ok());
    for (bad, why) in [
        (claims("n0", "https://a.test", "client"), "nonce"),
        (claims("n1", "https://b.test", "client"), "issuer"),
        (claims("n1", "https://a.test", "other"), "client"),
    ] {
        assert!(of(bad).unwrap_err().words.contains(why), "{why}");
    }
}

#[test]
fn a_person_is_sent_with_pkce_and_what_the_provider_wants() {
    let of = |dialect, scopes: &[&str]| {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let (url, verifier) =
            authorization(&endpoints(dialect), "https://us.test/cb", &scopes, &"st".to_owned().into(), "n1").unwrap();
        let url = Url::parse(&url).unwrap();
        let pairs: std::collections::BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        (pairs, verifier)
    };
    let (standard, verifier) = of(Dialect::Standard, &["openid", "a"]);
    for (name, value) in [
        ("tenant", "7"),
        ("response_type", "code"),
        ("client_id", "client"),
        ("redirect_uri", "https://us.test/cb"),
        ("state", "st"),
        ("scope", "openid a"),
        ("nonce", "n1"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(standard[name], value, "{name}");
    }
    assert!(!standard.values().any(|value| value == secrecy::ExposeSecret::expose_secret(&verifier)));
    assert_eq!(of(Dialect::Google, &["a"]).0["access_type"], "offline");
    let (slack, _) = of(Dialect::Slack, &["a", "b"]);
    assert_eq!((slack["scope"].as_str(), slack.contains_key("nonce")), ("a,b", false));
}
