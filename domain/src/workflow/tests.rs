//! Parsing and checking: every fault at once, with its path.

use serde_json::json;

use super::{check::Connections, *};
use crate::{
    ids::ConnectionId,
    operation::{Operation, Parameter, ParameterLocation, Property, RequestBody, Schema, SpecSummary},
};

fn fields(result: Result<impl std::fmt::Debug, Vec<crate::error::FieldError>>) -> Vec<String> {
    result.unwrap_err().into_iter().map(|f| f.field).collect()
}

fn operation(method: &str, path: &str, id: &str) -> Operation {
    Operation {
        method: method.into(),
        path: path.into(),
        operation_id: Some(id.into()),
        summary: None,
        description: None,
        tags: vec![],
        deprecated: false,
        parameters: vec![],
        request_body: None,
        responses: vec![],
        servers: vec![],
        security: None,
    }
}

fn spec() -> SpecSummary {
    let string = Schema { kind: "string".into(), ..Schema::default() };
    let mut get = operation("GET", "/customers/{customerId}", "getCustomer");
    get.parameters.push(Parameter {
        name: "customerId".into(),
        location: ParameterLocation::Path,
        required: true,
        description: None,
        schema: string.clone(),
    });
    let mut send = operation("POST", "/messages", "sendMessage");
    let property =
        |name: &str, required| Property { name: name.into(), required, read_only: false, schema: string.clone() };
    send.request_body = Some(RequestBody {
        required: true,
        content_type: "application/json".into(),
        schema: Schema {
            kind: "object".into(),
            properties: vec![property("to", true), property("text", false)],
            ..Schema::default()
        },
    });
    SpecSummary { operations: vec![get, send], ..SpecSummary::default() }
}

#[test]
fn shape_faults_are_all_named() {
    let bad = json!({
        "steps": [
            {"name": "A", "type": "api_call", "connectionId": "wf_x", "endpoint": "customers", "colour": 1,
             "headers": {"Authorization": "x"}, "timeout": "soon", "retry": {"maxAttempts": 0, "on": ["rain"]}},
            {"id": "a", "type": "transform"},
            {"id": "a b", "type": "launch"},
            {"type": "loop", "items": 3, "as": "steps"},
        ],
        "extra": true
    });
    let found = fields(Definition::parse(&bad));
    for wanted in [
        "steps[0].connectionId",
        "steps[0].method",
        "steps[0].endpoint",
        "steps[0].colour",
        "steps[0].headers.Authorization",
        "steps[0].timeout",
        "steps[0].retry.maxAttempts",
        "steps[0].retry.on",
        "steps[1].id",
        "steps[1].output",
        "steps[2].id",
        "steps[2].type",
        "steps[3].items",
        "steps[3].as",
        "steps[3].steps",
        "extra",
    ] {
        assert!(found.iter().any(|f| f == wanted), "{wanted} is missing in {found:?}");
    }
    assert_eq!(fields(Definition::parse(&json!([]))), [""]);
    assert_eq!(fields(Definition::parse(&json!({}))), ["steps"]);
}

#[test]
fn references_and_operations_are_checked_at_once() {
    let connection = ConnectionId::default();
    let definition = Definition::parse(&json!({
        "inputSchema": {"type": "object", "properties": {"id": {"type": "string"}}},
        "steps": [
            {"id": "get", "type": "api_call", "connectionId": connection, "operationId": "getCustomers"},
            {"id": "get2", "type": "api_call", "connectionId": connection, "method": "get", "endpoint": "/customers/{id}",
             "parameters": {"customerId": "{{ input.nope }}"}},
            {"id": "send", "type": "api_call", "connectionId": connection, "operationId": "sendMessage",
             "parameters": {"text": "{{ steps.later.output }} {{ secrets.key }}", "cc": "x"}},
            {"id": "later", "type": "transform", "output": "{{ steps.get2.outptu }}"},
        ],
        "output": "{{ broken"
    }))
    .unwrap();
    let spec = spec();
    let found = fields(check::check(&definition, &Connections::from([(connection, Some(&spec))]), &Default::default()));
    assert_eq!(
        found,
        [
            "steps[0].operationId",
            "steps[1].parameters.customerId",
            "steps[2].parameters.text",
            "steps[2].parameters.text",
            "steps[2].parameters.to",
            "steps[2].parameters.cc",
            "steps[3].output",
            "output",
        ]
    );
    let unknown = fields(check::check(&definition, &Connections::new(), &Default::default()));
    assert!(unknown.contains(&"steps[0].connectionId".to_owned()));
}

#[test]
fn a_good_workflow_is_bound_and_prints_back() {
    let connection = ConnectionId::default();
    let definition = Definition::parse(&json!({
        "steps": [
            {"name": "Get customer", "type": "api_call", "connectionId": connection, "method": "GET",
             "endpoint": "/customers/{customerId}", "parameters": {"customerId": "{{ input.id }}"}},
            {"type": "loop", "items": "{{ steps.get_customer.output.tags }}", "as": "tag", "steps": [
                {"id": "send", "type": "api_call", "connectionId": connection, "operationId": "sendMessage",
                 "parameters": {"to": "{{ tag }}", "text": "{{ index }}"}}]},
        ],
        "output": {"sent": "{{ steps.send }}"}
    }))
    .unwrap();
    let spec = spec();
    let bindings =
        check::check(&definition, &Connections::from([(connection, Some(&spec))]), &Default::default()).unwrap();
    assert_eq!(bindings["send"].path, "/messages");
    assert_eq!(bindings["get_customer"].parameters[0].1, ParameterLocation::Path);
    let printed = definition.to_json();
    assert_eq!(Definition::parse(&printed).unwrap(), definition);
}
