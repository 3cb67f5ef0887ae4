//! Stripe: customers, invoices and payments. Forms with brackets, and an idempotency key with everything that writes.

use ::http::Method;
use domain::{
    connector::kind::{Action, ConnectorType, Repeat},
    error::FieldError,
};
use serde_json::{Map, Value, json};

use super::{
    Caps, Connector, Input, Job, Outgoing, Wrong,
    outcome::{Refusal, by_status},
    slack::snake,
};
use crate::egress::{OutboundRequest, OutboundResponse};

const USUAL: &str = "https://api.stripe.com";

/// Seconds: Stripe keeps keys for a day at least, and an hour is for clocks and waiting.
const REMEMBERED: u32 = 23 * 3_600;

pub(super) struct Stripe;

/// An action that creates something: its fields, and those that it cannot do without.
fn creates(
    name: &'static str,
    title: &'static str,
    description: &'static str,
    required: &[&str],
    fields: Value,
) -> Action {
    let mut properties = json!({
        "description": { "type": "string" },
        "metadata": { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } },
        "more": { "type": "object", "description": "Further fields, as Stripe names them." },
    });
    if let (Some(map), Value::Object(fields)) = (properties.as_object_mut(), fields) {
        map.extend(fields);
    }
    Action {
        name,
        title,
        description,
        repeat: Repeat::KeyedFor(REMEMBERED),
        input: json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties }),
        output: object("The object as Stripe gives it."),
    }
}

fn object(description: &str) -> Value {
    json!({ "type": "object", "description": description, "properties": {
        "id": { "type": "string" }, "object": { "type": "string" }, "livemode": { "type": "boolean" },
    } })
}

impl Connector for Stripe {
    fn kind(&self) -> ConnectorType {
        let customer = json!({ "type": "string", "minLength": 1, "description": "Id: cus_…" });
        let currency =
            json!({ "type": "string", "pattern": "^[a-zA-Z]{3}$", "description": "Three letters of ISO 4217." });
        let amount = json!({ "type": "integer", "description": "In the currency's smallest unit: cents." });
        ConnectorType {
            name: "stripe",
            title: "Stripe",
            description: "Customers, invoices and payments.",
            credential_required: true,
            credential: json!({
                "type": "object", "required": ["apiKey"], "additionalProperties": false,
                "properties": {
                    "apiKey": { "type": "string", "minLength": 1, "maxLength": 4096, "writeOnly": true,
                                "description": "A secret (sk_…) or restricted (rk_…) key." },
                    "baseUrl": { "type": "string", "format": "uri",
                                 "description": "Where the key goes; https://api.stripe.com when absent." },
                },
            }),
            config: json!({
                "type": "object", "additionalProperties": false,
                "properties": {
                    "baseUrl": { "type": "string", "format": "uri" },
                    "apiVersion": { "type": "string", "pattern": "^[0-9a-zA-Z.-]{1,40}$", "description": "Stripe-Version." },
                    "account": { "type": "string", "pattern": "^acct_[0-9a-zA-Z]+$", "description": "Stripe-Account." },
                },
            }),
            actions: vec![
                creates(
                    "create_customer",
                    "Create a customer",
                    "POST /v1/customers.",
                    &[],
                    json!({
                        "email": { "type": "string" }, "name": { "type": "string" }, "phone": { "type": "string" },
                    }),
                ),
                creates(
                    "create_invoice",
                    "Create an invoice",
                    "POST /v1/invoices: a draft.",
                    &["customer"],
                    json!({
                        "customer": customer, "currency": currency, "autoAdvance": { "type": "boolean" },
                        "collectionMethod": { "enum": ["charge_automatically", "send_invoice"] },
                        "daysUntilDue": { "type": "integer", "minimum": 0 },
                    }),
                ),
                creates(
                    "create_invoice_item",
                    "Add an item to an invoice",
                    "POST /v1/invoiceitems.",
                    &["customer"],
                    json!({
                        "customer": customer, "amount": amount, "currency": currency,
                        "invoice": { "type": "string", "description": "Id: in_…; the customer's next one when absent." },
                        "quantity": { "type": "integer", "minimum": 1 },
                    }),
                ),
                creates(
                    "create_payment_intent",
                    "Create a payment intent",
                    "POST /v1/payment_intents.",
                    &["amount", "currency"],
                    json!({
                        "amount": { "type": "integer", "minimum": 1, "description": "In the currency's smallest unit: cents." },
                        "currency": currency, "customer": customer,
                        "paymentMethod": { "type": "string" }, "confirm": { "type": "boolean" },
                        "paymentMethodTypes": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                        "receiptEmail": { "type": "string" }, "returnUrl": { "type": "string" },
                    }),
                ),
                Action {
                    name: "retrieve_customer",
                    title: "Read a customer",
                    description: "GET /v1/customers/{customer}.",
                    repeat: Repeat::Safe,
                    input: json!({
                        "type": "object", "required": ["customer"], "additionalProperties": false,
                        "properties": { "customer": customer },
                    }),
                    output: object("The customer as Stripe gives it."),
                },
            ],
        }
    }

