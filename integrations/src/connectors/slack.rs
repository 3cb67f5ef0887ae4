//! Slack's Web API, as a bot or a user: messages and reactions.

use domain::{
    connector::kind::{Action, ConnectorType, Repeat},
    error::FieldError,
};
use serde_json::{Map, Value, json};

use super::{
    Caps, Connector, Input, Job, Outgoing, Wrong,
    outcome::{Refusal, by_status},
};
use crate::egress::{OutboundRequest, OutboundResponse};

const USUAL: &str = "https://slack.com/api";

pub(super) struct Slack;

impl Connector for Slack {
    fn kind(&self) -> ConnectorType {
        let message = |more: Value| {
            let mut properties = json!({
                "channel": { "type": "string", "minLength": 1, "description": "Id of a channel or person, or #name." },
                "text": { "type": "string", "maxLength": 40000, "description": "In Slack's mrkdwn." },
                "blocks": { "type": "array", "maxItems": 50, "items": { "type": "object" }, "description": "Block Kit." },
            });
            if let (Some(map), Value::Object(more)) = (properties.as_object_mut(), more) {
                map.extend(more);
            }
            properties
        };
        let sent = json!({ "type": "object", "properties": {
            "ok": { "type": "boolean" }, "channel": { "type": "string" }, "ts": { "type": "string" },
            "message": { "type": "object" },
        } });
        ConnectorType {
            name: "slack",
            title: "Slack",
            description: "Messages and reactions in a Slack workspace.",
            credential_required: true,
            credential: json!({
                "type": "object", "required": ["token"], "additionalProperties": false,
                "properties": {
                    "token": { "type": "string", "minLength": 1, "maxLength": 4096, "writeOnly": true,
                               "description": "Of a bot (xoxb-…) or a user (xoxp-…)." },
                    "baseUrl": { "type": "string", "format": "uri",
                                 "description": "Where the token goes; https://slack.com/api when absent." },
                },
            }),
            config: super::http::base_only(),
            actions: vec![
                Action {
                    name: "send_message",
                    title: "Send a message",
                    description: "chat.postMessage. Slack knows no idempotency key: a message is never sent again when \
                                  nobody knows whether it arrived.",
                    repeat: Repeat::Never,
                    input: json!({
                        "type": "object", "required": ["channel"], "additionalProperties": false,
                        "properties": message(json!({
                            "threadTs": { "type": "string", "description": "`ts` of the message to answer." },
                            "replyBroadcast": { "type": "boolean" },
                            "unfurlLinks": { "type": "boolean" },
                            "unfurlMedia": { "type": "boolean" },
                            "mrkdwn": { "type": "boolean" },
                            "username": { "type": "string" },
                            "iconEmoji": { "type": "string" },
                        })),
                    }),
                    output: sent.clone(),
                },
                Action {
                    name: "update_message",
                    title: "Change a message",
                    description: "chat.update.",
                    repeat: Repeat::Natural,
                    input: json!({
                        "type": "object", "required": ["channel", "ts"], "additionalProperties": false,
                        "properties": message(json!({ "ts": { "type": "string", "minLength": 1 } })),
                    }),
                    output: sent,
                },
                Action {
                    name: "add_reaction",
                    title: "React to a message",
                    description: "reactions.add. A reaction that is there already is no failure.",
                    repeat: Repeat::Natural,
                    input: json!({
                        "type": "object", "required": ["channel", "timestamp", "name"], "additionalProperties": false,
                        "properties": {
                            "channel": { "type": "string", "minLength": 1 },
                            "timestamp": { "type": "string", "minLength": 1, "description": "`ts` of the message." },
                            "name": { "type": "string", "minLength": 1, "description": "Of the emoji, without colons." },
                        },
                    }),
                    output: json!({ "type": "object", "properties": { "ok": { "type": "boolean" } } }),
                },
            ],
        }
    }

    fn check(&self, action: &str, input: &Input<'_>, _: &Caps) -> Vec<FieldError> {
        let empty = action != "add_reaction" && !input.has("text") && !input.has("blocks");
        empty.then(|| FieldError::new("text", "is required (or blocks)")).into_iter().collect()
    }

    fn request(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let method = match job.action {
            "send_message" => "chat.postMessage",
            "update_message" => "chat.update",
            _ => "reactions.add",
        };
        post(job, method, form(job.input))
    }

