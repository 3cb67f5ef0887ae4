//! What the log tells of the run, and what an auditor may and may not do.

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::connect::{Connected, LOOK};
use super::plan::{Plan, Run};
use super::table::{Titled, clock, excerpt, plain};
use super::{Stage, client::Api};

/// How long the entry of a refusal may take to show.
const DENIAL: Duration = Duration::from_secs(5);

pub struct Auditor {
    pub id: String,
    key: SecretString,
}

/// A key that reads everything and changes nothing.
pub async fn make_auditor(stage: &mut Stage) -> anyhow::Result<Auditor> {
    let created = stage.api.post("api-keys", &json!({ "name": "Auditor", "role": "auditor" })).await?;
    let id = created["id"].as_str().context("a created API key has no id")?.to_owned();
    let key = created["key"].as_str().context("a created API key is not shown")?.to_owned();
    stage.voice.good("an API key of the role auditor");
    Ok(Auditor { id, key: key.into() })
}

/// Shows every entry about this telling's connections, plan, workflow and run. Gives their number.
pub async fn trail(stage: &mut Stage, connections: &[Connected], plan: &Plan, run: &Run) -> anyhow::Result<usize> {
    let mut resources: Vec<&str> = connections.iter().map(|one| one.id.as_str()).collect();
    resources.extend([plan.id.as_str(), run.workflow.as_str(), run.execution.as_str()]);
    let entries = entries(&stage.api, &resources.join(",")).await?;
    let mut table = Titled::new("The audit trail", &["time", "event", "resource", "by", "about"]);
    for entry in &entries {
        let resource = plain(&entry["resource"]["id"]);
        let actor = plain(&entry["actor"]["id"]);
        table.row([clock(&entry["timestamp"]), plain(&entry["action"]), short(&resource), short(&actor), about(entry)]);
    }
    stage.voice.show(table)?;
    check_order(&entries, &run.execution)?;
    stage
        .voice
        .good(format!("{} audit entries; each credential read stands before the call it was for", entries.len()));
    Ok(entries.len())
}

/// Oldest first; the API gives the newest first.
async fn entries(api: &Api, resources: &str) -> anyhow::Result<Vec<Value>> {
    let page = api.get(&format!("logs?limit=100&resource={resources}")).await?;
    let entries = page["logs"].as_array().context("GET logs has no logs[]")?;
    Ok(entries.iter().rev().cloned().collect())
}

/// The run's own entries must tell it from start to end, each read before its call's outcome.
fn check_order(entries: &[Value], execution: &str) -> anyhow::Result<()> {
    let own: Vec<(&str, &str)> = entries
        .iter()
        .filter(|entry| entry["resource"]["id"] == execution)
        .map(|entry| (entry["action"].as_str().unwrap_or_default(), entry["data"]["key"].as_str().unwrap_or_default()))
        .collect();
    let names: Vec<&str> = own.iter().map(|(action, _)| *action).collect();
    ensure!(names.first() == Some(&"execution.started"), "the run's first entry is {:?}", names.first());
    ensure!(names.last() == Some(&"execution.completed"), "the run's last entry is {:?}", names.last());
    let outcomes = own.iter().enumerate().filter(|(_, (action, _))| *action == "execution.step_completed");
    let mut calls = 0;
    for (place, (_, key)) in outcomes {
        let before = &own[..place];
        ensure!(before.contains(&("execution.step_started", *key)), "the call of {key:?} was not announced before it");
        ensure!(before.contains(&("credential.read", *key)), "the credential of {key:?} was opened without an entry");
        calls += 1;
    }
    ensure!(calls >= 2, "the trail tells of {calls} calls instead of two or more");
    Ok(())
}

/// A TypeID by its kind and its end; an executor by its kind. Other texts as they are.
fn short(id: &str) -> String {
    const SUFFIX: usize = 26;
    match id.split_once(['_', '-']) {
        Some(("executor", _)) => "executor".to_owned(),
        Some((prefix, suffix)) if suffix.len() == SUFFIX && suffix.is_ascii() => {
            format!("{prefix}_…{}", &suffix[SUFFIX - 6..])
        }
        _ => id.to_owned(),
    }
}

/// The telling fields of an event, in few words; figures with their names.
fn about(entry: &Value) -> String {
    let data = &entry["data"];
    let texts = ["name", "key", "credentialId", "purpose", "planner", "message"];
    let figures = ["attempt", "httpStatus", "status"];
    let told = |name: &&str| !data[*name].is_null() && data[*name] != "sealed";
    let texts = texts.into_iter().filter(told).map(|name| excerpt(&short(&plain(&data[name])), 36));
    let figures = figures.into_iter().filter(told).map(|name| format!("{name} {}", plain(&data[name])));
    texts.chain(figures).collect::<Vec<_>>().join(", ")
}

/// Reads the log with the auditor's key, and must not be able to change anything with it.
pub async fn try_auditor(stage: &mut Stage, auditor: &Auditor, run: &Run) -> anyhow::Result<()> {
    let api = stage.api.with_key(auditor.key.clone());
    let read = entries(&api, &run.execution).await.context("the auditor cannot read the log")?;
    ensure!(!read.is_empty(), "the auditor sees no entry of the run");
    let body = json!({ "name": "Not allowed", "baseUrl": "https://example.com", "authType": "none" });
    let answer = api.ask(Method::POST, "connections", Some(&body)).await?;
    let refused = answer.status == 403 && answer.code() == "FORBIDDEN";
    ensure!(refused, "POST connections by an auditor was answered with {} {}", answer.status, answer.code());
    denial_is_logged(stage, auditor).await?;
    stage
        .voice
        .good(format!("the auditor reads {} entries, is refused with 403, and the refusal is an entry", read.len()));
    Ok(())
}

/// Somebody else's write: the read models show it a moment later.
async fn denial_is_logged(stage: &Stage, auditor: &Auditor) -> anyhow::Result<()> {
    let path = format!("logs?limit=10&action=access.denied&userId={}", auditor.id);
    let wait = async {
        loop {
            let count = stage.api.get(&path).await?["logs"].as_array().map_or(0, Vec::len);
            ensure!(count <= 1, "one refusal left {count} entries in the log");
            if count == 1 {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let found = tokio::time::timeout(DENIAL, wait).await;
    found.context("the refusal left no entry in the log")?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: &str, key: &str) -> Value {
        json!({ "action": action, "resource": { "id": "exec_1" }, "data": { "key": key } })
    }

    fn told(names: &[(&str, &str)]) -> Vec<Value> {
        names.iter().map(|(action, key)| entry(action, key)).collect()
    }

    #[test]
    fn a_read_must_stand_before_its_call() {
        let good = [
            ("execution.started", ""),
            ("execution.step_started", "a"),
            ("credential.read", "a"),
            ("execution.step_completed", "a"),
            ("execution.step_started", "b"),
            ("credential.read", "b"),
            ("execution.step_completed", "b"),
            ("execution.completed", ""),
        ];
        check_order(&told(&good), "exec_1").unwrap();
        let mut late = good;
        late.swap(5, 6);
        assert!(check_order(&told(&late), "exec_1").unwrap_err().to_string().contains("\"b\""));
        assert!(check_order(&told(&good[1..]), "exec_1").is_err());
        assert!(check_order(&told(&good), "exec_2").is_err());
    }

    #[test]
    fn ids_are_shortened_but_names_are_not() {
        assert_eq!(short("exec_01h455vb4pex5vsknk084sn02q"), "exec_…4sn02q");
        assert_eq!(short("executor-01a1f8e4"), "executor");
        assert_eq!(short("send_welcome_email"), "send_welcome_email");
    }
}
