//! A third party with effects: it counts what was really done, and does a thing once per idempotency key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::stub::{Reply, Seen, Stub};

/// What was done: the body, and how often it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    pub body: Value,
    /// Requests with this key; all but the first did nothing.
    pub asked: u32,
}

#[derive(Default)]
struct Book {
    /// By idempotency key.
    orders: BTreeMap<String, Effect>,
    /// Without keys: every request is an effect.
    letters: Vec<Value>,
}

/// `POST /orders` is done once per `Idempotency-Key`; `POST /letters` takes no key; `GET /items` only reads.
pub struct Ledger {
    pub stub: Stub,
    book: Arc<Mutex<Book>>,
}

impl Ledger {
    /// Each effect takes `pace`: it is done first, and answered afterwards.
    pub async fn start(pace: Duration) -> Ledger {
        let book = Arc::<Mutex<Book>>::default();
        let shared = book.clone();
        let stub = Stub::start(move |seen| {
            let reply = answer(&shared, seen);
            if seen.method == "POST" { Reply::Late(pace, Box::new(reply)) } else { reply }
        })
        .await;
        Ledger { stub, book }
    }

    pub fn url(&self) -> &str {
        self.stub.url()
    }

    /// Effects by idempotency key.
    pub fn orders(&self) -> BTreeMap<String, Effect> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).orders.clone()
    }

    /// Effects without keys, in order.
    pub fn letters(&self) -> Vec<Value> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).letters.clone()
    }

    /// A connection to this party, with its document uploaded.
    pub fn connection(&self, name: &str) -> Value {
        json!({ "name": name, "spec": document(self.url()).to_string() })
    }
}

fn answer(book: &Mutex<Book>, seen: &Seen) -> Reply {
    let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
    match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/items") => Reply::json(200, &json!({ "items": [{ "id": 1 }, { "id": 2 }, { "id": 3 }], "total": 3 })),
        ("GET", path) if path.starts_with("/items/") => {
            let id = path.trim_start_matches("/items/");
            Reply::json(200, &json!({ "id": id, "label": format!("item {id}"), "query": seen.query }))
        }
        ("POST", "/orders") => {
            let Some(key) = seen.header("idempotency-key") else {
                return Reply::json(400, &json!({ "error": "send an Idempotency-Key" }));
            };
            let new = Effect { body: seen.json(), asked: 0 };
            let effect = book.orders.entry(key.to_owned()).or_insert(new);
            effect.asked += 1;
            Reply::json(201, &json!({ "orderId": key, "item": effect.body["item"] }))
        }
        ("POST", "/letters") => {
            book.letters.push(seen.json());
            Reply::json(201, &json!({ "letterId": book.letters.len() }))
        }
        ("GET", "/openapi.json") => Reply::json(200, &document("/")),
        _ => Reply::json(404, &json!({ "error": "nothing here" })),
    }
}

/// The OpenAPI document of this party.
pub fn document(server: &str) -> Value {
    let answer = |status: &str, properties: Value| {
        let schema = json!({ "type": "object", "properties": properties });
        json!({ status: { "description": "Done", "content": { "application/json": { "schema": schema } } } })
    };
    let body = |properties: Value| {
        let schema = json!({ "type": "object", "properties": properties });
        json!({ "required": true, "content": { "application/json": { "schema": schema } } })
    };
    let id = json!({ "name": "itemId", "in": "path", "required": true, "schema": { "type": "string" } });
    let colour = json!({ "name": "colour", "in": "query", "schema": { "type": "string" } });
    let key = json!({ "name": "Idempotency-Key", "in": "header", "schema": { "type": "string" } });
    let list = json!({ "items": { "type": "array", "items": { "type": "object", "properties": { "id": { "type": "integer" } } } } });
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Ledger", "version": "1" },
        "servers": [{ "url": server }],
        "paths": {
            "/items": { "get": { "operationId": "listItems", "summary": "List the items", "tags": ["items"],
                "responses": answer("200", list) } },
            "/items/{itemId}": { "get": { "operationId": "getItem", "summary": "Read one item", "tags": ["items"],
                "parameters": [id, colour],
                "responses": answer("200", json!({ "id": { "type": "string" }, "label": { "type": "string" } })) } },
            "/orders": { "post": { "operationId": "placeOrder", "summary": "Place an order", "tags": ["orders"],
                "parameters": [key], "requestBody": body(json!({ "item": {}, "run": {} })),
                "responses": answer("201", json!({ "orderId": { "type": "string" } })) } },
            "/letters": { "post": { "operationId": "sendLetter", "summary": "Send a letter", "tags": ["letters"],
                "requestBody": body(json!({ "text": {} })),
                "responses": answer("201", json!({ "letterId": { "type": "integer" } })) } },
        },
    })
}
