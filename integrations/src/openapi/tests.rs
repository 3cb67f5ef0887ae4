//! Small documents of each version against their whole normalised form, and the comparison of two versions.

use serde_json::{Value, json};

use super::{Format, Limits, ingest};
use domain::operation::{Operation, SpecSummary};

fn read(text: &str) -> SpecSummary {
    ingest(text.as_bytes(), &Limits::default()).unwrap().summary
}

/// JSON text in the order as written: `json!` would sort the members, depending on serde_json's features.
macro_rules! text {
    ($($json:tt)*) => { stringify!($($json)*) };
}

fn warnings(summary: &SpecSummary) -> Vec<(&str, &str)> {
    summary.warnings.iter().map(|w| (w.pointer.as_str(), w.message.as_str())).collect()
}

/// The schema of the first operation's 200 response, of a 3.x document with these component schemas.
fn schema_of(schema: &str, components: &str) -> Value {
    let summary = read(&format!(
        r#"{{"openapi": "3.1.0", "info": {{"title": "t", "version": "1"}},
            "paths": {{"/a": {{"get": {{"responses": {{"200": {{
                "description": "", "content": {{"application/json": {{"schema": {schema}}}}}
            }}}}}}}}}},
            "components": {{"schemas": {components}}}}}"#
    ));
    serde_json::to_value(&summary.operations[0].responses[0].schema).unwrap()
}

#[test]
fn swagger_2_in_full() {
    let document = text!({
        "swagger": "2.0",
        "info": {"title": " Files ", "version": "1.0", "description": "Keeps files."},
        "host": "files.example.com", "basePath": "/v1", "schemes": ["http", "https", "wss"],
        "consumes": ["application/xml", "application/json"], "produces": ["application/json"],
        "securityDefinitions": {
            "basic": {"type": "basic"},
            "key": {"type": "apiKey", "in": "query", "name": "k"},
            "oauth": {"type": "oauth2", "flow": "implicit", "authorizationUrl": "https://a", "scopes": {"r": "read"}}
        },
        "security": [{"oauth": ["r"]}, {"key": []}],
        "parameters": {"limit": {"name": "limit", "in": "query", "type": "integer", "format": "int32", "default": 10}},
        "definitions": {"File": {
            "type": "object", "required": ["name"],
            "properties": {"name": {"type": "string"}, "id": {"type": "integer", "readOnly": true}}
        }},
        "paths": {
            "x-internal": {"get": {}},
            "/files/{id}": {
                "parameters": [
                    {"name": "id", "in": "path", "required": true, "type": "string", "description": "the file"},
                    {"$ref": "#/parameters/limit"}
                ],
                "put": {
                    "operationId": "putFile",
                    "parameters": [
                        {"name": "limit", "in": "query", "type": "integer", "required": true},
                        {"name": "file", "in": "body", "required": true, "schema": {"$ref": "#/definitions/File"}}
                    ],
                    "responses": {"200": {
                        "description": "ok", "schema": {"type": "array", "items": {"$ref": "#/definitions/File"}}
                    }}
                },
                "post": {
                    "schemes": ["http"], "security": [], "deprecated": true, "tags": ["files"], "summary": "Upload",
                    "parameters": [
                        {"name": "content", "in": "formData", "type": "file", "required": true},
                        {"name": "note", "in": "formData", "type": "string", "enum": ["a", "b"]}
                    ],
                    "responses": {"default": {"description": "?"}}
                }
            }
        }
    });
    let file = json!({"type": "object", "name": "File", "properties": [
        {"name": "name", "required": true, "schema": {"type": "string"}},
        {"name": "id", "readOnly": true, "schema": {"type": "integer"}}
    ]});
    let id = json!({"name": "id", "in": "path", "required": true, "description": "the file",
        "schema": {"type": "string"}});
    let expected = json!({
        "specVersion": "2.0", "title": "Files", "version": "1.0", "description": "Keeps files.",
        "servers": ["https://files.example.com/v1", "http://files.example.com/v1"],
        "securitySchemes": [
            {"name": "basic", "type": "http", "scheme": "basic"},
            {"name": "key", "type": "apiKey", "in": "query", "parameterName": "k"},
            {"name": "oauth", "type": "oauth2"}
        ],
        "security": [{"scheme": "oauth", "scopes": ["r"]}, {"scheme": "key"}],
        "operations": [
            {
                "method": "PUT", "path": "/files/{id}", "operationId": "putFile",
                "parameters": [id, {"name": "limit", "in": "query", "required": true, "schema": {"type": "integer"}}],
                "requestBody": {"required": true, "contentType": "application/json", "schema": file},
                "responses": [{"status": "200", "description": "ok", "contentType": "application/json",
                    "schema": {"type": "array", "items": file}}]
            },
            {
                "method": "POST", "path": "/files/{id}", "summary": "Upload", "tags": ["files"], "deprecated": true,
                "parameters": [id, {"name": "limit", "in": "query", "required": false,
                    "schema": {"type": "integer", "format": "int32", "default": 10}}],
                "requestBody": {"required": true, "contentType": "multipart/form-data", "schema": {
                    "type": "object", "properties": [
                        {"name": "content", "required": true, "schema": {"type": "string", "format": "binary"}},
                        {"name": "note", "schema": {"type": "string", "enum": ["a", "b"]}}
                    ]
                }},
                "responses": [{"status": "default", "description": "?"}],
                "servers": ["http://files.example.com/v1"], "security": []
            }
        ],
        "webhookCount": 0, "warnings": []
    });
    assert_eq!(serde_json::to_value(read(document)).unwrap(), expected);
}

