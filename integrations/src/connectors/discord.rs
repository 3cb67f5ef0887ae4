//! Discord: messages as a bot, and through a channel's webhook.

use ::http::Method;
use domain::{
    connector::kind::{Action, ConnectorType, Repeat},
    error::FieldError,
};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Caps, Connector, Input, Job, Outgoing, Wrong, http::segment};
use crate::egress::OutboundRequest;

const USUAL: &str = "https://discord.com/api/v10";
/// Discord's limit for a nonce.
const NONCE: usize = 25;
/// Seconds: Discord speaks of "a few minutes".
const REMEMBERED: u32 = 120;

pub(super) struct Discord;

impl Connector for Discord {
    fn kind(&self) -> ConnectorType {
        let content = json!({ "type": "string", "maxLength": 2000 });
        let embeds = json!({ "type": "array", "maxItems": 10, "items": { "type": "object" } });
        let mentions = json!({ "type": "object", "description": "allowed_mentions, as Discord names it." });
        let id = |what: &str| json!({ "type": "string", "pattern": "^[0-9]{1,20}$", "description": what });
        let message = json!({ "type": "object", "properties": {
            "id": { "type": "string" }, "channel_id": { "type": "string" }, "content": { "type": "string" },
        } });
        ConnectorType {
            name: "discord",
            title: "Discord",
            description: "Messages to Discord's channels, as a bot or through a webhook.",
            credential_required: true,
            credential: json!({
                "type": "object", "additionalProperties": false, "minProperties": 1,
                "properties": {
                    "botToken": { "type": "string", "minLength": 1, "maxLength": 4096, "writeOnly": true,
                                  "description": "For send_message, and edit_message with channelId." },
                    "webhookUrl": { "type": "string", "minLength": 1, "format": "uri", "writeOnly": true,
                                    "description": "For send_webhook, and edit_message without channelId." },
                    "baseUrl": { "type": "string", "format": "uri",
                                 "description": "Where the bot's token goes; https://discord.com/api/v10 when absent." },
                },
            }),
            config: super::http::base_only(),
            actions: vec![
                Action {
                    name: "send_message",
                    title: "Send a message",
                    description: "To a channel, as the bot. The key of the attempt is sent as an enforced nonce, so that \
                                  Discord takes a repeated message once (it remembers nonces for a few minutes).",
                    repeat: Repeat::KeyedFor(REMEMBERED),
                    input: json!({
                        "type": "object", "required": ["channelId"], "additionalProperties": false,
                        "properties": {
                            "channelId": id("Of the channel."), "content": content, "embeds": embeds,
                            "replyTo": id("Of the message that is answered."), "tts": { "type": "boolean" },
                            "allowedMentions": mentions,
                        },
                    }),
                    output: message.clone(),
                },
                Action {
                    name: "send_webhook",
                    title: "Send through a webhook",
                    description: "Needs no bot. Discord knows no key here: it is never sent again when nobody knows whether \
                                  it arrived.",
                    repeat: Repeat::Never,
                    input: json!({
                        "type": "object", "additionalProperties": false,
                        "properties": {
                            "content": content, "embeds": embeds, "username": { "type": "string", "maxLength": 80 },
                            "avatarUrl": { "type": "string" }, "threadId": id("Of a thread in the channel."),
                            "tts": { "type": "boolean" }, "allowedMentions": mentions,
                        },
                    }),
                    output: message.clone(),
                },
                Action {
                    name: "edit_message",
                    title: "Change a message",
                    description: "One of the bot's with channelId, else one of the webhook's.",
                    repeat: Repeat::Natural,
                    input: json!({
                        "type": "object", "required": ["messageId"], "additionalProperties": false,
                        "properties": {
                            "messageId": id("Of the message."), "channelId": id("Of its channel."),
                            "content": content, "embeds": embeds, "allowedMentions": mentions,
                        },
                    }),
                    output: message,
                },
            ],
        }
    }

