//! The gate: every operation of the document × every role × no credentials, against the committed table and the matrix.

use std::collections::BTreeSet;

use domain::actor::Role;
use domain::policy::{Permission, allows};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Server;

/// method, path, permission or `public`
const TABLE: &str = include_str!("permissions.tsv");
/// A well-formed id that nothing has.
const NOBODY: &str = "01h455vb4pex5vsknk084sn02q";

struct Operation {
    method: Method,
    path: String,
    /// `None`: public.
    permission: Option<Permission>,
}

fn table() -> Vec<Operation> {
    let rows = TABLE.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    rows.map(|row| {
        let [method, path, permission]: [&str; 3] = row.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let permission = (permission != "public").then(|| {
            let known = Permission::ALL.into_iter().find(|known| known.as_str() == permission);
            known.unwrap_or_else(|| panic!("no permission {permission}"))
        });
        Operation { method: method.parse().unwrap(), path: path.to_owned(), permission }
    })
    .collect()
}

/// `GET /connections/{id}` of every operation that a document has.
pub fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |path: &str, item: &Value| -> Vec<String> {
        let methods = item.as_object().unwrap().keys().filter(|name| *name != "parameters");
        methods.map(|method| format!("{} {path}", method.to_uppercase())).collect()
    };
    paths.iter().flat_map(|(path, item)| methods(path, item)).collect()
}

/// Each `{name}` becomes an id of the kind that the document asks for, or a plain word.
pub fn filled(document: &Value, method: &Method, path: &str, id: impl Fn(&str) -> String) -> String {
    let operation = &document["paths"][path][method.as_str().to_lowercase()];
    let mut url = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "path") {
        let pattern = parameter["schema"]["pattern"].as_str().unwrap_or_default();
        let prefix = pattern.trim_start_matches('^').split("_[").next().filter(|_| pattern.contains("_["));
        let plain = if parameter["name"] == "n" { "1" } else { "fetch" };
        let value = prefix.map_or_else(|| plain.to_owned(), &id);
        url = url.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap()), &value);
    }
    assert!(!url.contains('{'), "{path}: a parameter is not in the document");
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_and_every_role() {
    let server = Server::start().await;
    let guest = server.anonymous();
    let document = guest.get("/openapi").await.body;
    let table = table();

    let listed: BTreeSet<String> = table.iter().map(|row| format!("{} {}", row.method, row.path)).collect();
    assert_eq!(listed.len(), table.len(), "a row is there twice");
    let described = operations(&document);
    let missing: Vec<_> = described.difference(&listed).collect();
    let extra: Vec<_> = listed.difference(&described).collect();
    assert!(missing.is_empty() && extra.is_empty(), "not in the table: {missing:?}; not in the document: {extra:?}");

    let maria = server.account("maria").await;
    let mut clients = Vec::new();
    for role in Role::ALL {
        clients.push((role, maria.with_role(role.as_str()).await));
    }
    let mut wrong = Vec::new();
    let mut denials = 0;
    for row in &table {
        let described = &document["paths"][&row.path][row.method.as_str().to_lowercase()];
        let permission = row.permission.map_or("public", Permission::as_str);
        assert_eq!(described["x-permission"], permission, "{} {}", row.method, row.path);
        assert_eq!(described["security"] == json!([]), row.permission.is_none(), "{} {}", row.method, row.path);

        let path = filled(&document, &row.method, &row.path, |prefix| format!("{prefix}_{NOBODY}"));
        let body = || described["requestBody"].is_object().then(|| json!({}));
        let shown = format!("{} {path}", row.method);
        let status = guest.send(row.method.clone(), &path, body()).await.status;
        if (status == 401) != row.permission.is_some() && row.path != "/auth/login" && row.path != "/auth/refresh" {
            wrong.push(format!("{shown} without credentials: {status}"));
        }
        let Some(permission) = row.permission else { continue };
        for (role, client) in &clients {
            let answer = client.send(row.method.clone(), &path, body()).await;
            let fits = match allows(*role, permission) {
                true => answer.status < 500 && ![401, 403].contains(&answer.status),
                false => (answer.status, &answer.body["code"]) == (403, &json!("FORBIDDEN")),
            };
            denials += i64::from(answer.status == 403);
            if !fits {
                wrong.push(format!("{shown} as {}: {} {}", role.as_str(), answer.status, answer.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));

    let mut database = server.database().await;
    let recorded: i64 = sqlx::query_scalar("select count(*) from log.events where event_type = 'access.denied'")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(recorded, denials, "a refusal of a known actor leaves its event");
    assert!(denials > 60, "{denials}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_go_through_the_same_gate() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let viewer = maria.with_role("viewer").await;
    let guest = server.anonymous();
    let execution = format!("exec_{NOBODY}");
    let aliases = [
        ("POST", format!("/executions/{execution}"), false),
        ("POST", format!("/workflows/executions/{execution}/cancel"), false),
        ("GET", format!("/workflows/executions/{execution}"), true),
        ("GET", format!("/workflows/executions/{execution}/status"), true),
        ("POST", "/webhooks/outgoing".to_owned(), false),
    ];
    for (method, path, viewer_may) in aliases {
        let method: Method = method.parse().unwrap();
        let body = || (method == Method::POST).then(|| json!({}));
        guest.send(method.clone(), &path, body()).await.refused(401, "UNAUTHORIZED");
        let answer = viewer.send(method.clone(), &path, body()).await;
        match viewer_may {
            true => drop(answer.refused(404, "EXECUTION_NOT_FOUND").clone()),
            false => drop(answer.refused(403, "FORBIDDEN").clone()),
        }
        let old = guest.send_raw(method.clone(), &format!("/api{path}"), None).await;
        old.refused(401, "UNAUTHORIZED");
    }
    server.finish().await;
}
