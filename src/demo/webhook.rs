//! A subscription to the end of workflows, and the delivery that must follow.

use std::time::Duration;

use anyhow::{Context, ensure};
use secrecy::SecretString;
use serde_json::json;

use super::Stage;
use super::plan::Run;
use super::receiver::{Delivery, Receiver, verify};
use super::table::Titled;

/// A delivery comes at once, or by the sweep that looks for lost ones.
const ARRIVAL: Duration = Duration::from_secs(45);
const EVENT: &str = "workflow.completed";

pub struct Hook {
    pub id: String,
    secret: SecretString,
    receiver: Receiver,
}

/// Listens on loopback and subscribes.
pub async fn subscribe(stage: &mut Stage) -> anyhow::Result<Hook> {
    let receiver = Receiver::start().await?;
    let body = json!({ "name": "Receiver", "url": receiver.url, "events": [EVENT] });
    let created = stage.api.post("webhooks", &body).await?;
    let id = created["id"].as_str().context("a created webhook has no id")?.to_owned();
    let secret = created["secret"].as_str().context("a created webhook has no signing secret")?.to_owned();
    stage.voice.good(format!("a webhook for {EVENT}; its signing secret was shown once"));
    Ok(Hook { id, secret: secret.into(), receiver })
}

/// Waits for the delivery about the run, verifies it, and shows that a changed one is refused.
pub async fn receive(stage: &mut Stage, hook: &mut Hook, run: &Run) -> anyhow::Result<()> {
    let (delivery, body) = hook.receiver.about(&run.execution, ARRIVAL).await?;
    ensure!(body["type"] == EVENT, "the webhook is about {}, not {EVENT}", body["type"]);
    verify(&hook.secret, &delivery).context("the signature does not fit")?;
    let changed = Delivery { body: delivery.body.replace(EVENT, "workflow.failed"), ..delivery.clone() };
    ensure!(verify(&hook.secret, &changed).is_err(), "a changed body passes with the signature of another");
    let mut table = Titled::new("The webhook", &["webhook-id", "webhook-timestamp", "type", "signature"]);
    table.row([delivery.id.clone(), delivery.timestamp.clone(), EVENT.to_owned(), "fits".to_owned()]);
    stage.voice.show(table)?;
    stage.voice.good("the webhook came, its signature fits, and a changed body is refused");
    Ok(())
}