    fn check(&self, _: &str, input: &Input<'_>, _: &Caps) -> Vec<FieldError> {
        let empty = !input.has("content") && !input.has("embeds");
        empty.then(|| FieldError::new("content", "is required (or embeds)")).into_iter().collect()
    }

    fn check_credential(&self, data: &Map<String, Value>) -> Vec<FieldError> {
        let has = |name: &str| data.get(name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        if !has("botToken") && !has("webhookUrl") {
            return vec![FieldError::new("botToken", "is required (or webhookUrl)")];
        }
        let url = data.get("webhookUrl").and_then(Value::as_str);
        let fits = |url: &str| Url::parse(url).is_ok_and(|url| webhook_token(&url).is_some());
        let bad = url.is_some_and(|url| !fits(url));
        bad.then(|| FieldError::new("webhookUrl", "must be the URL of a webhook: …/webhooks/<id>/<token>"))
            .into_iter()
            .collect()
    }

    fn request(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let mut body = body(job.input);
        let (method, url) = match job.action {
            "send_message" => {
                if let Some(key) = job.key {
                    let nonce: String = key.chars().filter(char::is_ascii_alphanumeric).take(NONCE).collect();
                    body.insert("nonce".into(), json!(nonce));
                    body.insert("enforce_nonce".into(), json!(true));
                }
                (Method::POST, channel(job, "")?)
            }
            "edit_message" if job.input.contains_key("channelId") => {
                (Method::PATCH, channel(job, &format!("/{}", segment(job.text("messageId"))))?)
            }
            "edit_message" => {
                let mut url = webhook(job)?;
                let path = format!("{}/messages/{}", url.path().trim_end_matches('/'), segment(job.text("messageId")));
                url.set_path(&path);
                (Method::PATCH, url.into())
            }
            _ => {
                let mut url = webhook(job)?;
                url.query_pairs_mut().append_pair("wait", "true");
                if let Some(thread) = job.input.get("threadId").and_then(Value::as_str) {
                    url.query_pairs_mut().append_pair("thread_id", thread);
                }
                (Method::POST, url.into())
            }
        };
        let as_bot = job.action == "send_message" || job.input.contains_key("channelId");
        let request = OutboundRequest::new(method, url)
            .header("Content-Type", "application/json")
            .body(Value::Object(body).to_string())
            .follow_redirects(false);
        Ok(Outgoing::Http(if as_bot { authorised(job, request)? } else { request.credential_in_url() }))
    }

    fn probe(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let request = match job.secret("botToken") {
            Some(_) => authorised(job, OutboundRequest::get(format!("{}/users/@me", job.base(USUAL)?)))?,
            None => OutboundRequest::get(String::from(webhook(job)?)).credential_in_url(),
        };
        Ok(Outgoing::Http(request.follow_redirects(false)))
    }

    fn derived_secrets(&self, credential: &Map<String, Value>) -> Vec<String> {
        let url = credential.get("webhookUrl").and_then(Value::as_str).and_then(|url| Url::parse(url).ok());
        url.as_ref().and_then(webhook_token).map(str::to_owned).into_iter().collect()
    }
}

fn authorised(job: &Job<'_>, request: OutboundRequest) -> Result<OutboundRequest, Wrong> {
    let token = job.secret("botToken").ok_or_else(|| Wrong::lacking("botToken"))?;
    Ok(request.sensitive_header("Authorization", format!("Bot {token}")))
}

fn channel(job: &Job<'_>, rest: &str) -> Result<String, Wrong> {
    Ok(format!("{}/channels/{}/messages{rest}", job.base(USUAL)?, segment(job.text("channelId"))))
}

fn webhook(job: &Job<'_>) -> Result<Url, Wrong> {
    let url = job.secret("webhookUrl").ok_or_else(|| Wrong::lacking("webhookUrl"))?;
    Url::parse(url).map_err(|_| Wrong::new("BAD_URL", "The credential's webhookUrl is no URL."))
}

/// The last part of `…/webhooks/<id>/<token>`.
fn webhook_token(url: &Url) -> Option<&str> {
    let parts: Vec<&str> = url.path_segments()?.filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [.., "webhooks", _, token] => Some(token),
        _ => None,
    }
}

