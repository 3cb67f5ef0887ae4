//! Plain English to a plan that a person can judge, and the confirmed plan to its end.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::connect::{Connected, LOOK};
use super::table::{Titled, excerpt, plain};
use super::{REQUEST, Stage};

/// How long the run may take.
const RUN: Duration = Duration::from_secs(60);

pub struct Plan {
    pub id: String,
    hash: String,
    input_schema: Value,
}

/// A run that has ended well.
pub struct Run {
    pub execution: String,
    pub workflow: String,
    /// Step instances that were run.
    pub steps: usize,
}

/// Asks for the plan, shows it, and checks that it reads the CRM and writes to the mailer.
pub async fn ask(stage: &mut Stage, connections: &[Connected]) -> anyhow::Result<Plan> {
    let answer = stage.api.post("chat", &json!({ "message": REQUEST })).await?;
    let workflow = &answer["workflow"];
    let steps = workflow["steps"].as_array().context("the plan has no steps")?;
    let title = format!(
        "The plan for \"{REQUEST}\"\nplanner: {}, confidence: {:.2}",
        plain(&answer["planner"]),
        answer["confidence"].as_f64().unwrap_or_default()
    );
    let mut table = Titled::new(title, &["step", "connection", "operation", "writes", "data flow"]);
    let mut calls = Vec::new();
    rows(steps, connections, &mut table, &mut calls);
    stage.voice.show(table)?;
    for (label, field) in [("Question", "questions"), ("Warning", "warnings")] {
        for text in answer[field].as_array().into_iter().flatten() {
            stage.voice.show(format!("{label}: {}", plain(text)))?;
        }
    }
    let [crm, mailer] = connections else { bail!("the plan needs both connections") };
    let reads = calls.iter().any(|(id, writes)| *id == crm.id && !writes);
    ensure!(reads, "the plan does not read from the CRM");
    let writes = calls.iter().filter(|(id, writes)| *id == mailer.id && *writes).count();
    ensure!(writes == 1, "the plan sends {writes} e-mails instead of one");
    let text = |name: &str| answer[name].as_str().map(str::to_owned).with_context(|| format!("the plan has no {name}"));
    stage.voice.good(format!("a plan of {} steps, made by the {} planner", calls.len(), plain(&answer["planner"])));
    Ok(Plan { id: text("planId")?, hash: text("planHash")?, input_schema: workflow["inputSchema"].clone() })
}

/// One row a step, containers before their children; gathers `(connection, writes)` of each call.
fn rows(steps: &[Value], connections: &[Connected], table: &mut Titled, calls: &mut Vec<(String, bool)>) {
    for step in steps {
        let kind = step["type"].as_str().unwrap_or_default();
        let method = step["method"].as_str().unwrap_or_default();
        let writes = !["GET", "HEAD", "OPTIONS", "TRACE"].contains(&method);
        let id = plain(&step["connectionId"]);
        let is_call = kind == "api_call";
        let name = connections.iter().find(|one| one.id == id).map_or_else(|| "–".to_owned(), |one| one.name.clone());
        let operation = if is_call { format!("{method} {}", plain(&step["endpoint"])) } else { kind.to_owned() };
        let verdict = if is_call && writes { "yes" } else { "no" };
        table.row([plain(&step["id"]), name, operation, verdict.to_owned(), flow(step).join("\n")]);
        if is_call {
            calls.push((id, writes));
        }
        for inside in ["then", "else", "steps"] {
            rows(step[inside].as_array().map(Vec::as_slice).unwrap_or_default(), connections, table, calls);
        }
    }
}

/// Where each value of a step comes from: `to ← steps.get_customer.output.email`.
fn flow(step: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for place in ["parameters", "path", "query", "headers", "body", "output"] {
        for (name, value) in step[place].as_object().into_iter().flatten() {
            let text = plain(value);
            let bare = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
            lines.push(match bare {
                Some(expression) => format!("{name} ← {}", expression.trim()),
                None => format!("{name} = {}", excerpt(&text, 40)),
            });
        }
    }
    for place in ["expression", "items", "if"] {
        if !step[place].is_null() {
            lines.push(format!("{place}: {}", plain(&step[place])));
        }
    }
    lines
}

/// Confirms the plan by its hash, waits for the end, shows the run, and looks into the mailer.
pub async fn execute(stage: &mut Stage, plan: &Plan) -> anyhow::Result<Run> {
    // An address of its own: whoever else uses the sandbox, its e-mails can be counted.
    let to = format!("maria.{}@example.com", stage.mark);
    let customer = stage.sandbox.new_customer(&to).await?;
    refuses_other_plans(stage, plan).await?;
    let input = fill(&plan.input_schema, &customer)?;
    let confirmed = json!({ "planId": plan.id, "planHash": plan.hash, "input": input });
    let accepted = stage.api.post("chat/execute", &confirmed).await?;
    let text = |name: &str| accepted[name].as_str().map(str::to_owned).with_context(|| format!("no {name} was given"));
    let (execution, workflow) = (text("executionId")?, text("workflowId")?);
    stage.voice.good(format!("accepted as {execution}"));
    let ended = ended(stage, &execution).await?;
    let steps = show_run(stage, &execution, &ended)?;
    ensure!(ended["status"] == "completed", "the run ended as {}: {}", ended["status"], ended["error"]);
    let mails = stage.sandbox.mails_to(&to).await?;
    ensure!(mails["total"] == 1, "the mailer got {} e-mails for {to} instead of exactly one", mails["total"]);
    let subject = plain(&mails["messages"][0]["subject"]);
    stage.voice.good(format!("exactly one e-mail reached the mailer: to {to}, {subject:?}"));
    Ok(Run { execution, workflow, steps })
}

