//! A provider and its API on loopback that count, and misbehave on demand. Tokens are numbered: only the newest is good.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::client::{Answer, id};
use super::stub::{Reply, Seen, Stub};
use super::{Client, Server};

pub const SECRET: &str = "canary-secret-of-the-client-5d21";
pub const CODE: &str = "canary-code-91b3e0aa77";

#[derive(Default)]
pub struct Book {
    pub issued: u32,
    /// Seconds; absent: the answer does not say.
    pub expires_in: Option<u64>,
    /// Before a refresh is answered.
    pub pace: Duration,
    /// Access tokens up to this number are refused.
    pub refused: u32,
    /// `verifier` of the last exchange.
    pub verifier: String,
}

pub struct Fake {
    pub stub: Stub,
    book: Arc<Mutex<Book>>,
}

pub fn access(number: u32) -> String {
    format!("canary-access-{number:04}-6b7c8d9e")
}

pub fn refresh(number: u32) -> String {
    format!("canary-refresh-{number:04}-1f2e3d4c")
}

pub fn form(body: &[u8]) -> BTreeMap<String, String> {
    url_pairs(std::str::from_utf8(body).unwrap_or_default())
}

fn url_pairs(query: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://x/?{query}")).unwrap();
    url.query_pairs().into_owned().collect()
}

impl Fake {
    /// `names_itself`: it has metadata, and promises `iss` in each answer.
    pub async fn start(names_itself: bool) -> Fake {
        let book = Arc::<Mutex<Book>>::default();
        let shared = book.clone();
        let stub = Stub::start(move |seen| answer(&shared, seen, names_itself)).await;
        Fake { stub, book }
    }

    pub fn url(&self) -> &str {
        self.stub.url()
    }

    /// `at-127.0.0.1-4711`
    pub fn key(&self) -> String {
        format!("at-{}", self.url().trim_start_matches("http://").replace(':', "-"))
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refreshes that came here.
    pub fn refreshes(&self) -> usize {
        let seen = self.stub.seen_at("POST /token");
        seen.iter().filter(|seen| form(&seen.body)["grant_type"] == "refresh_token").count()
    }

    pub fn by_endpoints(&self) -> Value {
        json!({
            "authorizationUrl": format!("{}/authorize", self.url()), "tokenUrl": format!("{}/token", self.url()),
            "revocationUrl": format!("{}/revoke", self.url()), "clientId": "apiq", "clientSecret": SECRET,
            "scopes": ["read"],
        })
    }

    pub fn by_issuer(&self) -> Value {
        json!({ "issuer": self.url(), "clientId": "apiq", "clientSecret": SECRET, "scopes": ["read"] })
    }

    /// A connection to its API.
    pub async fn connection(&self, client: &Client, config: Value) -> String {
        let body = json!({ "name": "fake", "baseUrl": self.url(), "authType": "oauth2", "authConfig": config });
        id(&client.post("/connections", body).await.data(201)).to_owned()
    }
}

fn answer(book: &Mutex<Book>, seen: &Seen, names_itself: bool) -> Reply {
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    let host = seen.header("host").unwrap_or_default();
    match seen.route().as_str() {
        "GET /.well-known/openid-configuration" if names_itself => Reply::json(
            200,
            &json!({
                "issuer": format!("http://{host}"), "authorization_endpoint": format!("http://{host}/authorize"),
                "token_endpoint": format!("http://{host}/token"), "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
            }),
        ),
        "POST /token" => {
            let asked = form(&seen.body);
            let again = asked["grant_type"] == "refresh_token";
            if again && asked["refresh_token"] != refresh(book.issued) {
                return Reply::json(400, &json!({ "error": "invalid_grant", "error_description": "it is not known" }));
            }
            book.verifier = asked.get("code_verifier").cloned().unwrap_or_default();
            book.issued += 1;
            let mut tokens = json!({
                "access_token": access(book.issued), "refresh_token": refresh(book.issued), "token_type": "Bearer",
                "scope": "read",
            });
            if let Some(seconds) = book.expires_in {
                tokens["expires_in"] = json!(seconds);
            }
            let reply = Reply::json(200, &tokens);
            if again { Reply::Late(book.pace, Box::new(reply)) } else { reply }
        }
        "POST /revoke" => Reply::of(200, "text/plain", ""),
        "GET /api/me" => {
            let good = seen.header("authorization") == Some(&format!("Bearer {}", access(book.issued)));
            match good && book.issued > book.refused {
                true => Reply::json(200, &json!({ "sub": "maria" })),
                false => Reply::json(401, &json!({ "error": "invalid_token" })),
            }
        }
        _ => Reply::json(404, &json!({ "error": "nothing here" })),
    }
}

/// An authorization that was begun, as a browser holds it.
pub struct Way {
    pub state: String,
    pub challenge: String,
    pub cookie: String,
    pub path: String,
    pub authorization: BTreeMap<String, String>,
}

impl Way {
    pub async fn begin(client: &Client, connection: &str) -> Way {
        let begun = client.post("/oauth/authorize", json!({ "connectionId": connection })).await;
        Way::of(&begun)
    }

    pub fn of(begun: &Answer) -> Way {
        let data = begun.data(200);
        let url = reqwest::Url::parse(data["authorizationUrl"].as_str().unwrap()).unwrap();
        let authorization = url_pairs(url.query().unwrap());
        let redirect = reqwest::Url::parse(data["redirectUri"].as_str().unwrap()).unwrap();
        let cookie = begun.header("set-cookie").unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
        Way {
            state: authorization["state"].clone(),
            challenge: authorization["code_challenge"].clone(),
            cookie: cookie.split(';').next().unwrap().to_owned(),
            path: redirect.path().trim_start_matches("/api/v1").to_owned(),
            authorization,
        }
    }

    /// The answer of a provider, in this browser.
    pub async fn back(&self, server: &Server, more: &str) -> Answer {
        let guest = server.anonymous().header("cookie", &self.cookie);
        guest.get(&format!("{}?state={}&code={CODE}{more}", self.path, self.state)).await
    }
}

/// RFC 7636: is this verifier that challenge's?
pub fn belongs(verifier: &str, challenge: &str) -> bool {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes())) == challenge
}