/// Discord's own names, without what stands in the URL.
fn body(input: &Map<String, Value>) -> Map<String, Value> {
    let mut body = Map::new();
    for (name, value) in input.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "channelId" | "messageId" | "threadId" => {}
            "replyTo" => drop(body.insert("message_reference".into(), json!({ "message_id": value }))),
            other => drop(body.insert(super::slack::snake(other), value.clone())),
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::tests::{http, object, wrong};

    const HOOK: &str = "https://discord.com/api/webhooks/12/t0kenvalue";

    fn credential() -> Value {
        json!({ "botToken": "b0t", "webhookUrl": HOOK })
    }

    fn json_of(request: &OutboundRequest) -> Value {
        serde_json::from_slice(request.body.as_ref().unwrap()).unwrap()
    }

    #[test]
    fn a_bot_sends_with_an_enforced_nonce() {
        let key = "0189d9e2-7b1c-5f00-8000-0123456789ab";
        let input = json!({ "channelId": "42", "content": "hi", "replyTo": "7", "allowedMentions": { "parse": [] } });
        let request = http(&Discord, "send_message", input, credential(), Some(key));
        assert_eq!(
            (request.method.as_str(), request.url.as_str()),
            ("POST", "https://discord.com/api/v10/channels/42/messages")
        );
        assert!(request.headers.contains(&("Authorization".into(), "Bot b0t".into())));
        let expected = json!({ "content": "hi", "message_reference": { "message_id": "7" }, "allowed_mentions": { "parse": [] },
            "nonce": "0189d9e27b1c5f00800001234", "enforce_nonce": true });
        assert_eq!(json_of(&request), expected);
    }

    #[test]
    fn a_webhook_needs_no_bot_and_its_token_is_a_secret() {
        let input =
            json!({ "content": "hi", "username": "APIQ", "avatarUrl": "https://x.test/a.png", "threadId": "9" });
        let request = http(&Discord, "send_webhook", input, credential(), None);
        assert_eq!(request.url, format!("{HOOK}?wait=true&thread_id=9"));
        assert!(!request.headers.iter().any(|(name, _)| name == "Authorization"));
        assert_eq!(
            json_of(&request),
            json!({ "content": "hi", "username": "APIQ", "avatar_url": "https://x.test/a.png" })
        );
        assert_eq!(Discord.derived_secrets(&object(credential())), ["t0kenvalue"]);
    }

    #[test]
    fn a_message_is_changed_where_it_was_sent() {
        let edit = |input| http(&Discord, "edit_message", input, credential(), None);
        let bot = edit(json!({ "messageId": "1", "channelId": "42", "content": "x" }));
        assert_eq!(
            (bot.method.as_str(), bot.url.as_str()),
            ("PATCH", "https://discord.com/api/v10/channels/42/messages/1")
        );
        let hook = edit(json!({ "messageId": "1", "content": "x" }));
        assert_eq!((hook.url, hook.headers.len()), (format!("{HOOK}/messages/1"), 1));
    }

    #[test]
    fn what_the_credential_lacks_is_said() {
        let input = json!({ "channelId": "42", "content": "hi" });
        let lacking = wrong(&Discord, "send_message", input, json!({ "webhookUrl": HOOK }));
        assert_eq!(lacking.code, "CREDENTIAL_LACKING");
        let faults =
            |data: Value| Discord.check_credential(&object(data)).into_iter().map(|f| f.field).collect::<Vec<_>>();
        assert_eq!(faults(json!({ "baseUrl": "https://x.test" })), ["botToken"]);
        assert_eq!(faults(json!({ "webhookUrl": "https://x.test/y" })), ["webhookUrl"]);
        assert_eq!(faults(credential()), [""; 0]);
    }
}