/// A confirmation is bound to the plan that was shown.
async fn refuses_other_plans(stage: &Stage, plan: &Plan) -> anyhow::Result<()> {
    let other = json!({ "planId": plan.id, "planHash": "0".repeat(64), "input": {} });
    let answer = stage.api.ask(Method::POST, "chat/execute", Some(&other)).await?;
    let refused = answer.status == 409 || answer.status == 422;
    ensure!(refused, "another plan's hash was answered with {} instead of a refusal", answer.status);
    stage.voice.good(format!("a confirmation with another hash is refused ({} {})", answer.status, answer.code()));
    Ok(())
}

/// Values for what the plan asks, by the names that the sandbox knows.
fn fill(schema: &Value, customer: &Value) -> anyhow::Result<Value> {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut input = Map::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let known = known_value(name, customer).or_else(|| property.get("default").cloned());
        let known = known.or_else(|| property["enum"].get(0).cloned());
        match known {
            Some(value) => {
                input.insert(name.clone(), value);
            }
            None if required.contains(&name.as_str()) => {
                bail!("the plan asks for {name:?}, which the demo cannot know")
            }
            None => {}
        }
    }
    Ok(Value::Object(input))
}

fn known_value(name: &str, customer: &Value) -> Option<Value> {
    let plain: String = name.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    let field = match plain.as_str() {
        "customerid" | "customer" | "id" => "id",
        "to" | "email" | "customeremail" | "recipient" => "email",
        "name" | "customername" | "fullname" => "name",
        "company" => "company",
        "subject" => return Some(json!("Welcome")),
        "text" | "message" | "content" => return Some(json!("It is good to have you with us.")),
        "template" => return Some(json!("welcome")),
        _ => return None,
    };
    customer.get(field).cloned()
}

async fn ended(stage: &Stage, execution: &str) -> anyhow::Result<Value> {
    let wait = async {
        loop {
            let view = stage.api.get(&format!("executions/{execution}")).await?;
            match view["status"].as_str() {
                Some("completed" | "failed" | "cancelled" | "outcome_unknown") => return anyhow::Ok(view),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    };
    let done = tokio::time::timeout(RUN, wait).await;
    done.with_context(|| format!("{execution} did not end within {} seconds", RUN.as_secs()))?
}

/// Gives the number of steps.
fn show_run(stage: &mut Stage, execution: &str, view: &Value) -> anyhow::Result<usize> {
    let steps = view["steps"].as_array().context("the execution shows no steps")?;
    let title = format!("The run {execution}: {}", plain(&view["status"]));
    let mut table = Titled::new(title, &["step", "status", "attempts", "ms", "HTTP", "output"]);
    for step in steps {
        let attempts = step["attempts"].as_array().map_or(0, Vec::len);
        let output = excerpt(&plain(&step["output"]), 160);
        let cells = ["id", "status"].map(|name| plain(&step[name]));
        let figures = [attempts.to_string(), plain(&step["duration"]), plain(&step["httpStatus"]), output];
        table.row(cells.into_iter().chain(figures));
    }
    stage.voice.show(table)?;
    stage.voice.good(format!("{} steps ran", steps.len()));
    Ok(steps.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer() -> Value {
        json!({ "id": "cus_1001", "name": "Maria", "email": "maria@example.com" })
    }

    #[test]
    fn inputs_are_filled_by_name_and_the_unknown_is_named() {
        let schema = json!({
            "properties": { "customerId": {}, "to": {}, "plan": { "enum": ["free", "team"] }, "colour": {} },
            "required": ["customerId", "to"],
        });
        let filled = fill(&schema, &customer()).unwrap();
        assert_eq!(filled, json!({ "customerId": "cus_1001", "to": "maria@example.com", "plan": "free" }));
        let more = json!({ "properties": { "colour": {} }, "required": ["colour"] });
        assert!(fill(&more, &customer()).unwrap_err().to_string().contains("colour"));
        assert_eq!(fill(&Value::Null, &customer()).unwrap(), json!({}));
    }

    #[test]
    fn the_flow_tells_where_values_come_from() {
        let step = json!({ "parameters": { "to": "{{ steps.get.output.email }}", "subject": "Hello" } });
        assert_eq!(flow(&step), ["subject = Hello", "to ← steps.get.output.email"]);
    }

    #[test]
    fn calls_inside_containers_are_counted() {
        let steps = json!([
            { "id": "a", "type": "api_call", "method": "GET", "endpoint": "/x", "connectionId": "conn_1" },
            { "id": "b", "type": "condition", "expression": "true", "then": [
                { "id": "c", "type": "api_call", "method": "POST", "endpoint": "/y", "connectionId": "conn_2" }] },
        ]);
        let mut calls = Vec::new();
        rows(steps.as_array().unwrap(), &[], &mut Titled::new("", &["a", "b", "c", "d", "e"]), &mut calls);
        assert_eq!(calls, [("conn_1".to_owned(), false), ("conn_2".to_owned(), true)]);
    }
}
