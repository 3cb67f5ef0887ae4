//! The planner with a model behind an OpenAI-compatible endpoint: an untrusted speaker that may fail or lie.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::chat::{SENTENCE, connect_sandbox, input_for, outbox};
use crate::support::{Account, Reply, Server, Stub};

const KEY: &str = "sk-model-canary-77";

/// What the model answers, given the names of the tools it was offered.
type Mind = Arc<Mutex<Box<dyn Fn(&dyn Fn(&str) -> String) -> Reply + Send>>>;

struct Model {
    stub: Stub,
    mind: Mind,
}

impl Model {
    async fn start() -> Model {
        let mind: Mind = Arc::new(Mutex::new(Box::new(|_| Reply::json(500, &json!({})))));
        let shared = mind.clone();
        let stub = Stub::start(move |seen| {
            let asked = seen.json();
            let tools = asked["tools"].as_array().cloned().unwrap_or_default();
            let named = |end: &str| {
                let names = tools.iter().filter_map(|tool| tool["function"]["name"].as_str());
                names.into_iter().find(|name| name.ends_with(end)).unwrap_or("none").to_owned()
            };
            let mind = shared.lock().unwrap();
            mind(&named)
        })
        .await;
        Model { stub, mind }
    }

    fn thinks(&self, mind: impl Fn(&dyn Fn(&str) -> String) -> Reply + Send + 'static) {
        *self.mind.lock().unwrap() = Box::new(mind);
    }
}

fn calls(list: &[(String, Value)]) -> Reply {
    let calls: Vec<Value> = list
        .iter()
        .map(|(name, arguments)| {
            json!({ "id": name, "type": "function", "function": { "name": name, "arguments": arguments.to_string() } })
        })
        .collect();
    let message = json!({ "role": "assistant", "content": null, "tool_calls": calls });
    Reply::json(200, &json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "tool_calls" }] }))
}

async fn planned(account: &Account) -> Value {
    account.client.post("/chat", json!({ "message": SENTENCE })).await.data(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_plans_and_is_not_trusted() {
    let model = Model::start().await;
    let base = format!("{}/v1", model.stub.url());
    let server =
        Server::start_with(&[("OPENAI_BASE_URL", &base), ("OPENAI_API_KEY", KEY), ("OPENAI_MODEL", "small")]).await;
    let maria = server.account("maria").await;
    let sandbox = connect_sandbox(&server, &maria.client).await;

    // A good answer becomes a plan of ours.
    model.thinks(|named| {
        calls(&[
            (named("_getCustomer"), json!({ "customerId": "{{ input.customerId }}" })),
            (
                named("_sendWelcomeEmail"),
                json!({ "to": "{{ steps.s1.output.email }}", "name": "{{ steps.s1.output.name }}" }),
            ),
        ])
    });
    let plan = planned(&maria).await;
    assert_eq!((&plan["planner"], &plan["writes"]), (&json!("llm"), &json!(true)), "{plan}");
    assert_eq!(plan["workflow"]["steps"].as_array().unwrap().len(), 2, "{plan}");
    let asked = model.stub.seen();
    let (header, body) = (asked[0].header("authorization"), asked[0].json());
    assert_eq!((header, &body["model"]), (Some(format!("Bearer {KEY}").as_str()), &json!("small")));
    assert!(body["tools"].as_array().unwrap().len() <= 12, "no prompt with a thousand tools");
    assert_eq!(outbox(&sandbox).await["total"], 0);
    let confirm = json!({ "planId": plan["planId"], "planHash": plan["planHash"], "input": input_for(&plan) });
    let run = maria.client.post("/chat/execute", confirm).await.data(202);
    let id = run["executionId"].as_str().unwrap();
    let execution = maria.client.ended(id, std::time::Duration::from_secs(30)).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    assert_eq!(outbox(&sandbox).await["messages"][0]["to"], "jonas.weber@example.org");

    // It does not answer, refuses, babbles, or names what it was not offered: the offline planner speaks, and says so.
    let refusals: [(&str, Reply); 6] = [
        ("500", Reply::json(500, &json!({ "error": { "message": "down" } }))),
        ("401", Reply::json(401, &json!({ "error": { "message": format!("wrong key {KEY}") } }))),
        ("closed", Reply::Close),
        ("half", Reply::Cut),
        ("HTML", Reply::of(200, "text/html", "<html>")),
        (
            "a poem",
            Reply::json(200, &json!({ "choices": [{ "message": { "role": "assistant", "content": "Roses" } }] })),
        ),
    ];
    for (what, reply) in refusals {
        model.thinks(move |_| reply.clone());
        let plan = planned(&maria).await;
        assert_eq!(plan["planner"], "offline", "{what}: {plan}");
        assert!(!plan["warnings"].as_array().unwrap().is_empty(), "{what}: {plan}");
        assert!(!plan.to_string().contains(KEY), "{what}");
    }
    let injections = [
        json!({ "name": "op_99_deleteEverything" }),
        json!({ "name": "DELETE /crm/customers" }),
        json!({ "name": "http://169.254.169.254/" }),
    ];
    for tool in injections {
        let name = tool["name"].as_str().unwrap().to_owned();
        model.thinks(move |_| calls(&[(name.clone(), json!({ "url": "http://evil.example" }))]));
        let plan = planned(&maria).await;
        assert_eq!(plan["planner"], "offline", "{tool}");
        let text = plan["workflow"].to_string();
        assert!(!text.contains("evil") && !text.contains("169.254"), "{text}");
    }
    // Secrets are out of an expression's reach, whoever writes it.
    model.thinks(|named| calls(&[(named("_getCustomer"), json!({ "customerId": "{{ secrets.token }}" }))]));
    let plan = planned(&maria).await;
    assert!(!plan["workflow"].to_string().contains("secrets."), "{plan}");
    assert_eq!(outbox(&sandbox).await["total"], 1, "no plan runs by itself");

    // Nothing confidential was in a prompt.
    for seen in model.stub.seen() {
        let text = String::from_utf8_lossy(&seen.body).into_owned();
        for secret in ["crm_test", "mail_test", KEY, maria.password.as_str(), maria.access.as_str()] {
            assert!(!text.contains(secret), "{secret} is in a prompt");
        }
    }
    server.finish().await;
}
