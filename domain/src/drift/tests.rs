//! Each rule once, and that equal documents have no drift.

use serde_json::{Value, json};

use super::*;

fn spec(operations: Value) -> SpecSummary {
    with(json!({ "operations": operations }))
}

fn with(mut summary: Value) -> SpecSummary {
    summary["specVersion"] = json!("3.1.0");
    summary["title"] = json!("t");
    summary["version"] = json!("1");
    serde_json::from_value(summary).unwrap()
}

fn get(path: &str) -> Value {
    json!({ "method": "GET", "path": path })
}

/// The sentences of a change to one operation, breaking ones first.
fn told(old: Value, new: Value) -> Vec<String> {
    let operation = |mut fields: Value| {
        fields["method"] = json!("POST");
        fields["path"] = json!("/a");
        spec(json!([fields]))
    };
    let drift = compare(&operation(old), &operation(new));
    assert_eq!(drift.detail_count, drift.details.len());
    assert_eq!(drift.breaking_count, drift.details.iter().filter(|d| d.breaking).count());
    drift.details.iter().map(|d| d.to_string().strip_prefix("POST /a: ").unwrap().to_owned()).collect()
}

fn body(schema: Value) -> Value {
    json!({ "requestBody": { "contentType": "application/json", "schema": schema } })
}

fn response(schema: Value) -> Value {
    json!({ "responses": [{ "status": "200", "contentType": "application/json", "schema": schema }] })
}

#[test]
fn operations_come_go_and_move() {
    let old = spec(json!([
        get("/same"),
        get("/gone"),
        { "method": "GET", "path": "/list", "operationId": "list" },
        get("/items/{id}"),
        { "method": "GET", "path": "/texts", "summary": "one" },
    ]));
    let new = spec(json!([
        get("/same"),
        { "method": "POST", "path": "/search", "operationId": "list" },
        get("/items/{itemId}"),
        get("/new"),
        { "method": "GET", "path": "/texts", "summary": "two" },
    ]));
    let drift = compare(&old, &new);
    assert_eq!(drift.removed, ["GET /gone", "GET /list", "GET /items/{id}"]);
    assert_eq!(drift.added, ["POST /search", "GET /items/{itemId}", "GET /new"]);
    assert_eq!(drift.changed, ["GET /texts"]);
    assert_eq!(drift.touched, drift.removed, "other texts touch nobody");
    let told: Vec<String> = drift.details.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "GET /gone: the operation is gone (breaking)",
            "GET /list: the operation is now POST /search (breaking)",
            "GET /items/{id}: the operation is now GET /items/{itemId} (breaking)",
            "GET /texts: the operation has other texts, examples or tags (not breaking)",
            "POST /search: the operation is new (not breaking)",
            "GET /items/{itemId}: the operation is new (not breaking)",
            "GET /new: the operation is new (not breaking)",
        ]
    );
    assert_eq!((drift.breaking_count, drift.detail_count), (3, 7));
    assert_eq!(compare(&old, &old), Drift::default());
}

#[test]
fn parameters() {
    let parameter = |name: &str, place: &str, required: bool, kind: &str| json!({ "name": name, "in": place, "required": required, "schema": { "type": kind } });
    let old = json!({ "parameters": [
        parameter("limit", "query", false, "integer"),
        parameter("page", "query", false, "integer"),
        parameter("key", "query", true, "string"),
        parameter("old", "query", false, "string"),
    ] });
    let new = json!({ "parameters": [
        parameter("limit", "query", true, "integer"),
        parameter("page", "query", false, "string"),
        parameter("key", "header", true, "string"),
        parameter("must", "query", true, "string"),
        parameter("may", "query", false, "string"),
    ] });
    assert_eq!(
        told(old, new),
        [
            "query parameter `limit` is now required (breaking)",
            "query parameter `page` is no longer integer but string (breaking)",
            "header parameter `key` was a query parameter before (breaking)",
            "query parameter `must` is new and required (breaking)",
            "query parameter `may` is new (not breaking)",
            "query parameter `old` is gone (not breaking)",
        ]
    );
}

