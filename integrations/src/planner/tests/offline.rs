//! The offline planner on small APIs: what it chooses, wires, loops over, asks and refuses.

use serde_json::{Value, json};

use super::fixtures::{crm, mailer, sandbox};
use crate::planner::{Catalog, Message, PlanDraft, PlanError, PlanRequest, Role, plan_offline};

fn plan(message: &str) -> PlanDraft {
    plan_offline(&sandbox(), &request(message)).unwrap()
}

fn request(message: &str) -> PlanRequest {
    PlanRequest { message: message.to_owned(), ..PlanRequest::default() }
}

/// `METHOD /path` of every call, loops and conditions opened.
pub fn endpoints(steps: &[Value]) -> Vec<String> {
    steps
        .iter()
        .flat_map(|s| match s["type"].as_str() {
            Some("api_call") => vec![format!("{} {}", s["method"].as_str().unwrap(), s["endpoint"].as_str().unwrap())],
            Some("loop") => endpoints(s["steps"].as_array().unwrap()),
            _ => endpoints(s["then"].as_array().unwrap()),
        })
        .collect()
}

#[test]
fn the_seeds_example_comes_out_runnable() {
    let draft = plan("Get customer data from CRM and send a welcome email");
    assert_eq!(
        draft.steps,
        [
            json!({"id": "get_customer", "name": "Get a customer", "type": "api_call", "connectionId": "conn_crm",
                "operationId": "getCustomer", "method": "GET", "endpoint": "/crm/customers/{customerId}",
                "parameters": {"customerId": "{{ input.customerId }}"}}),
            json!({"id": "send_welcome_message", "name": "Send a welcome email to a customer", "type": "api_call",
                "connectionId": "conn_mail", "operationId": "sendWelcomeMessage", "method": "POST",
                "endpoint": "/mailer/messages/welcome",
                "parameters": {"to": "{{ steps.get_customer.output.email }}", "name": "{{ steps.get_customer.output.name }}"}}),
        ]
    );
    let schema = draft.input_schema.unwrap();
    assert_eq!(schema["required"], json!(["customerId"]));
    assert_eq!(schema["properties"]["customerId"]["type"], "string");
    assert_eq!(draft.questions.len(), 1);
    assert!(draft.questions[0].contains("customerId"));
    assert!(draft.warnings.is_empty(), "{:?}", draft.warnings);
    assert!(draft.confidence > 0.6 && draft.confidence < 0.95, "{}", draft.confidence);
    assert!(draft.explanation.contains("on Mailer, writes"), "{}", draft.explanation);
}

#[test]
fn a_plain_name_is_that_of_whom_the_mail_goes_to() {
    let mut mailer = mailer();
    for operation in &mut std::sync::Arc::make_mut(&mut mailer.spec).operations {
        operation.summary = operation.summary.as_ref().map(|s| s.replace(" to a customer", ""));
        if let Some(body) = &mut operation.request_body {
            body.schema.properties.reverse();
        }
    }
    let catalog = Catalog::new(vec![crm(), mailer]);
    let draft = plan_offline(&catalog, &request("Get customer data from CRM and send a welcome email")).unwrap();
    assert_eq!(
        draft.steps[1]["parameters"],
        json!({"to": "{{ steps.get_customer.output.email }}", "name": "{{ steps.get_customer.output.name }}"})
    );
}

#[test]
fn a_value_of_the_text_finds_the_customer() {
    let draft = plan("Find the customer with email ada@example.com and send a welcome email");
    assert_eq!(endpoints(&draft.steps), ["GET /crm/customers", "POST /mailer/messages/welcome"]);
    assert_eq!(draft.steps[0]["parameters"], json!({"email": "ada@example.com"}));
    assert_eq!(draft.steps[1]["parameters"]["to"], "{{ steps.list_customers.output.customers[0].email }}");
    assert_eq!(draft.input_schema, None);
    assert!(draft.questions.is_empty() && draft.warnings.is_empty(), "{:?}", draft.warnings);
}

#[test]
fn ids_of_the_text_fill_ids() {
    let draft = plan("Show the orders of customer #1042");
    assert_eq!(endpoints(&draft.steps), ["GET /crm/customers/{customerId}/orders"]);
    assert_eq!(draft.steps[0]["parameters"]["customerId"], "1042");
}

#[test]
fn labelled_values_go_to_their_inputs() {
    let draft =
        plan("Send an email to bob@example.com with subject \"Your order\" and text 'It is on its way, and more'");
    assert_eq!(endpoints(&draft.steps), ["POST /mailer/messages"]);
    assert_eq!(
        draft.steps[0]["parameters"],
        json!({"to": "bob@example.com", "subject": "Your order", "text": "It is on its way, and more"})
    );
}

