//! The sandbox mailer: it keeps the e-mails it is told to send, behind a bearer token. No mail leaves this machine.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poem::http::StatusCode;
use poem::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use poem::web::{Data, Path};
use poem::{Body, Endpoint, EndpointExt, Error, IntoResponse, Request, Response, Route, get, handler, post};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{answer, not_found, now, problem};

/// Messages kept, and with them their idempotency keys; the oldest goes when another one comes.
const MAX_MESSAGES: usize = 1_000;
const MAX_KEY_BYTES: usize = 255;

/// As in the document's `Template`. `{{name}}` in subject and text stands for the variable.
#[derive(Serialize)]
struct Template {
    id: &'static str,
    description: &'static str,
    subject: &'static str,
    text: &'static str,
    variables: &'static [&'static str],
}

static TEMPLATES: [Template; 2] = [
    Template {
        id: "welcome",
        description: "Greets a new customer",
        subject: "Welcome, {{name}}!",
        text: "Hello {{name}},\n\nit is good to have you with us. Answer this e-mail whenever you have a question.",
        variables: &["name"],
    },
    Template {
        id: "order_shipped",
        description: "Tells a customer that an order is on its way",
        subject: "Your order {{orderId}} is on its way",
        text: "Hello {{name}},\n\nyour order {{orderId}} has left our warehouse.",
        variables: &["name", "orderId"],
    },
];

/// As in the document's `Message`.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    id: String,
    to: String,
    subject: String,
    text: String,
    template: Option<&'static str>,
    status: &'static str,
    sent_at: String,
}

/// What a request asks to send; two requests with one idempotency key must be equal in it.
#[derive(Clone, PartialEq)]
struct Draft {
    to: String,
    subject: String,
    text: String,
    template: Option<&'static str>,
}

struct Sent {
    message: Message,
    draft: Draft,
    key: Option<String>,
}

#[derive(Default)]
struct Outbox {
    sent: VecDeque<Sent>,
    count: u64,
}

#[derive(Default)]
struct Mailer {
    outbox: Mutex<Outbox>,
}

impl Mailer {
    /// A panic elsewhere leaves the outbox whole, so a poisoned lock is still good.
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends, or answers as the first time if the key has been seen. One lock over both, so that two requests with one
    /// key at the same moment send one e-mail.
    fn send(&self, draft: Draft, key: Option<String>) -> Response {
        let mut outbox = self.outbox();
        let before = outbox.sent.iter().find(|sent| sent.key.is_some() && sent.key == key);
        if let Some(before) = before {
            if before.draft != draft {
                let message = "this Idempotency-Key was used for another message";
                return problem(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message, &[]);
            }
            let again = answer(StatusCode::CREATED, &json!(before.message));
            return again.with_header("idempotent-replayed", "true").into_response();
        }
        outbox.count += 1;
        let message = Message {
            id: format!("msg_{:06}", outbox.count),
            to: draft.to.clone(),
            subject: draft.subject.clone(),
            text: draft.text.clone(),
            template: draft.template,
            status: "sent",
            sent_at: now(),
        };
        let sent = answer(StatusCode::CREATED, &json!(message));
        if outbox.sent.len() == MAX_MESSAGES {
            outbox.sent.pop_front();
        }
        outbox.sent.push_back(Sent { message, draft, key });
        sent
    }
}

/// The mailer's routes, to be nested under `/mailer`, with an empty outbox.
pub(super) fn routes(document: Value) -> impl Endpoint<Output = Response> + 'static {
    let guarded = Route::new()
        .at("/messages", get(list_messages).post(send_message))
        .at("/messages/welcome", post(send_welcome_email))
        .at("/messages/:message_id", get(get_message))
        .at("/templates", get(list_templates))
        .data(Arc::new(Mailer::default()))
        .around(|next, request| async move {
            check_token(&request)?;
            next.call(request).await
        });
    let document = poem::endpoint::make_sync(move |_| answer(StatusCode::OK, &document));
    Route::new().at("/openapi.json", get(document)).nest("/", guarded).map_to_response()
}

/// Any bearer token that begins with `mail_` will do.
fn check_token(request: &Request) -> Result<(), Error> {
    let token = request.header(AUTHORIZATION).and_then(|value| value.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && token.trim().starts_with("mail_") => Ok(()),
        _ => {
            let message = "send a bearer token that begins with mail_";
            let mut response = problem(StatusCode::UNAUTHORIZED, "unauthorized", message, &[]);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mailer\""));
            Err(Error::from_response(response))
        }
    }
}