#[test]
fn what_is_sent_must_stay_good() {
    let old = json!({ "type": "object", "properties": [
        { "name": "colour", "schema": { "type": "string", "enum": ["red", "green"] } },
        { "name": "size", "schema": { "type": "number" } },
        { "name": "note", "schema": { "type": "string", "nullable": true } },
        { "name": "tags", "schema": { "type": "array", "items": { "type": "string" } } },
        { "name": "gone", "schema": { "type": "string" } },
    ] });
    let new = json!({ "type": "object", "properties": [
        { "name": "colour", "required": true, "schema": { "type": "string", "enum": ["red", "blue"] } },
        { "name": "size", "schema": { "type": "integer" } },
        { "name": "note", "schema": { "type": "string" } },
        { "name": "tags", "schema": { "type": "array", "items": { "type": "integer" } } },
        { "name": "must", "required": true, "schema": { "type": "string" } },
        { "name": "id", "required": true, "readOnly": true, "schema": { "type": "string" } },
        { "name": "may", "schema": { "type": "string" } },
    ] });
    let place = "the request body, property";
    assert_eq!(
        told(body(old), body(new)),
        [
            format!("{place} `colour` is now required (breaking)"),
            format!("{place} `colour` can no longer be `\"green\"` (breaking)"),
            format!("{place} `size` is no longer number but integer (breaking)"),
            format!("{place} `note` may no longer be null (breaking)"),
            format!("{place} `tags`, each item, is no longer string but integer (breaking)"),
            format!("{place} `must` is new and required (breaking)"),
            format!("{place} `colour` can now also be `\"blue\"` (not breaking)"),
            format!("{place} `may` is new (not breaking)"),
            format!("{place} `gone` is gone (not breaking)"),
        ]
    );
    let typed = told(body(json!({})), body(json!({ "type": "string", "enum": ["a"] })));
    assert_eq!(
        typed,
        ["the request body must now be string (breaking)", "the request body must now be one of `\"a\"` (breaking)",]
    );
}

#[test]
fn what_is_read_must_stay_there() {
    let old = json!({ "type": "object", "properties": [
        { "name": "id", "required": true, "schema": { "type": "integer" } },
        { "name": "mail", "schema": { "type": "string" } },
        { "name": "address", "schema": { "type": "object", "properties": [{ "name": "city", "schema": { "type": "string" } }] } },
        { "name": "state", "schema": { "type": "string", "enum": ["on"] } },
    ] });
    let new = json!({ "type": "object", "properties": [
        { "name": "id", "schema": { "type": "number" } },
        { "name": "address", "schema": { "type": "object", "nullable": true } },
        { "name": "state", "schema": { "type": "string", "enum": ["on", "off"] } },
        { "name": "more", "schema": {} },
    ] });
    let place = "response 200, property";
    assert_eq!(
        told(response(old), response(new)),
        [
            format!("{place} `id` may now be absent (breaking)"),
            format!("{place} `id` is no longer integer but number (breaking)"),
            format!("{place} `address` may now be null (breaking)"),
            format!("{place} `address`, property `city` is gone (breaking)"),
            format!("{place} `mail` is gone (breaking)"),
            format!("{place} `state` can now also be `\"off\"` (not breaking)"),
            format!("{place} `more` is new (not breaking)"),
        ]
    );
    let failed = |schema: Value| json!({ "responses": [{ "status": "404", "schema": schema }] });
    let other = told(failed(json!({ "type": "object" })), failed(json!({ "type": "string" })));
    assert_eq!(other, ["response 404 has another schema (not breaking)"]);
    let gone = told(response(json!({})), json!({ "responses": [] }));
    assert_eq!(gone, ["response 200 is gone (breaking)"]);
}

#[test]
fn what_a_summary_leaves_out_is_not_called_gone() {
    let old = json!({ "type": "object", "properties": [{ "name": "a", "schema": { "type": "string" } }] });
    let cut = json!({ "type": "object", "truncated": true });
    assert_eq!(
        told(response(old.clone()), response(cut.clone())),
        ["the operation has other texts, examples or tags (not breaking)"]
    );
    let full = json!({ "type": "object", "properties": [{ "name": "a", "required": true, "schema": {} }] });
    assert_eq!(told(body(cut), body(full)).len(), 1);
    assert_eq!(told(response(old.clone()), response(old)), Vec::<String>::new());
}