const V30: &str = r##"
openapi: 3.0.3
info: {title: Pets, version: 1.10}
servers:
  - url: https://{region}.example.com:{port}/v1
    variables:
      region: {default: eu, enum: [eu, us]}
      port: {enum: ['443']}
security:
  - bearer: []
paths:
  /pets/{petId}?full={mode}#top:
    servers: [{url: https://pets.example.com}]
    parameters:
      - {name: petId, in: path, schema: {type: string}}
      - {name: verbose, in: query, description: from the path item, schema: {type: boolean}}
    get:
      operationId: 12
      parameters:
        - $ref: '#/components/parameters/Verbose%20Flag~1x'
        - {name: Authorization, in: header, schema: {type: string}}
        - name: filter
          in: query
          content: {application/json: {schema: {type: object, properties: {on: {type: string, example: yes}}}}}
      responses:
        200: {$ref: '#/components/responses/Pet'}
        4xx: {description: bad}
      security: [{}, {bearer: [], key: [read]}]
    patch:
      requestBody: {$ref: '#/components/requestBodies/Pet'}
      responses: {'204': {description: done}}
      servers: []
components:
  parameters:
    Verbose Flag/x: {name: verbose, in: query, required: true, schema: {type: boolean, default: false}}
  requestBodies:
    Pet:
      content:
        text/csv: {schema: {type: string}}
        application/merge-patch+json: {schema: {$ref: '#/components/schemas/Pet'}, example: {name: Rex}}
  responses:
    Pet: {description: A pet, content: {'*/*': {schema: {$ref: '#/components/schemas/Pet'}}}}
  schemas:
    Pet: {type: object, required: [name], properties: {name: {type: string, nullable: true, maxLength: 3}}}
  securitySchemes:
    bearer: {type: http, scheme: Bearer}
    key: {type: apiKey, in: header, name: X-Key}
"##;

#[test]
fn openapi_30_yaml_in_full() {
    let ingested = ingest(V30.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(ingested.format, Format::Yaml);
    let pet = json!({"type": "object", "name": "Pet", "properties": [
        {"name": "name", "required": true, "schema": {"type": "string", "nullable": true}}
    ]});
    let mut sent = pet.clone();
    sent["example"] = json!({"name": "Rex"});
    let path = "/pets/{petId}?full={mode}#top";
    let pet_id = json!({"name": "petId", "in": "path", "required": true, "schema": {"type": "string"}});
    let mode = json!({"name": "mode", "in": "path", "required": true, "schema": {"type": "string"}});
    let pointer = "/paths/~1pets~1{petId}?full={mode}#top";
    let undeclared = "the path parameter `mode` is not declared: taken as a string";
    let expected = json!({
        "specVersion": "3.0.3", "title": "Pets", "version": "1.10",
        "servers": ["https://eu.example.com:443/v1"],
        "securitySchemes": [
            {"name": "bearer", "type": "http", "scheme": "bearer"},
            {"name": "key", "type": "apiKey", "in": "header", "parameterName": "X-Key"}
        ],
        "security": [{"scheme": "bearer"}],
        "operations": [
            {
                "method": "GET", "path": path, "operationId": "12", "servers": ["https://pets.example.com"],
                "parameters": [
                    pet_id,
                    {"name": "verbose", "in": "query", "required": true,
                     "schema": {"type": "boolean", "default": false}},
                    {"name": "filter", "in": "query", "required": false, "schema": {"type": "object", "properties": [
                        {"name": "on", "schema": {"type": "string", "example": "yes"}}
                    ]}},
                    mode
                ],
                "responses": [
                    {"status": "200", "description": "A pet", "contentType": "application/json", "schema": pet},
                    {"status": "4XX", "description": "bad"}
                ],
                "security": [{"scheme": ""}, {"scheme": "bearer", "with": [{"scheme": "key", "scopes": ["read"]}]}]
            },
            {
                "method": "PATCH", "path": path, "servers": ["https://pets.example.com"],
                "parameters": [
                    pet_id,
                    {"name": "verbose", "in": "query", "required": false, "description": "from the path item",
                     "schema": {"type": "boolean"}},
                    mode
                ],
                "requestBody": {"required": false, "contentType": "application/merge-patch+json", "schema": sent},
                "responses": [{"status": "204", "description": "done"}]
            }
        ],
        "webhookCount": 0,
        "warnings": [
            {"pointer": format!("{pointer}/get"), "message": undeclared},
            {"pointer": format!("{pointer}/patch"), "message": undeclared}
        ]
    });
    assert_eq!(serde_json::to_value(ingested.summary).unwrap(), expected);
}

#[test]
fn openapi_31_in_full() {
    let document = text!({
        "openapi": "3.1.0", "info": {"title": "t", "version": "2"},
        "webhooks": {"pet": {"post": {"responses": {}}, "get": {"responses": {}}}, "x-no": {"post": {}}},
        "paths": {"/a": {"$ref": "#/components/pathItems/a", "summary": "ours"}},
        "components": {
            "pathItems": {"a": {"get": {"responses": {"200": {"description": "ok", "content": {
                "application/problem+json": {"schema": true},
                "application/json; charset=utf-8": {"schema": {
                    "type": ["object", "null"],
                    "properties": {
                        "size": {"type": ["integer", "null"], "default": null, "examples": [null]},
                        "any": {"type": ["integer", "string"]},
                        "kind": {"const": "cat"},
                        "owner": {"anyOf": [{"$ref": "person"}, {"type": "null"}], "description": "who"},
                        "when": {"$ref": "#when", "examples": ["2020-01-01"]}
                    }
                }}
            }}}}}},
            "schemas": {
                "P": {"$id": "person", "type": "object", "properties": {"name": {"type": "string"}}},
                "W": {"$anchor": "when", "type": "string", "format": "date"}
            }
        }
    });
    let expected = json!({
        "specVersion": "3.1.0", "title": "t", "version": "2",
        "servers": [], "securitySchemes": [], "security": [],
        "operations": [{"method": "GET", "path": "/a", "responses": [{
            "status": "200", "description": "ok", "contentType": "application/json; charset=utf-8",
            "schema": {"type": "object", "nullable": true, "properties": [
                {"name": "size", "schema": {"type": "integer", "nullable": true}},
                {"name": "any", "schema": {}},
                {"name": "kind", "schema": {"enum": ["cat"]}},
                {"name": "owner", "schema": {"type": "object", "name": "person", "description": "who",
                    "nullable": true, "properties": [{"name": "name", "schema": {"type": "string"}}]}},
                {"name": "when", "schema": {"type": "string", "format": "date", "name": "when",
                    "example": "2020-01-01"}}
            ]}
        }]}],
        "webhookCount": 2, "warnings": []
    });
    assert_eq!(serde_json::to_value(read(document)).unwrap(), expected);
}

#[test]
fn all_of_is_merged_and_alternatives_are_united() {
    let base = text!({"Base": {"required": ["id"], "properties": {"id": {"type": "integer"}, "x": {}}}});
    let merged = schema_of(
        text!({"allOf": [{"$ref": "#/components/schemas/Base"}, {"required": ["x", "y"]}],
            "properties": {"x": {"type": "string"}, "y": {"type": "boolean"}}}),
        base,
    );
    assert_eq!(
        merged,
        json!({"type": "object", "properties": [
            {"name": "id", "required": true, "schema": {"type": "integer"}},
            {"name": "x", "required": true, "schema": {"type": "string"}},
            {"name": "y", "required": true, "schema": {"type": "boolean"}}
        ]})
    );
    let united = schema_of(
        text!({"oneOf": [
            {"$ref": "#/components/schemas/Base"},
            {"type": "object", "required": ["z"], "properties": {"z": {"enum": [1]}}}
        ]}),
        base,
    );
    assert_eq!(
        united,
        json!({"type": "object", "properties": [
            {"name": "id", "schema": {"type": "integer"}},
            {"name": "x", "schema": {}},
            {"name": "z", "schema": {"enum": [1]}}
        ]})
    );
    let mixed = schema_of(text!({"anyOf": [{"type": "string", "enum": [""]}, {"type": "integer"}]}), "{}");
    assert_eq!(mixed, json!({}), "no type and no choices hold for both");
    let single = schema_of(text!({"allOf": [{"$ref": "#/components/schemas/Base"}], "nullable": true}), base);
    assert_eq!((&single["name"], &single["nullable"]), (&json!("Base"), &json!(true)));
}

#[test]
fn schemas_end_at_circles_depth_and_size() {
    let tree = text!({"T": {"type": "object", "properties": {
        "left": {"$ref": "#/components/schemas/T"}, "all": {"type": "array", "items": {"$ref": "#/components/schemas/T"}}
    }}});
    let stub = json!({"name": "T", "truncated": true});
    assert_eq!(
        schema_of(text!({"$ref": "#/components/schemas/T"}), tree),
        json!({"type": "object", "name": "T", "properties": [
            {"name": "left", "schema": stub}, {"name": "all", "schema": {"type": "array", "items": stub}}
        ]})
    );
    let deep = format!(r#"{}{{"type": "string"}}{}"#, r#"{"properties": {"p": "#.repeat(6), "}}".repeat(6));
    let found = schema_of(&deep, "{}");
    let at = |levels: usize| found.pointer(&"/properties/0/schema".repeat(levels)).cloned();
    assert_eq!(at(4), Some(json!({"type": "object", "truncated": true})));
    let many: Vec<String> = (0..90)
        .map(|i| format!(r#""p{i}": {{"properties": {{"a": {{}}, "b": {{}}, "c": {{}}, "d": {{}}}}}}"#))
        .collect();
    let wide = schema_of(&format!(r#"{{"properties": {{{}}}}}"#, many.join(", ")), "{}");
    let properties = wide["properties"].as_array().unwrap();
    assert_eq!(properties.len(), 90, "a fair share: all of the first level, then what is left");
    let below: usize = properties.iter().filter_map(|p| p["schema"]["properties"].as_array()).map(Vec::len).sum();
    assert_eq!(below, 60);
    assert!(properties.iter().all(|p| p["schema"]["type"] == "object"));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let summary = read(text!({
        "openapi": "3.0.0", "info": {"title": "t"},
        "paths": {
            "/a/{id}": {
                "get": {"operationId": "same", "parameters": [
                    {"name": "ID", "in": "path"}, {"in": "query"}, {"name": "b", "in": "body"},
                    {"$ref": "#/components/parameters/none"}
                ]},
                "post": {"$ref": "other.yaml#/post"},
                "put": 1
            },
            "/b": {"get": {"operationId": "same", "security": [{"who": []}], "requestBody": {},
                "responses": {"OK": {}, "200": {"$ref": "#/components/responses/none"}}}},
            "/c": []
        }
    }));
    let names: Vec<String> = summary.operations.iter().map(|o| format!("{} {}", o.method, o.path)).collect();
    assert_eq!(names, ["GET /a/{id}", "POST /a/{id}", "GET /b"]);
    assert!(summary.operations[..2].iter().all(|o| o.parameters.len() == 1 && o.parameters[0].name == "id"));
    assert_eq!(summary.operations[2].responses.len(), 1);
    assert_eq!(
        warnings(&summary),
        [
            ("/info", "`info` has no `version`"),
            ("/paths/~1a~1{id}/put", "an operation must be an object"),
            ("/paths/~1a~1{id}/get/parameters/1", "a parameter needs a `name` and an `in`: it is left out"),
            ("/paths/~1a~1{id}/get/parameters/0", "the path has no `{ID}`: the parameter is left out"),
            ("/paths/~1a~1{id}/get/parameters/2", "a parameter cannot be in `body`: it is left out"),
            ("/paths/~1a~1{id}/get", "the path parameter `id` is not declared: taken as a string"),
            ("/paths/~1a~1{id}/get", "the operation has no `responses`"),
            ("/paths/~1b/get/requestBody", "a request body needs `content`: it is left out"),
            ("/paths/~1b/get/responses/OK", "a response needs a status like 200, 2XX or default: it is left out"),
            ("/paths/~1b/get/security/0/who", "there is no security scheme `who`"),
            ("/paths/~1c", "a path item must be an object"),
            ("/paths/~1b/get", "the operationId `same` is used twice"),
            ("/paths/~1a~1{id}/get/parameters/3/$ref", "the reference `#/components/parameters/none` leads nowhere"),
            (
                "/paths/~1a~1{id}/post/$ref",
                "the reference `other.yaml#/post` is relative, and the document came without an address or other files"
            ),
            ("/paths/~1b/get/responses/200/$ref", "the reference `#/components/responses/none` leads nowhere"),
        ]
    );
}

#[test]
fn yaml_merge_keys_aliases_and_duplicates() {
    let summary = read(
        "swagger: 2.0\ninfo: {title: on, version: 0x1}\nx-base: &base\n  responses: &r {200: {description: yes}}\n  \
         summary: base\npaths:\n  /a:\n    get: {<<: *base, summary: own}\n    put: {<<: [*base]}\n  \
         /b: {get: {responses: {}}}\n  /b: {post: {responses: *r}}\n",
    );
    let rows: Vec<(&str, &str, Option<&str>, usize)> = summary
        .operations
        .iter()
        .map(|o: &Operation| (o.method.as_str(), o.path.as_str(), o.summary.as_deref(), o.responses.len()))
        .collect();
    let expected = [("GET", "/a", Some("own"), 1), ("PUT", "/a", Some("base"), 1), ("POST", "/b", None, 1)];
    assert_eq!(rows, expected);
    assert_eq!((summary.title.as_str(), summary.version.as_str()), ("on", "0x1"));
    assert_eq!(warnings(&summary), [("/paths/~1b", "the key is there twice; the last one counts")]);
}
