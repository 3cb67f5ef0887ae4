//! Forged, stolen and mended access tokens (RFC 8725): none of them may pass. Where a forgery needs the real signing
//! key, it is taken out of the test's own vault.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{Client, Server};

struct Forger {
    key: SigningKey,
    header: Value,
    claims: Value,
}

impl Forger {
    /// With the server's own signing key, and a good token as the pattern.
    async fn new(server: &Server, token: &str) -> Forger {
        let mut database = server.database().await;
        let (kid, wrapped): (String, Vec<u8>) =
            sqlx::query_as("select kid, wrapped from vault.signing_keys").fetch_one(&mut database).await.unwrap();
        let master = std::fs::read_to_string(server.data().join("master.key")).unwrap();
        let cipher = Aes256Gcm::new_from_slice(&STANDARD.decode(master.trim()).unwrap()).unwrap();
        let nonce: [u8; 12] = wrapped[..12].try_into().unwrap();
        let aad = format!("apiq signing key|{kid}");
        let payload = Payload { msg: &wrapped[12..], aad: aad.as_bytes() };
        let seed: [u8; 32] = cipher.decrypt(&Nonce::from(nonce), payload).unwrap().try_into().unwrap();
        let part = |n: usize| -> Value {
            let text = token.split('.').nth(n).unwrap();
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        Forger { key: SigningKey::from_bytes(&seed), header: part(0), claims: part(1) }
    }

    fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    fn with_header(&self, changes: Value) -> Value {
        merged(&self.header, changes)
    }

    fn with_claims(&self, changes: Value) -> Value {
        merged(&self.claims, changes)
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        sign(&self.key, header, claims)
    }

    /// Signed as HS256 with these bytes as the secret.
    fn hashed(&self, secret: &[u8]) -> String {
        let input = input(&self.with_header(json!({ "alg": "HS256" })), &self.claims);
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(secret).unwrap();
        mac.update(input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

/// `null` removes a member.
fn merged(base: &Value, changes: Value) -> Value {
    let mut merged = base.as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(merged.remove(name)),
            other => drop(merged.insert(name.clone(), other.clone())),
        }
    }
    Value::Object(merged)
}

fn input(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn sign(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let input = input(header, claims);
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()).to_bytes()))
}

async fn refuse_all(guest: &Client, forged: Vec<(&str, String)>) -> usize {
    let mut accepted = Vec::new();
    for (what, token) in &forged {
        let answer = guest.bearer(token).get("/auth/me").await;
        if answer.status != 401 {
            accepted.push(format!("{what}: {} {}", answer.status, answer.text));
        }
    }
    assert_eq!(accepted, [""; 0], "{} of {} forged tokens passed", accepted.len(), forged.len());
    forged.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_forged_token_passes() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let guest = server.anonymous();
    let forger = Forger::new(&server, &maria.access).await;
    let (header, claims) = (&forger.header, &forger.claims);

    // The controls: the forger's tools work.
    guest.bearer(&maria.access).get("/auth/me").await.data(200);
    guest.bearer(&forger.signed(header, claims)).get("/auth/me").await.data(200);

    let [head, body, signature]: [&str; 3] = maria.access.split('.').collect::<Vec<_>>().try_into().unwrap();
    let unsigned = |alg: &str| format!("{}.", input(&forger.with_header(json!({ "alg": alg })), claims));
    let stranger = SigningKey::from_bytes(&[7; 32]);
    let stranger_jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(stranger.verifying_key()) });
    let by_stranger = |changes: Value| sign(&stranger, &forger.with_header(changes), claims);
    let headed = |changes: Value| forger.signed(&forger.with_header(changes), claims);
    let claimed = |changes: Value| forger.signed(header, &forger.with_claims(changes));
    let owner = merged(claims, json!({ "role": "admin" }));
    let now = claims["iat"].as_i64().unwrap();

    let count = refuse_all(
        &guest,
        vec![
            ("alg none", unsigned("none")),
            ("alg nOnE", unsigned("nOnE")),
            ("alg NONE with the old signature", format!("{}{signature}", unsigned("NONE"))),
            ("alg empty", unsigned("")),
            ("HS256 with the public key", forger.hashed(&forger.public())),
            ("HS256 with the public key in base64", forger.hashed(STANDARD.encode(forger.public()).as_bytes())),
            ("HS256 with an empty key", forger.hashed(b"")),
            ("the right signature under another algorithm", headed(json!({ "alg": "ES256" }))),
            ("the algorithm's name in small letters", headed(json!({ "alg": "eddsa" }))),
            ("no typ", headed(json!({ "typ": null }))),
            ("typ JWT", headed(json!({ "typ": "JWT" }))),
            ("typ of a refresh token", headed(json!({ "typ": "rt+jwt" }))),
            ("no kid", headed(json!({ "kid": null }))),
            ("kid of nobody", headed(json!({ "kid": "0123456789abcdef" }))),
            ("kid that is a path", headed(json!({ "kid": "../../../../dev/null" }))),
            ("kid that is SQL", headed(json!({ "kid": "x' union select 'a' --" }))),
            ("crit that nobody understands", headed(json!({ "crit": ["b64x"], "b64x": false }))),
            ("a stranger's signature", by_stranger(json!({}))),
            ("a stranger's key in jwk", by_stranger(json!({ "jwk": stranger_jwk }))),
            ("a stranger's key in jku", by_stranger(json!({ "jku": "http://127.0.0.1:9/keys" }))),
            ("a stranger's key in x5u", by_stranger(json!({ "x5u": "http://127.0.0.1:9/cert" }))),
            (
                "another body under the signature",
                format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(owner.to_string())),
            ),
            ("another head under the signature", format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode("{}"))),
            ("half of the signature", format!("{head}.{body}.{}", &signature[..signature.len() / 2])),
            ("no signature", format!("{head}.{body}.")),
            ("two parts", format!("{head}.{body}")),
            ("four parts", format!("{}.x", maria.access)),
            ("another audience", claimed(json!({ "aud": "somebody-else" }))),
            ("no audience", claimed(json!({ "aud": null }))),
            ("another issuer", claimed(json!({ "iss": "somebody-else" }))),
            ("no issuer", claimed(json!({ "iss": null }))),
            ("expired", claimed(json!({ "iat": now - 1_000, "exp": now - 100 }))),
            ("expired a moment ago", claimed(json!({ "iat": now - 900, "exp": now - 1 }))),
            ("no expiry", claimed(json!({ "exp": null }))),
            ("the expiry as a text", claimed(json!({ "exp": format!("{}", now + 900) }))),
            ("issued in the future", claimed(json!({ "iat": now + 600, "exp": now + 1_500 }))),
            ("not before tomorrow", claimed(json!({ "nbf": now + 86_400 }))),
            ("no subject", claimed(json!({ "sub": null }))),
            ("the id of a workspace as the subject", claimed(json!({ "sub": claims["ws"] }))),
            ("a role that does not exist", claimed(json!({ "role": "root" }))),
            ("no token", String::new()),
            ("dots", "..".into()),
        ],
    )
    .await;
    assert!(count >= 25);

    let expired = claimed(json!({ "iat": now - 1_000, "exp": now - 100 }));
    let answer = guest.bearer(&expired).get("/connections").await;
    answer.refused(401, "TOKEN_EXPIRED");
    assert!(answer.header("www-authenticate").is_some_and(|text| text.contains("invalid_token")));
    server.finish().await;
}