#[test]
fn authorisation_by_the_operation_or_the_document() {
    let of = |default: Value, own: Value, scheme: Value| {
        let mut operation = get("/a");
        operation["security"] = own;
        let schemes = json!([{ "name": "key", "type": "apiKey", "in": "header", "parameterName": "X-Key" }, scheme]);
        with(json!({ "operations": [operation], "security": default, "securitySchemes": schemes }))
    };
    let key = || json!([{ "scheme": "key" }]);
    let bearer = || json!({ "name": "token", "type": "http", "scheme": "bearer" });
    let told = |old: &SpecSummary, new: &SpecSummary| -> Vec<String> {
        compare(old, new).details.iter().map(|d| d.to_string()).collect()
    };
    let open = of(json!([]), Value::Null, bearer());
    let closed = of(key(), Value::Null, bearer());
    assert_eq!(told(&open, &closed), ["GET /a: authorisation is now required: `key` (breaking)"]);
    assert_eq!(told(&closed, &open), ["GET /a: authorisation is no longer required (not breaking)"]);
    let own = of(json!([]), json!([{ "scheme": "token", "scopes": ["read"] }]), bearer());
    assert_eq!(
        told(&closed, &own),
        [
            "GET /a: authorisation by `key` is no longer accepted; it wants `token` (breaking)",
            "GET /a: authorisation by `token` is now accepted too (not breaking)",
        ]
    );
    let more = of(json!([]), json!([{ "scheme": "token", "scopes": ["read", "write"] }]), bearer());
    assert_eq!(told(&own, &more), ["GET /a: authorisation by `token` now needs the scopes `write` (breaking)"]);
    let basic = of(
        json!([]),
        json!([{ "scheme": "token", "scopes": ["read"] }]),
        json!({ "name": "token", "type": "http", "scheme": "Basic" }),
    );
    assert_eq!(
        told(&own, &basic),
        ["GET /a: authorisation by `token` is no longer http bearer but http basic (breaking)"]
    );
    assert_eq!(compare(&open, &closed).touched, ["GET /a"]);
}

#[test]
fn a_moved_server_is_told_of_the_document() {
    let at = |server: &str| with(json!({ "operations": [get("/a")], "servers": [server] }));
    let drift = compare(&at("https://a.test/v1"), &at("https://a.test/v2"));
    assert_eq!((drift.touched.len(), drift.changed.len(), drift.breaking_count), (0, 0, 0));
    assert!(drift.details[0].to_string().starts_with("document: the first server is now `https://a.test/v2`"));
}

#[test]
fn very_many_changes_are_counted_and_cut() {
    let many = |n: usize| spec(Value::Array((0..n).map(|n| get(&format!("/{n}"))).collect()));
    let drift = compare(&many(0), &many(6_000));
    assert_eq!((drift.details.len(), drift.detail_count), (5_000, 6_000));
}

/// Each compared with each would be 400 million comparisons: minutes.
#[test]
fn many_moved_operations_are_found_in_one_pass() {
    const MANY: usize = 20_000;
    let by_id =
        |path: &str, n: usize| json!({ "method": "GET", "path": format!("/{path}/{n}"), "operationId": n.to_string() });
    let by_shape = |name: &str, n: usize| get(&format!("/shape/{n}/{{{name}}}"));
    let of = |path: &str, name: &str| {
        // In another order each, so that nobody is found at once.
        let mut all: Vec<Value> = (0..MANY / 2).map(|n| by_id(path, n)).collect();
        all.extend((0..MANY / 2).map(|n| by_shape(name, n)));
        if path == "new" {
            all.reverse();
        }
        spec(Value::Array(all))
    };
    let (old, new) = (of("old", "id"), of("new", "itemId"));
    let began = std::time::Instant::now();
    let drift = compare(&old, &new);
    let took = began.elapsed();
    assert_eq!((drift.removed.len(), drift.added.len(), drift.breaking_count), (MANY, MANY, MANY));
    assert_eq!(drift.details[0].to_string(), "GET /old/0: the operation is now GET /new/0 (breaking)");
    assert!(drift.details.iter().filter(|change| change.breaking).all(|change| change.what.starts_with("is now ")));
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}

#[test]
fn of_several_that_could_be_the_moved_one_the_first_counts() {
    let old = spec(json!([{ "method": "GET", "path": "/a/{id}", "operationId": "one" }]));
    let by_id = json!({ "method": "POST", "path": "/b", "operationId": "one" });
    let by_shape = get("/a/{other}");
    for (operations, first) in [(json!([by_id, by_shape]), "POST /b"), (json!([by_shape, by_id]), "GET /a/{other}")] {
        let drift = compare(&old, &spec(operations));
        assert_eq!(drift.details[0].what, format!("is now {first}"));
    }
}
