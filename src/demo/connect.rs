//! The first acts: a clean start, two connections with credentials, and what their documents hold.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::client::{self, Api};
use super::table::{Titled, plain};
use super::{Stage, voice::Voice};

/// How long an ingestion may take.
const INGESTION: Duration = Duration::from_secs(30);
/// Between two looks at something that is under way.
pub const LOOK: Duration = Duration::from_millis(150);
/// What the names of this demo's own things have in common.
pub const OURS: &str = "(demo ";

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

    /// A customer as the CRM has it.
    pub async fn customer(&self, id: &str) -> anyhow::Result<Value> {
        let path = format!("/crm/customers/{id}");
        self.get(self.request(&path).header("X-CRM-Key", self.crm_key.expose_secret()), &path).await
    }

    /// E-mails kept for this receiver: `{messages, total}`, newest first.
    pub async fn mails_to(&self, to: &str) -> anyhow::Result<Value> {
        let path = "/mailer/messages";
        let request = self.request(path).bearer_auth(self.mail_token.expose_secret());
        self.get(request.query(&[("to", to)]), path).await
    }

    fn request(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    async fn get(&self, request: RequestBuilder, path: &str) -> anyhow::Result<Value> {
        let answer = client::send(request, "GET", path).await?;
        ensure!(answer.status == 200, "the sandbox answered {} to GET {path}", answer.status);
        Ok(answer.body)
    }
}

/// A connection of this demo.
pub struct Connected {
    pub id: String,
    pub name: String,
}

/// Checks the server and the key, and removes what a demo that did not end well left behind.
pub async fn tidy_up(stage: &mut Stage) -> anyhow::Result<()> {
    let me = stage.api.get("auth/me").await?;
    let role = plain(&me["user"]["role"]);
    ensure!(role == "owner", "the demo needs an owner's API key, this one is of role {role:?}");
    let mut removed = 0;
    for (list, noun) in
        [("webhooks", "webhooks"), ("api-keys?status=active", "apiKeys"), ("connections", "connections")]
    {
        let path = list.split('?').next().unwrap_or(list);
        for id in leftovers(&stage.api, list, noun).await? {
            stage.api.delete(&format!("{path}/{id}")).await?;
            removed += 1;
        }
    }
    match removed {
        0 => stage.voice.good("the server answers, the key is an owner's"),
        _ => stage.voice.good(format!("the server answers, the key is an owner's; {removed} old things removed")),
    }
    Ok(())
}

async fn leftovers(api: &Api, list: &str, noun: &str) -> anyhow::Result<Vec<String>> {
    let sign = if list.contains('?') { '&' } else { '?' };
    let page = api.get(&format!("{list}{sign}limit=100")).await?;
    let items = page[noun].as_array().with_context(|| format!("GET {list} has no {noun}[]"))?;
    let ours = items.iter().filter(|item| item["name"].as_str().is_some_and(|name| name.contains(OURS)));
    Ok(ours.filter_map(|item| item["id"].as_str().map(str::to_owned)).collect())
}

/// Creates both connections, waits until their documents are read, and tests them.
pub async fn connect(stage: &mut Stage) -> anyhow::Result<Vec<Connected>> {
    let crm = json!({
        "name": format!("CRM {OURS}{})", stage.mark),
        "specUrl": format!("{}/crm/openapi.json", stage.sandbox.url),
        "authType": "api_key",
        "authConfig": { "in": "header", "name": "X-CRM-Key", "value": stage.sandbox.crm_key.expose_secret() },
    });
    let mailer = json!({
        "name": format!("Mailer {OURS}{})", stage.mark),
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