    fn check(&self, action: &str, input: &Input<'_>, _: &Caps) -> Vec<FieldError> {
        let mut faults = Vec::new();
        if action == "create_invoice_item" && input.has("amount") != input.has("currency") {
            let missing = if input.has("amount") { "currency" } else { "amount" };
            faults.push(FieldError::new(missing, "is required: amount and currency go together"));
        }
        if action == "create_invoice_item" && !input.has("amount") && !input.has("currency") && !input.has("more") {
            faults.push(FieldError::new("amount", "is required (or a price in more)"));
        }
        if input.text("customer").is_some_and(|id| id == "." || id == "..") {
            faults.push(FieldError::new("customer", "is no id"));
        }
        faults
    }

    fn request(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let path = match job.action {
            "create_customer" => "/v1/customers".to_owned(),
            "create_invoice" => "/v1/invoices".to_owned(),
            "create_invoice_item" => "/v1/invoiceitems".to_owned(),
            "create_payment_intent" => "/v1/payment_intents".to_owned(),
            _ => format!("/v1/customers/{}", super::http::segment(job.text("customer"))),
        };
        let url = format!("{}{path}", job.base(USUAL)?);
        if job.action == "retrieve_customer" {
            return Ok(Outgoing::Http(authorised(job, OutboundRequest::get(url))));
        }
        let mut request = OutboundRequest::new(Method::POST, url)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(form(job.input));
        if let Some(key) = job.key {
            request = request.header("Idempotency-Key", key);
        }
        Ok(Outgoing::Http(authorised(job, request)))
    }

    fn read(&self, _: &str, answer: &OutboundResponse) -> Result<Value, Refusal> {
        by_status("Stripe", answer).map_err(|refusal| {
            let output = answer.decoded();
            let word = output["error"]["code"].as_str().or_else(|| output["error"]["type"].as_str());
            // The first request with this key is still under way: the same as not yet.
            let like = if word == Some("idempotency_key_in_use") { 503 } else { refusal.like };
            match word {
                Some(word) if ![401, 429].contains(&answer.status) => Refusal::of_word("Stripe", word, like),
                _ => refusal,
            }
        })
    }

    fn probe(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let url = format!("{}/v1/balance", job.base(USUAL)?);
        Ok(Outgoing::Http(authorised(job, OutboundRequest::get(url))))
    }
}

fn authorised(job: &Job<'_>, mut request: OutboundRequest) -> OutboundRequest {
    for (name, field) in [("Stripe-Version", "apiVersion"), ("Stripe-Account", "account")] {
        if let Some(value) = job.config.get(field).and_then(Value::as_str) {
            request = request.header(name, value);
        }
    }
    let key = job.secret("apiKey").unwrap_or_default();
    request.sensitive_header("Authorization", format!("Bearer {key}")).follow_redirects(false)
}

/// `metadata[order]=7`, `payment_method_types[0]=card`.
fn form(input: &Map<String, Value>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in input.iter().filter(|(name, _)| *name != "more") {
        append(&mut form, &snake(name), value);
    }
    if let Some(Value::Object(more)) = input.get("more") {
        more.iter().for_each(|(name, value)| append(&mut form, name, value));
    }
    form.finish()
}