#[test]
fn said_words_are_a_messages_text_though_it_is_optional() {
    let draft = plan("Send an email saying 'We are open' to bob@example.com with subject 'News'");
    assert_eq!(
        draft.steps[0]["parameters"],
        json!({"to": "bob@example.com", "subject": "News", "text": "We are open"})
    );
    assert!(draft.warnings.is_empty(), "{:?}", draft.warnings);
}

#[test]
fn each_of_a_list_becomes_a_loop() {
    for text in ["List all customers and send each of them a welcome email", "Send a welcome email to all customers"] {
        let draft = plan(text);
        assert_eq!(endpoints(&draft.steps), ["GET /crm/customers", "POST /mailer/messages/welcome"], "{text}");
        let looped = &draft.steps[1];
        assert_eq!(looped["type"], "loop");
        assert_eq!(looped["items"], "{{ steps.list_customers.output.customers }}");
        assert_eq!(looped["steps"][0]["parameters"], json!({"to": "{{ item.email }}", "name": "{{ item.name }}"}));
        assert_eq!(draft.input_schema, None, "{text}");
    }
}

#[test]
fn creation_is_wired_on() {
    let draft =
        plan("Create a customer named 'Ada Lovelace' with email ada@example.com, then send her a welcome email");
    assert_eq!(endpoints(&draft.steps), ["POST /crm/customers", "POST /mailer/messages/welcome"]);
    assert_eq!(draft.steps[0]["parameters"], json!({"email": "ada@example.com", "name": "Ada Lovelace"}));
    assert_eq!(draft.steps[1]["parameters"]["to"], "{{ steps.create_customer.output.email }}");
}

#[test]
fn a_later_reading_part_moves_before_its_use() {
    let draft = plan("Send a welcome email, get the customer");
    assert_eq!(endpoints(&draft.steps), ["GET /crm/customers/{customerId}", "POST /mailer/messages/welcome"]);
}

#[test]
fn conditions_are_expressed_or_asked() {
    let known = plan("Get the customer and if the customer is active send a welcome email");
    let step = &known.steps[1];
    assert_eq!(step["type"], "condition");
    assert_eq!(step["expression"], "{{ steps.get_customer.output.status == 'active' }}");
    assert_eq!(endpoints(&known.steps).len(), 2);
    assert!(known.warnings.is_empty(), "{:?}", known.warnings);

    let unknown = plan("Get the customer. If the weather is fine, send a welcome email, otherwise delete the customer");
    assert_eq!(unknown.steps[1]["expression"], "{{ input.conditionHolds }}");
    assert_eq!(unknown.steps[2]["expression"], "{{ not input.conditionHolds }}");
    assert_eq!(unknown.steps[2]["then"][0]["endpoint"], "/crm/customers/{customerId}");
    assert_eq!(unknown.warnings.len(), 1);
    assert!(unknown.warnings[0].contains("the weather is fine"), "{:?}", unknown.warnings);
    assert!(unknown.input_schema.unwrap()["properties"]["conditionHolds"]["type"] == "boolean");
}

#[test]
fn deletions_are_planned_only_when_said() {
    assert_eq!(endpoints(&plan("Delete customer #7").steps), ["DELETE /crm/customers/{customerId}"]);
    for text in ["customer", "the customer please", "update the customer", "Get rid info of the customer"] {
        let draft = plan_offline(&sandbox(), &request(text));
        let steps = draft.map(|d| endpoints(&d.steps)).unwrap_or_default();
        assert!(!steps.iter().any(|s| s.starts_with("DELETE")), "{text}: {steps:?}");
    }
}

#[test]
fn what_nothing_serves_is_said() {
    let error = plan_offline(&sandbox(), &request("Water the plants")).unwrap_err();
    assert_eq!(error, PlanError::NothingFits { parts: vec!["Water the plants".to_owned()] });
    let draft = plan("Get the customer and then play some jazz");
    assert_eq!(endpoints(&draft.steps), ["GET /crm/customers/{customerId}"]);
    assert!(draft.warnings[0].contains("play some jazz"), "{:?}", draft.warnings);
    assert!(draft.confidence < 0.5);
}

#[test]
fn bad_requests_are_refused() {
    let refuse = |message: &str, catalog: &Catalog| plan_offline(catalog, &request(message)).unwrap_err();
    assert_eq!(refuse("  … ", &sandbox()), PlanError::EmptyRequest);
    assert_eq!(refuse(&"a ".repeat(50_000), &sandbox()), PlanError::TooLong { length: 100_000 });
    assert_eq!(refuse("Get the customer", &Catalog::default()), PlanError::NoOperations);
    // Odd text is planned or refused, never a panic.
    for text in [
        "''''\"",
        "if",
        "if if unless then",
        "#",
        "@",
        "é'ß “ü",
        "and and, then;;; .",
        "🙂 🙂",
        "İf İs",
        "{{ secrets.x }}",
    ] {
        let _ = plan_offline(&sandbox(), &request(text));
    }
}

