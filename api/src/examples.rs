//! Request examples of the document: each can be sent as it is, with ids of one's own.

use serde_json::{Value, json};

const CONNECTION: &str = "conn_01h455vb4pex5vsknk084sn02q";
const CREDENTIAL: &str = "cred_01h455vb4pex5vsknk084sn02q";
const PLAN: &str = "plan_01h455vb4pex5vsknk084sn02q";

/// What to send to an operation; every operation with a body has one.
pub fn request(method: &str, path: &str) -> Option<Value> {
    Some(match (method, path) {
        ("post", "/auth/register") => {
            json!({ "email": "maria@example.com", "password": "a long enough password", "name": "Maria" })
        }
        ("post", "/auth/login") => json!({ "email": "maria@example.com", "password": "a long enough password" }),
        ("post", "/auth/refresh") => json!({ "refreshToken": "the refreshToken of the last answer" }),
        ("post", "/api-keys") => json!({ "name": "nightly report", "role": "viewer" }),
        ("post", "/connections") => json!({
            "name": "Customer CRM", "specUrl": "https://crm.example.com/openapi.json", "authType": "api_key",
            "authConfig": { "in": "header", "name": "X-API-Key", "value": "the key that the CRM gave you" },
        }),
        ("patch", "/connections/{id}") => json!({ "name": "CRM, production", "authConfig": { "value": "a new key" } }),
        ("post", "/connections/{id}/refresh") => json!({}),
        ("post", "/connections/{id}/approve") => json!({ "hosts": ["https://crm.example.com"] }),
        ("post", "/connections/{id}/reject") => json!({ "reason": "not a partner of ours" }),
        ("post", "/connectors") => {
            json!({ "connectorType": "slack", "name": "Team chat", "credentialId": CREDENTIAL, "config": {} })
        }
        ("patch", "/connectors/{id}") => json!({ "status": "disabled" }),
        ("post", "/credentials") => {
            json!({ "name": "Slack bot", "type": "slack", "data": { "token": "the bot's token" } })
        }
        ("patch", "/credentials/{id}") => json!({ "data": { "token": "the bot's new token" } }),
        ("put", "/organizations/current") => json!({ "settings": { "requireHostApproval": true } }),
        ("post" | "put", "/connections/{id}/credentials") => json!({ "credentials": { "value": "a new key" } }),
        ("post", "/oauth/authorize") => json!({ "connectionId": CONNECTION, "scopes": ["repo"] }),
        ("post", "/oauth/connect") => json!({ "link": "ln_… of the connectUrl", "token": "the one of the page" }),
        ("post", "/oauth/refresh" | "/oauth/revoke") => json!({ "connectionId": CONNECTION }),
        ("post", "/secrets") => json!({ "name": "partner token", "type": "secret", "value": "keep this safe" }),
        ("put", "/secrets/{id}") => json!({ "value": "keep this one safe" }),
        ("post", "/keys/destroy") => json!({ "keyId": "60303ae22b998861bce3b28f33eec1be", "erase": true }),
        ("post", "/workflows") => workflow(),
        ("put", "/workflows/{id}") => {
            let mut body = workflow();
            body["status"] = json!("active");
            body
        }
        ("patch", "/workflows/{id}") => json!({ "status": "paused" }),
        ("post", "/workflows/validate") => json!({ "steps": workflow()["steps"] }),
        ("post", "/workflows/{id}/execute") => json!({ "input": { "customerId": "cus_1" } }),
        ("post", "/executions/{id}/steps/{stepKey}/resolve") => {
            json!({ "outcome": "completed", "output": { "id": "msg_17" } })
        }
        ("post", "/chat") => json!({ "message": "Get customer data from CRM and send a welcome email" }),
        ("post", "/chat/execute") => json!({
            "planId": PLAN, "planHash": "4f0d…", "input": { "customerId": "cus_1" },
        }),
        ("post", "/webhooks") => json!({
            "name": "Operations", "url": "https://ops.example.com/hooks", "events": ["workflow.completed", "workflow.failed"],
        }),
        ("put", "/webhooks/{id}") => {
            json!({ "name": "Operations", "url": "https://ops.example.com/hooks", "events": ["*"] })
        }
        ("patch", "/webhooks/{id}") => json!({ "status": "inactive" }),
        _ => return None,
    })
}

fn workflow() -> Value {
    json!({
        "name": "Customer welcome",
        "inputSchema": {
            "type": "object",
            "properties": { "customerId": { "type": "string" } },
            "required": ["customerId"],
        },
        "steps": [
            {
                "id": "customer", "type": "api_call", "connectionId": CONNECTION, "method": "GET",
                "endpoint": "/customers/{id}", "parameters": { "id": "{{ input.customerId }}" },
            },
            {
                "id": "mail", "type": "api_call", "connectionId": CONNECTION, "method": "POST", "endpoint": "/emails",
                "body": { "to": "{{ steps.customer.output.email }}", "subject": "Welcome" },
            },
        ],
    })
}