fn append(form: &mut url::form_urlencoded::Serializer<'_, String>, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(text) => drop(form.append_pair(name, text)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| append(form, &format!("{name}[{i}]"), item));
        }
        Value::Object(map) => map.iter().for_each(|(key, item)| append(form, &format!("{name}[{key}]"), item)),
        other => drop(form.append_pair(name, &other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::tests::{answered, http, object};

    fn sent(action: &str, input: Value, key: Option<&str>) -> OutboundRequest {
        http(&Stripe, action, input, json!({ "apiKey": "sk_1" }), key)
    }

    fn body(request: &OutboundRequest) -> String {
        let body = request.body.clone().unwrap_or_default();
        url::form_urlencoded::parse(&body).map(|(name, value)| format!("{name}={value};")).collect()
    }

    #[test]
    fn forms_have_brackets_and_writes_a_key() {
        let input = json!({
            "email": "a@b.test", "metadata": { "order": 7 }, "more": { "address": { "city": "Köln" } },
        });
        let request = sent("create_customer", input, Some("k1"));
        assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://api.stripe.com/v1/customers"));
        assert_eq!(body(&request), "email=a@b.test;metadata[order]=7;address[city]=Köln;");
        assert!(request.headers.contains(&("Idempotency-Key".into(), "k1".into())));
        assert!(request.headers.contains(&("Authorization".into(), "Bearer sk_1".into())));
        let intent =
            json!({ "amount": 1999, "currency": "eur", "paymentMethodTypes": ["card", "sepa_debit"], "confirm": true });
        let request = sent("create_payment_intent", intent, Some("k2"));
        assert_eq!(request.url, "https://api.stripe.com/v1/payment_intents");
        let expected =
            "amount=1999;currency=eur;payment_method_types[0]=card;payment_method_types[1]=sepa_debit;confirm=true;";
        let sorted = |text: &str| {
            let mut parts: Vec<_> = text.split(';').map(str::to_owned).collect();
            parts.sort();
            parts
        };
        assert_eq!(sorted(&body(&request)), sorted(expected));
        assert_eq!(
            sent("create_invoice", json!({ "customer": "cus_1" }), None).url,
            "https://api.stripe.com/v1/invoices"
        );
        let item = json!({ "customer": "cus_1", "amount": 5, "currency": "eur" });
        assert_eq!(sent("create_invoice_item", item, None).url, "https://api.stripe.com/v1/invoiceitems");
    }

    #[test]
    fn a_customer_is_read_by_id_which_adds_no_segments() {
        let request = sent("retrieve_customer", json!({ "customer": "cus_1/../x" }), None);
        assert_eq!((request.method.as_str(), request.body.is_none()), ("GET", true));
        assert_eq!(request.url, "https://api.stripe.com/v1/customers/cus_1%2F..%2Fx");
    }

    #[test]
    fn what_is_missing_is_named() {
        let faults = |input: Value| {
            let input = object(input);
            let found = Stripe.check("create_invoice_item", &Input::rendered(&input), &Caps::default());
            found.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
        };
        assert_eq!(faults(json!({ "customer": "c" })), ["amount"]);
        assert_eq!(faults(json!({ "customer": "c", "amount": 1 })), ["currency"]);
        assert_eq!(faults(json!({ "customer": "..", "currency": "eur" })), ["amount", "customer"]);
        assert_eq!(faults(json!({ "customer": "c", "more": { "pricing": { "price": "price_1" } } })), [""; 0]);
    }

    #[test]
    fn refusals_have_stripes_own_word() {
        let read = |status, body: Value| Stripe.read("create_customer", &answered(status, body)).unwrap_err();
        let declined =
            read(402, json!({ "error": { "type": "card_error", "code": "card_declined", "message": "4242" } }));
        assert_eq!((declined.code.as_str(), declined.like), ("STRIPE_CARD_DECLINED", 402));
        assert!(!declined.message.contains("4242"));
        let busy = read(409, json!({ "error": { "code": "idempotency_key_in_use" } }));
        assert_eq!(busy.like, 503);
        assert_eq!(read(429, json!({ "error": { "code": "rate_limit" } })).code, "HTTP_429");
    }
}
