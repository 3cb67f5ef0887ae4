//! `apiq demo`: the whole story over REST, on the two sandbox APIs, each part checked as it is told.
//!
//! Each telling makes an account with a workspace of its own, so it can be told again and again, also at the same time,
//! on a server with other things on it. What is not as expected ends it with a sentence that says what. Progress goes
//! to stderr, results to stdout.

mod audit;
mod client;
mod connect;
mod plan;
mod receiver;
mod table;
mod voice;
mod webhook;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use secrecy::{ExposeSecret, SecretString};

use client::Api;
pub use client::http_client;
use connect::Sandbox;
use voice::Voice;

/// What the person asks for.
const REQUEST: &str = "Get customer data from CRM and send a welcome email";
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Acts of the story, for the progress bar.
const ACTS: u64 = 9;

/// Everything the acts share.
struct Stage {
    voice: Voice,
    api: Api,
    sandbox: Sandbox,
    /// Makes this telling's account its own.
    mark: String,
}

/// Tells the story against the server at `base_url`, whose owner's key is `api_key`.
///
/// `sandbox_url` is where `sandbox::serve` listens; the log in the database at `database_url` is folded again and
/// compared with the live read models.
///
/// # Errors
/// The first thing that is not as expected, in words.
pub async fn run(
    base_url: &str,
    api_key: &SecretString,
    sandbox_url: &str,
    database_url: &SecretString,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let http = http_client(TIMEOUT)?;
    let mut stage = Stage {
        voice: Voice::new(ACTS),
        api: Api::new(http.clone(), base_url, api_key.clone()),
        sandbox: Sandbox::new(http, sandbox_url),
        mark: format!("{:06x}", rand::random::<u32>() & 0x00ff_ffff),
    };
    let told = tell(&mut stage, database_url).await?;
    let seconds = began.elapsed().as_secs_f32();
    stage.voice.show(format!("\nThe demo went as expected in {seconds:.1} seconds: {told}."))
}

/// The acts in order. Gives the summary.
async fn tell(stage: &mut Stage, database_url: &SecretString) -> anyhow::Result<String> {
    stage.voice.begin("Look at the server and make an account");
    connect::settle(stage).await.context("the server is not ready for the demo")?;

    stage.voice.begin("Connect the two sandbox APIs");
    let connections = connect::connect(stage).await.context("connecting the sandbox APIs")?;

    stage.voice.begin("Make an auditor's key and a webhook");
    let auditor = audit::make_auditor(stage).await.context("making an auditor's API key")?;
    let mut hook = webhook::subscribe(stage).await.context("making a webhook")?;

    stage.voice.begin("Ask for a plan in plain English");
    let plan = plan::ask(stage, &connections).await.context("planning")?;

    stage.voice.begin("Confirm the plan and run it");
    let run = plan::execute(stage, &plan).await.context("running the plan")?;

    stage.voice.begin("Read what was written down");
    let entries = audit::trail(stage, &connections, &plan, &run).await.context("reading the audit trail")?;
    audit::try_auditor(stage, &auditor, &run).await.context("trying the auditor's key")?;

    stage.voice.begin("Wait for the webhook");
    webhook::receive(stage, &mut hook, &run).await.context("waiting for the webhook")?;

    stage.voice.begin("Put the key and the webhook away");
    stage.api.delete(&format!("webhooks/{}", hook.id)).await?;
    stage.api.delete(&format!("api-keys/{}", auditor.id)).await?;
    stage.voice.good("the key is revoked, the webhook is deleted");

    stage.voice.begin("Fold the log again and compare");
    compare(stage, database_url).await.context("verifying the read models")?;
    Ok(format!(
        "{} connections, {} steps run, 1 e-mail sent, {entries} audit entries read, 1 webhook verified, \
         read models equal to the log",
        connections.len(),
        run.steps,
    ))
}

/// `apiq replay verify`, with its report.
async fn compare(stage: &Stage, database_url: &SecretString) -> anyhow::Result<()> {
    let options = replay_tools::Options { progress: false, ..Default::default() };
    let mut report = Vec::new();
    let outcome = replay_tools::verify(database_url.expose_secret(), &options, &mut report).await?;
    stage.voice.show(format!("\nThe verification\n{}", String::from_utf8_lossy(&report).trim_end()))?;
    let identical = outcome == replay_tools::VerifyOutcome::Identical;
    ensure!(identical, "the live read models differ from what the log gives");
    stage.voice.good("the live read models equal what the log gives when it is folded again");
    Ok(())
}
