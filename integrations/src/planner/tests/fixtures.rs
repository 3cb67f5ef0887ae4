//! Small specs for the tests, and a minimal reader of OpenAPI 3 documents so that planner and ingestion can be
//! tested apart from each other.

use std::sync::Arc;

use domain::operation::{
    Operation, Parameter, ParameterLocation, Property, RequestBody, Response, Schema, SpecSummary,
};
use serde_json::{Value, json};

use crate::planner::{Catalog, CatalogConnection};

pub fn connection(id: &str, name: &str, document: &Value) -> CatalogConnection {
    CatalogConnection { connection_id: id.to_owned(), name: name.to_owned(), spec: Arc::new(read(document)) }
}

/// The operations of a well-formed OpenAPI 3 document: enough for tests, not for strangers' documents.
pub fn read(document: &Value) -> SpecSummary {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, body) in item.as_object().into_iter().flatten() {
            if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                operations.push(operation(document, path, method, item, body));
            }
        }
    }
    SpecSummary { title: text(&document["info"]["title"]).unwrap_or_default(), operations, ..SpecSummary::default() }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(|s| s.trim().to_owned())
}

fn operation(document: &Value, path: &str, method: &str, item: &Value, body: &Value) -> Operation {
    let shared = item["parameters"].as_array().into_iter().flatten();
    let own = body["parameters"].as_array().into_iter().flatten();
    let request = resolve(document, &body["requestBody"]);
    let content = |value: &Value| {
        value["content"].as_object().and_then(|c| c.iter().next()).map(|(k, v)| (k.clone(), v["schema"].clone()))
    };
    let responses = body["responses"].as_object().into_iter().flatten().map(|(status, response)| {
        let response = resolve(document, response);
        Response {
            status: status.clone(),
            description: None,
            content_type: content(response).map(|c| c.0),
            schema: content(response).map(|c| schema(document, &c.1, 0)),
        }
    });
    Operation {
        method: method.to_uppercase(),
        path: path.to_owned(),
        operation_id: text(&body["operationId"]),
        summary: text(&body["summary"]),
        description: text(&body["description"]),
        tags: body["tags"].as_array().into_iter().flatten().filter_map(text).collect(),
        deprecated: body["deprecated"] == true,
        parameters: shared.chain(own).map(|p| parameter(document, p)).collect(),
        request_body: content(request).map(|(content_type, body)| RequestBody {
            required: request["required"] == true,
            content_type,
            schema: schema(document, &body, 0),
        }),
        responses: responses.collect(),
        servers: Vec::new(),
        security: None,
    }
}

fn parameter(document: &Value, value: &Value) -> Parameter {
    let value = resolve(document, value);
    Parameter {
        name: text(&value["name"]).unwrap_or_default(),
        location: serde_json::from_value(value["in"].clone()).unwrap_or(ParameterLocation::Query),
        required: value["required"] == true,
        description: text(&value["description"]),
        schema: schema(document, &value["schema"], 0),
    }
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|r| r.strip_prefix('#')).and_then(|p| document.pointer(p));
    target.map_or(value, |t| resolve(document, t))
}

fn schema(document: &Value, raw: &Value, depth: usize) -> Schema {
    if depth > 5 {
        return Schema { truncated: true, ..Schema::default() };
    }
    let value = resolve(document, raw);
    let parts = value["allOf"].as_array().or_else(|| value["oneOf"].as_array());
    let required: Vec<String> = value["required"].as_array().into_iter().flatten().filter_map(text).collect();
    let mut properties: Vec<Property> = value["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, inner)| Property {
            name: name.clone(),
            required: required.contains(name),
            read_only: inner["readOnly"] == true,
            schema: schema(document, inner, depth + 1),
        })
        .collect();
    for part in parts.into_iter().flatten() {
        properties.extend(schema(document, part, depth + 1).properties);
    }
    Schema {
        kind: text(&value["type"]).unwrap_or_else(|| if properties.is_empty() { "" } else { "object" }.to_owned()),
        format: text(&value["format"]),
        name: raw["$ref"].as_str().and_then(|r| r.rsplit('/').next()).map(str::to_owned),
        description: text(&value["description"]),
        properties,
        items: value.get("items").map(|i| Box::new(schema(document, i, depth + 1))),
        choices: value["enum"].as_array().cloned().unwrap_or_default(),
        example: value.get("example").cloned(),
        default_value: value.get("default").cloned(),
        ..Schema::default()
    }
}