    /// Slack answers 200 whatever happens: the body has the verdict.
    fn read(&self, action: &str, answer: &OutboundResponse) -> Result<Value, Refusal> {
        let output = by_status("Slack", answer)?;
        if output["ok"] == Value::Bool(true) {
            return Ok(output);
        }
        let word = output["error"].as_str().unwrap_or("no_verdict");
        match (action, word) {
            ("add_reaction", "already_reacted") => Ok(output),
            (_, "ratelimited" | "rate_limited" | "message_limit_exceeded") => Err(Refusal::of_word("Slack", word, 429)),
            (_, "service_unavailable" | "team_added_to_org") => Err(Refusal::of_word("Slack", word, 503)),
            (_, "internal_error" | "fatal_error" | "request_timeout") => Err(Refusal::of_word("Slack", word, 500)),
            _ => Err(Refusal::of_word("Slack", word, 400)),
        }
    }

    fn probe(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let url = format!("{}/auth.test", job.base(USUAL)?);
        Ok(Outgoing::Http(authorised(job, OutboundRequest::get(url))))
    }
}

fn post(job: &Job<'_>, method: &str, body: String) -> Result<Outgoing, Wrong> {
    let url = format!("{}/{method}", job.base(USUAL)?);
    let request = OutboundRequest::new(::http::Method::POST, url)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(body);
    Ok(Outgoing::Http(authorised(job, request)))
}

fn authorised(job: &Job<'_>, request: OutboundRequest) -> OutboundRequest {
    let token = job.secret("token").unwrap_or_default();
    request.sensitive_header("Authorization", format!("Bearer {token}")).follow_redirects(false)
}

/// Slack's own names, lists as JSON.
fn form(input: &Map<String, Value>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in input {
        match value {
            Value::Null => {}
            Value::String(text) => drop(form.append_pair(&snake(name), text)),
            other => drop(form.append_pair(&snake(name), &other.to_string())),
        }
    }
    form.finish()
}

/// `threadTs` to `thread_ts`.
pub(super) fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::tests::{answered, http, object};

    fn sent(action: &str, input: Value) -> OutboundRequest {
        http(&Slack, action, input, json!({ "token": "xoxb-1" }), None)
    }

    #[test]
    fn each_action_is_a_form_with_the_token_in_its_header() {
        let request =
            sent("send_message", json!({ "channel": "#a", "text": "x & y", "threadTs": "1.2", "unfurlLinks": false }));
        assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://slack.com/api/chat.postMessage"));
        let body = String::from_utf8(request.body.clone().unwrap().to_vec()).unwrap();
        assert_eq!(body, "channel=%23a&text=x+%26+y&thread_ts=1.2&unfurl_links=false");
        assert!(request.headers.contains(&("Authorization".into(), "Bearer xoxb-1".into())));
        assert!(!request.follow_redirects && request.sensitive_headers.contains(&"Authorization".to_owned()));
        assert_eq!(
            sent("update_message", json!({ "channel": "C", "ts": "1", "text": "t" })).url,
            "https://slack.com/api/chat.update"
        );
        assert_eq!(
            sent("add_reaction", json!({ "channel": "C", "timestamp": "1", "name": "x" })).url,
            "https://slack.com/api/reactions.add"
        );
    }

    #[test]
    fn blocks_travel_as_json() {
        let request = sent("send_message", json!({ "channel": "C", "blocks": [{ "type": "divider" }] }));
        let body = request.body.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("blocks=%5B%7B%22type%22%3A%22divider%22%7D%5D"), "{body}");
    }

    #[test]
    fn the_body_has_the_verdict() {
        let read = |action: &str, body: Value| Slack.read(action, &answered(200, body));
        assert!(read("send_message", json!({ "ok": true, "ts": "1" })).is_ok());
        let no = read("send_message", json!({ "ok": false, "error": "channel_not_found" })).unwrap_err();
        assert_eq!((no.code.as_str(), no.like), ("SLACK_CHANNEL_NOT_FOUND", 400));
        assert_eq!(read("send_message", json!({ "ok": false, "error": "ratelimited" })).unwrap_err().like, 429);
        assert!(read("add_reaction", json!({ "ok": false, "error": "already_reacted" })).is_ok());
        let odd = read("send_message", json!({ "ok": false, "error": "<b>\nx" })).unwrap_err();
        assert_eq!(odd.message, "Slack answered bx.");
    }

    #[test]
    fn a_message_says_something() {
        let input = object(json!({ "channel": "C" }));
        let faults = |action: &str| Slack.check(action, &Input::rendered(&input), &Caps::default());
        assert_eq!(faults("send_message")[0].field, "text");
        assert!(faults("add_reaction").is_empty());
    }
}
