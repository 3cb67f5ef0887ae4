//! The first acts: a workspace of its own, two connections with credentials, and what their documents hold.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::client::{self, Api};
use super::table::{Titled, plain};
use super::{Stage, voice::Voice};

/// How long an ingestion may take.
const INGESTION: Duration = Duration::from_secs(30);
/// Between two looks at something that is under way.
pub const LOOK: Duration = Duration::from_millis(150);
/// The sandbox APIs as they are called without apiq: to check what really arrived there.
pub struct Sandbox {
    http: reqwest::Client,
    url: String,
    pub crm_key: SecretString,
    pub mail_token: SecretString,
}

impl Sandbox {
    pub fn new(http: reqwest::Client, url: &str) -> Self {
        let key = |prefix: &str| SecretString::from(format!("{prefix}{}", hex::encode(rand::random::<[u8; 12]>())));
        Self { http, url: url.trim_end_matches('/').to_owned(), crm_key: key("crm_"), mail_token: key("mail_") }
    }

    /// A new customer of the CRM, as it answers.
    pub async fn new_customer(&self, email: &str) -> anyhow::Result<Value> {
        let path = "/crm/customers";
        let body = json!({ "name": "Maria Oliveira", "email": email, "company": "Padaria Central", "plan": "team" });
        let request = self.http.post(format!("{}{path}", self.url)).json(&body);
        let answer = client::send(request.header("X-CRM-Key", self.crm_key.expose_secret()), "POST", path).await?;
        ensure!(answer.status == 201, "the sandbox answered {} to POST {path}", answer.status);
        Ok(answer.body)
    }

    /// E-mails kept for this receiver: `{messages, total}`, newest first.
    pub async fn mails_to(&self, to: &str) -> anyhow::Result<Value> {
        let path = "/mailer/messages";
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(self.mail_token.expose_secret());
        let answer = client::send(request.query(&[("to", to)]), "GET", path).await?;
        ensure!(answer.status == 200, "the sandbox answered {} to GET {path}", answer.status);
        Ok(answer.body)
    }
}

/// A connection of this demo.
pub struct Connected {
    pub id: String,
    pub name: String,
}

/// Checks the given key, and makes an account with a workspace of its own: what else is connected to the server cannot
/// be mistaken for the sandbox, and nothing of its owner is touched.
pub async fn settle(stage: &mut Stage) -> anyhow::Result<()> {
    let me = stage.api.get("auth/me").await?;
    let role = plain(&me["user"]["role"]);
    ensure!(role == "owner", "the demo wants an owner's API key, this one is of role {role:?}");
    stage.voice.good("the server answers, and its API key is an owner's");
    let password = SecretString::from(hex::encode(rand::random::<[u8; 16]>()));
    let account = json!({
        "email": format!("demo-{}@apiq.local", stage.mark),
        "password": password.expose_secret(),
        "organizationName": "Demo",
    });
    let registered = stage.api.post("auth/register", &account).await?;
    let token = registered["accessToken"].as_str().context("a registration gives no access token")?;
    stage.api = stage.api.with_key(token.to_owned().into());
    let me = stage.api.get("auth/me").await?;
    let workspace = plain(&me["user"]["workspaceId"]);
    ensure!(me["user"]["role"] == "owner", "a new account does not own its workspace");
    let connections = stage.api.get("connections").await?;
    ensure!(connections["pagination"]["total"] == 0, "a new workspace is not empty");
    stage.voice.good(format!("a new account with an empty workspace of its own, {workspace}"));
    Ok(())
}

/// Creates both connections, waits until their documents are read, and tests them.
pub async fn connect(stage: &mut Stage) -> anyhow::Result<Vec<Connected>> {
    let crm = json!({
        "name": "CRM",
        "specUrl": format!("{}/crm/openapi.json", stage.sandbox.url),
        "authType": "api_key",
        "authConfig": { "in": "header", "name": "X-CRM-Key", "value": stage.sandbox.crm_key.expose_secret() },
    });
    let mailer = json!({
        "name": "Mailer",
        "specUrl": format!("{}/mailer/openapi.json", stage.sandbox.url),
        "authType": "bearer",
        "authConfig": { "token": stage.sandbox.mail_token.expose_secret() },
    });
    let mut connected = Vec::new();
    for body in [crm, mailer] {
        let created = stage.api.post("connections", &body).await?;
        let id = created["id"].as_str().context("a created connection has no id")?.to_owned();
        connected.push(Connected { id, name: plain(&body["name"]) });
    }
    let mut table = Titled::new("The connections", &["name", "document", "endpoints", "credential", "test"]);
    for one in &connected {
        let view = ingested(&stage.api, &one.id).await?;
        let count = view["endpointCount"].as_u64().unwrap_or(0);
        let listed = stage.api.get(&format!("connections/{}/endpoints?limit=100", one.id)).await?;
        let endpoints = listed["endpoints"].as_array().map_or(0, Vec::len) as u64;
        ensure!(count > 0 && count == endpoints, "{} counts {count} endpoints and lists {endpoints}", one.name);
        keeps_secrets(stage, &view)?;
        let test = stage.api.post(&format!("connections/{}/test", one.id), &json!({})).await?;
        ensure!(test["status"] == "success", "the test of {} says: {}", one.name, plain(&test["message"]));
        let document = format!("{} (OpenAPI {})", plain(&view["spec"]["title"]), plain(&view["spec"]["specVersion"]));
        table.row([one.name.clone(), document, count.to_string(), plain(&view["authType"]), plain(&test["message"])]);
        told(&mut stage.voice, one, count);
    }
    stage.voice.show(table)?;
    Ok(connected)
}

fn told(voice: &mut Voice, one: &Connected, count: u64) {
    voice.good(format!("{} is connected: {count} endpoints, and its test call works", one.name));
}

/// Waits for the end of the ingestion.
async fn ingested(api: &Api, id: &str) -> anyhow::Result<Value> {
    let wait = async {
        loop {
            let view = api.get(&format!("connections/{id}")).await?;
            match view["ingestionStatus"].as_str() {
                Some("SUCCEEDED") => return Ok(view),
                Some("FAILED") => bail!("the document of {id} was refused: {}", view["ingestionErrors"]),
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    };
    let done = tokio::time::timeout(INGESTION, wait).await;
    done.with_context(|| format!("the document of {id} was not read within {} seconds", INGESTION.as_secs()))?
}

/// No answer may hold the value of a credential.
fn keeps_secrets(stage: &Stage, view: &Value) -> anyhow::Result<()> {
    let text = view.to_string();
    let told = [&stage.sandbox.crm_key, &stage.sandbox.mail_token].iter().any(|key| text.contains(key.expose_secret()));
    ensure!(!told, "a connection's answer holds the value of its credential");
    Ok(())
}