fn string() -> Value {
    json!({"type": "string"})
}

fn email() -> Value {
    json!({"type": "string", "format": "email"})
}

fn answers(status: &str, schema: Value) -> Value {
    json!({ status: {"description": "ok", "content": {"application/json": {"schema": schema}}} })
}

fn takes(schema: Value) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": schema}}})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn customer_id() -> Value {
    json!({"name": "customerId", "in": "path", "required": true, "schema": string()})
}

/// A CRM: customers and their orders.
pub fn crm() -> CatalogConnection {
    let id = customer_id();
    connection(
        "conn_crm",
        "CRM",
        &json!({
            "info": {"title": "Sandbox CRM"},
            "paths": {
                "/crm/customers": {
                    "get": {
                        "operationId": "listCustomers", "summary": "List customers", "tags": ["customers"],
                        "parameters": [
                            {"name": "email", "in": "query", "description": "Only the customer with this e-mail", "schema": email()},
                            {"name": "limit", "in": "query", "schema": {"type": "integer"}}],
                        "responses": answers("200", json!({"type": "object", "properties": {
                            "customers": {"type": "array", "items": reference("Customer")}, "total": {"type": "integer"}}})),
                    },
                    "post": {
                        "operationId": "createCustomer", "summary": "Create a customer", "tags": ["customers"],
                        "requestBody": takes(json!({"type": "object", "required": ["email", "name"], "properties": {
                            "email": email(), "name": string(), "phone": string()}})),
                        "responses": answers("201", reference("Customer")),
                    },
                },
                "/crm/customers/{customerId}": {"get": {
                    "operationId": "getCustomer", "summary": "Get a customer", "tags": ["customers"],
                    "parameters": [id], "responses": answers("200", reference("Customer")),
                }, "delete": {
                    "operationId": "deleteCustomer", "summary": "Delete a customer", "tags": ["customers"],
                    "parameters": [id], "responses": {"204": {"description": "gone"}},
                }},
                "/crm/customers/{customerId}/orders": {"get": {
                    "operationId": "listCustomerOrders", "summary": "List a customer's orders", "tags": ["orders"],
                    "parameters": [id],
                    "responses": answers("200", json!({"type": "array", "items": reference("Order")})),
                }},
            },
            "components": {"schemas": {
                "Customer": {"type": "object", "properties": {
                    "id": string(), "email": email(), "name": string(), "status": {"type": "string", "enum": ["active", "blocked"]}}},
                "Order": {"type": "object", "properties": {
                    "id": string(), "customerId": string(), "amount": {"type": "number"}, "currency": string()}},
            }},
        }),
    )
}

/// A mailer: free messages, welcome messages, templates.
pub fn mailer() -> CatalogConnection {
    connection(
        "conn_mail",
        "Mailer",
        &json!({
            "info": {"title": "Sandbox mailer"},
            "paths": {
                "/mailer/messages": {
                    "post": {
                        "operationId": "sendMessage", "summary": "Send an e-mail", "tags": ["messages"],
                        "requestBody": takes(json!({"type": "object", "required": ["to", "subject"], "properties": {
                            "to": email(), "subject": string(), "text": string(), "template": string()}})),
                        "responses": answers("201", reference("Message")),
                    },
                    "get": {
                        "operationId": "listMessages", "summary": "List sent messages", "tags": ["messages"],
                        "responses": answers("200", json!({"type": "array", "items": reference("Message")})),
                    },
                },
                "/mailer/messages/welcome": {"post": {
                    "operationId": "sendWelcomeMessage", "summary": "Send a welcome email to a customer", "tags": ["messages"],
                    "requestBody": takes(json!({"type": "object", "required": ["to", "name"], "properties": {
                        "to": email(), "name": string()}})),
                    "responses": answers("201", reference("Message")),
                }},
                "/mailer/templates": {"get": {
                    "operationId": "listTemplates", "summary": "List message templates", "tags": ["templates"],
                    "responses": answers("200", json!({"type": "array", "items": {"type": "object", "properties": {
                        "id": string(), "name": string()}}})),
                }},
            },
            "components": {"schemas": {
                "Message": {"type": "object", "properties": {"id": string(), "to": email(), "status": string()}},
            }},
        }),
    )
}

pub fn sandbox() -> Catalog {
    Catalog::new(vec![crm(), mailer()])
}
