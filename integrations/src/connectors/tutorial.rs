//! The connector of `docs/connectors.md`, which shows this code to the letter: push notifications by ntfy.

use domain::connector::kind::{Action, ConnectorType, Repeat};
use serde_json::{Value, json};

use super::{Connector, Job, Outgoing, Wrong};
use crate::egress::OutboundRequest;

const USUAL: &str = "https://ntfy.sh";

pub(super) struct Ntfy;

impl Connector for Ntfy {
    fn kind(&self) -> ConnectorType {
        ConnectorType {
            name: "ntfy",
            title: "ntfy",
            description: "Push notifications to phones.",
            credential_required: true,
            credential: json!({
                "type": "object", "required": ["token"], "additionalProperties": false,
                "properties": {
                    "token": { "type": "string", "minLength": 1, "writeOnly": true },
                    "baseUrl": { "type": "string", "format": "uri" },
                },
            }),
            config: super::http::base_only(),
            actions: vec![Action {
                name: "publish",
                title: "Publish a message",
                description: "To everybody who listens to the topic.",
                repeat: Repeat::Never,
                input: json!({
                    "type": "object", "required": ["topic", "message"], "additionalProperties": false,
                    "properties": {
                        "topic": { "type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$" },
                        "message": { "type": "string", "minLength": 1, "maxLength": 4096 },
                        "priority": { "type": "integer", "minimum": 1, "maximum": 5 },
                    },
                }),
                output: json!({ "type": "object", "properties": { "id": { "type": "string" } } }),
            }],
        }
    }

    fn request(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let url = job.base(USUAL)?;
        let body = json!({
            "topic": job.text("topic"), "message": job.text("message"),
            "priority": job.input.get("priority").cloned().unwrap_or(json!(3)),
        });
        let request = OutboundRequest::new(::http::Method::POST, url).body(body.to_string());
        Ok(Outgoing::Http(authorised(job, request)))
    }

    fn probe(&self, job: &Job<'_>) -> Result<Outgoing, Wrong> {
        let url = format!("{}/v1/account", job.base(USUAL)?);
        Ok(Outgoing::Http(authorised(job, OutboundRequest::get(url))))
    }
}

fn authorised(job: &Job<'_>, request: OutboundRequest) -> OutboundRequest {
    let token = job.secret("token").unwrap_or_default();
    request.sensitive_header("Authorization", format!("Bearer {token}")).follow_redirects(false)
}

#[test]
fn a_message_is_published_with_the_token_in_its_header() {
    let input = json!({ "topic": "builds", "message": "green", "priority": 5 });
    let request = super::tests::http(&Ntfy, "publish", input, json!({ "token": "tk_1" }), None);
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://ntfy.sh"));
    let body: Value = serde_json::from_slice(request.body.as_deref().unwrap()).unwrap();
    assert_eq!(body, json!({ "topic": "builds", "message": "green", "priority": 5 }));
    assert!(request.headers.contains(&("Authorization".into(), "Bearer tk_1".into())));
}
