//! The document and the permission table, as a whole.

use std::collections::BTreeSet;

use domain::{error::Code, policy::Permission};
use serde_json::Value;

use super::*;

fn document() -> Value {
    serde_json::from_str(document_text()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((method.clone(), path.clone(), operation.clone()));
        }
    }
    all
}

#[test]
fn every_operation_is_described_secured_and_says_how_it_fails() {
    let document = document();
    let all = operations(&document);
    assert!(all.len() >= 60, "{} operations", all.len());
    let public = [
        "/auth/login",
        "/auth/refresh",
        "/auth/register",
        "/health",
        "/health/live",
        "/health/ready",
        "/oauth/callback",
        "/oauth/callback/{provider}",
        "/oauth/connect",
        "/oauth/providers",
        "/openapi",
    ];
    for (method, path, operation) in all {
        let at = format!("{method} {path}");
        for field in ["summary", "operationId"] {
            assert!(operation[field].as_str().is_some_and(|text| !text.is_empty()), "{at}: {field}");
        }
        assert!(!operation["tags"].as_array().unwrap().is_empty(), "{at}: tags");
        let permission = operation["x-permission"].as_str().unwrap();
        let responses = operation["responses"].as_object().unwrap();
        if public.contains(&path.as_str()) {
            assert_eq!(permission, "public", "{at}");
            assert_eq!(operation["security"], serde_json::json!([]), "{at}");
        } else {
            assert!(Permission::ALL.iter().any(|p| p.as_str() == permission), "{at}: {permission}");
            assert_eq!(operation["security"].as_array().unwrap().len(), 2, "{at}");
            for status in ["401", "403", "422", "429", "500", "503"] {
                assert!(responses.contains_key(status), "{at}: {status}");
            }
        }
        if path.contains('{') {
            assert!(responses.contains_key("404"), "{at}: 404");
        }
        if operation["requestBody"].is_object() {
            for status in ["400", "413", "415", "422"] {
                assert!(responses.contains_key(status), "{at}: {status}");
            }
        }
        assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{at}");
        for (status, response) in responses {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{at}: {status}");
            // A redirect has no body.
            assert!(response["content"].is_object() || status.starts_with('3'), "{at}: {status}");
        }
        let notes = operation["security"].to_string();
        assert!(!notes.contains('|'), "{at}: a note was left in the document");
    }
}

#[test]
fn every_code_is_in_the_document() {
    let document = document();
    let introduction = document["info"]["description"].as_str().unwrap();
    for code in Code::ALL {
        assert!(introduction.contains(&format!("| `{}` | {} |", code.as_str(), status_of(code).as_u16())), "{code:?}");
    }
    let listed = &document["components"]["schemas"]["Error"]["properties"]["code"]["enum"];
    assert_eq!(listed.as_array().unwrap().len(), Code::ALL.len());
}

#[test]
fn references_lead_somewhere_and_requests_are_closed() {
    let document = document();
    let text = document.to_string();
    let names: BTreeSet<&str> =
        text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    for name in names {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    for (method, path, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let Some(name) = schema.as_str().and_then(|text| text.rsplit('/').next()) else { continue };
        let closed = &document["components"]["schemas"][name]["additionalProperties"];
        assert_eq!(closed, &Value::Bool(false), "{method} {path}");
    }
}

#[test]
fn every_request_has_an_example_that_its_schema_takes() {
    let document = document();
    let mut bodies = 0;
    for (method, path, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"]["application/json"];
        let Some(name) = content["schema"]["$ref"].as_str().and_then(|text| text.rsplit('/').next()) else { continue };
        bodies += 1;
        let schema = &document["components"]["schemas"][name];
        let example = content["example"].as_object().unwrap_or_else(|| panic!("{method} {path} has no example"));
        for field in example.keys() {
            assert!(schema["properties"][field].is_object(), "{method} {path}: {field} is not in {name}");
        }
        for field in schema["required"].as_array().into_iter().flatten() {
            assert!(example.contains_key(field.as_str().unwrap()), "{method} {path}: {field} is missing");
        }
    }
    assert!(bodies >= 20, "{bodies}");
}

#[test]
fn operation_ids_are_unique_and_aliases_lead_to_operations() {
    let document = document();
    let all = operations(&document);
    let ids: BTreeSet<&str> = all.iter().filter_map(|(_, _, operation)| operation["operationId"].as_str()).collect();
    assert_eq!(ids.len(), all.len());
    for (method, _, meant) in routes::ALIASES {
        assert!(all.iter().any(|(known, path, _)| known.to_uppercase() == method && path == meant), "{method} {meant}");
    }
}

/// The table that the black-box tests walk. `APIQ_UPDATE=1` writes it anew.
#[test]
fn the_permission_table_is_up_to_date() {
    let rows: Vec<_> =
        permissions().iter().map(|(method, path, permission)| format!("{method}\t{path}\t{permission}\n")).collect();
    let text = format!("# method\tpath\tpermission\n{}", rows.concat());
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/permissions.tsv");
    if std::env::var_os("APIQ_UPDATE").is_some() {
        std::fs::write(file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap_or_default(), text, "write it anew with APIQ_UPDATE=1");
}

#[test]
fn the_page_holds_the_completed_document_and_nothing_from_elsewhere() {
    let page = docs::page(&service().swagger_ui_html(), &service().spec(), document_text());
    assert!(page.contains("x-permission"), "the completed document is in the page");
    assert!(!page.contains("<script src=") && !page.contains("<link"), "all is inside");
}