/// The key, quoted or bare; an empty or overlong one is a fault of the request.
fn idempotency_key(request: &Request, fields: &mut Fields) -> Option<String> {
    let raw = request.header("idempotency-key")?.trim();
    let key = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        fields.fault("Idempotency-Key", format!("must hold 1 to {MAX_KEY_BYTES} bytes"));
    }
    Some(key.to_owned())
}

#[handler]
async fn send_message(request: &Request, body: Body, Data(mailer): Data<&Arc<Mailer>>) -> Result<Response, Error> {
    let mut fields = Fields::from_body(body).await?;
    let key = idempotency_key(request, &mut fields);
    let to = fields.required_email("to");
    let ids = TEMPLATES.each_ref().map(|template| template.id);
    let wanted = fields.choice("template", &ids);
    let template = TEMPLATES.iter().find(|template| wanted.as_deref() == Some(template.id));
    let variables = fields.variables("variables");
    let text = fields.text("text");
    if wanted.is_some() == text.is_some() {
        fields.fault("template", "give either a template or a text");
    }
    let subject = match template {
        Some(_) => fields.text("subject"),
        None => Some(fields.required_text("subject")),
    };
    let draft = match template {
        Some(template) => from_template(template, to, subject, &variables, &mut fields),
        None => Draft { to, subject: subject.unwrap_or_default(), text: text.unwrap_or_default(), template: None },
    };
    fields.finish()?;
    Ok(mailer.send(draft, key))
}

#[handler]
async fn send_welcome_email(
    request: &Request,
    body: Body,
    Data(mailer): Data<&Arc<Mailer>>,
) -> Result<Response, Error> {
    let mut fields = Fields::from_body(body).await?;
    let key = idempotency_key(request, &mut fields);
    let to = fields.required_email("to");
    let name = fields.required_text("name");
    let variables = Map::from_iter([("name".to_owned(), Value::String(name))]);
    let draft = from_template(&TEMPLATES[0], to, None, &variables, &mut fields);
    fields.finish()?;
    Ok(mailer.send(draft, key))
}

fn from_template(
    template: &'static Template,
    to: String,
    subject: Option<String>,
    variables: &Map<String, Value>,
    fields: &mut Fields,
) -> Draft {
    for name in template.variables.iter().filter(|name| !variables.contains_key(**name)) {
        fields.fault(&format!("variables.{name}"), "is required by the template");
    }
    let subject = subject.unwrap_or_else(|| fill(template.subject, variables));
    Draft { to, subject, text: fill(template.text, variables), template: Some(template.id) }
}

/// Puts the variables in. One pass over the template, so that a value that looks like a variable stays as it is.
fn fill(template: &str, variables: &Map<String, Value>) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, tail)| Some((before, tail.split_once("}}")?)))
    {
        filled.push_str(before);
        match variables.get(name.trim()) {
            Some(Value::String(text)) => filled.push_str(text),
            Some(value) => filled.push_str(&value.to_string()),
            None => {}
        }
        rest = after;
    }
    filled + rest
}

#[handler]
fn list_messages(request: &Request, Data(mailer): Data<&Arc<Mailer>>) -> Result<Response, Error> {
    let mut query = Fields::from_query(request)?;
    let (to, limit) = (query.text("to"), query.limit());
    query.finish()?;
    let outbox = mailer.outbox();
    let newest_first = outbox.sent.iter().rev().map(|sent| &sent.message);
    let matching: Vec<&Message> =
        newest_first.filter(|message| to.as_ref().is_none_or(|to| message.to.eq_ignore_ascii_case(to))).collect();
    let page = &matching[..limit.min(matching.len())];
    Ok(answer(StatusCode::OK, &json!({ "messages": page, "total": matching.len() })))
}

#[handler]
fn get_message(Path(id): Path<String>, Data(mailer): Data<&Arc<Mailer>>) -> Response {
    match mailer.outbox().sent.iter().find(|sent| sent.message.id == id) {
        Some(sent) => answer(StatusCode::OK, &json!(sent.message)),
        None => not_found("message"),
    }
}

#[handler]
fn list_templates() -> Response {
    answer(StatusCode::OK, &json!({ "templates": TEMPLATES, "total": TEMPLATES.len() }))
}