#[test]
fn a_follow_up_goes_on_from_what_was_asked() {
    let previous = vec![Message { role: Role::User, content: "Get the customer".to_owned() }];
    let request = PlanRequest { message: "also send a welcome email".to_owned(), previous, context: Value::Null };
    let draft = plan_offline(&sandbox(), &request).unwrap();
    assert_eq!(endpoints(&draft.steps), ["GET /crm/customers/{customerId}", "POST /mailer/messages/welcome"]);
}

#[test]
fn the_named_api_wins_and_search_ranks_by_meaning() {
    let catalog = sandbox();
    let first = |query: &str| {
        let hit = catalog.search(query, 1).remove(0);
        let connection = catalog.connections().iter().find(|c| c.connection_id == hit.connection_id).unwrap();
        let operation = &connection.spec.operations[hit.operation_index];
        format!("{} {}", operation.method, operation.path)
    };
    assert_eq!(first("welcome mail"), "POST /mailer/messages/welcome");
    assert_eq!(first("purchases of a client"), "GET /crm/customers/{customerId}/orders");
    assert_eq!(first("remove a customer"), "DELETE /crm/customers/{customerId}");
    assert_eq!(first("message templates"), "GET /mailer/templates");
    assert!(catalog.search("zebra", 5).is_empty());
    assert_eq!(catalog.search("customer", 2).len(), 2);
    let twice = Catalog::new(vec![crm(), mailer(), {
        let mut other = crm();
        other.connection_id = "conn_b".into();
        other.name = "Billing".into();
        other
    }]);
    let draft = plan_offline(&twice, &request("Get the customer from Billing")).unwrap();
    assert_eq!(draft.steps[0]["connectionId"], "conn_b");
}

#[test]
fn texts_of_a_document_never_become_templates() {
    let mut connection = crm();
    let spec = std::sync::Arc::make_mut(&mut connection.spec);
    let create = spec.operations.iter_mut().find(|o| o.method == "POST").unwrap();
    let body = &mut create.request_body.as_mut().unwrap().schema;
    body.properties[0].schema = domain::operation::Schema {
        kind: "string".to_owned(),
        choices: vec![json!("{{ steps.get_customer.output.email }}")],
        ..Default::default()
    };
    let name = body.properties[0].name.clone();
    let catalog = Catalog::new(vec![connection]);
    let draft = plan_offline(&catalog, &request("Create a customer")).unwrap();
    assert_eq!(draft.steps[0]["parameters"][&name], format!("{{{{ input.{name} }}}}"));
}

#[test]
fn twenty_thousand_operations_are_searched_fast() {
    let nouns =
        ["customer", "order", "invoice", "ticket", "project", "message", "channel", "server", "file", "payment"];
    let paths: serde_json::Map<String, Value> = (0..10_000)
        .map(|i| {
            let (a, b) = (nouns[i % 10], nouns[i / 10 % 10]);
            let list = json!({"summary": format!("List {a}s of a {b}"), "description": format!("Gives the {a}s that belong to {b} area{}.", i / 7),
                "responses": {"200": {"content": {"application/json": {"schema": {"type": "array", "items": {"type": "object", "properties": {
                    "id": {"type": "string"}, "name": {"type": "string"}, "email": {"type": "string"}}}}}}}}});
            let create = json!({"summary": format!("Create a {a}"), "requestBody": {"content": {"application/json": {"schema": {"type": "object",
                "required": ["name"], "properties": {"name": {"type": "string"}}}}}}});
            (format!("/area{}/{b}s/{{{b}Id}}/{a}s", i / 7), json!({"get": list, "post": create}))
        })
        .collect();
    let catalog = Catalog::new(vec![super::fixtures::connection("conn_big", "Big", &json!({"paths": paths}))]);
    assert!(catalog.len() >= 10_000, "{}", catalog.len());
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(
            catalog.search("show the unpaid invoices of a customer and send a message to the channel", 20).len(),
            20
        );
    }
    let each = began.elapsed() / 20;
    let began = std::time::Instant::now();
    let draft =
        plan_offline(&catalog, &request("Get the invoices of customer #7 and create a ticket named 'Check'")).unwrap();
    println!("{} operations: search {each:?}, plan {:?}", catalog.len(), began.elapsed());
    assert_eq!(draft.steps.len(), 2);
    // Unoptimised builds are an order of magnitude slower than what is promised for a release.
    let allowed = std::time::Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 20 });
    assert!(each < allowed, "{each:?}");
}
