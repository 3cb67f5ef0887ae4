//! The dev profile's own account: a login and an API key, made once and kept in the data folder (readable by its owner).

use std::path::Path;

use anyhow::Context as _;
use commands::{
    App, Context, RequestInfo,
    api_key::{self, CreateApiKey},
    auth::{self, Register},
};
use domain::actor::Role;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::local::files;

const FILE: &str = "demo-account.json";

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoAccount {
    pub email: String,
    pub password: String,
    /// An owner's key of the account's workspace.
    pub api_key: String,
}

/// The account of the data folder; `None` before the first `apiq dev`.
pub fn read(data_dir: &Path) -> anyhow::Result<Option<DemoAccount>> {
    let Some(text) = files::read_if_there(&data_dir.join(FILE))? else { return Ok(None) };
    let account = serde_json::from_str(&text).with_context(|| format!("{FILE} is damaged: delete it"))?;
    Ok(Some(account))
}

/// The kept account while its key is good, else a new one.
pub async fn ensure(app: &App, data_dir: &Path) -> anyhow::Result<DemoAccount> {
    if let Some(account) = read(data_dir)?
        && auth::authenticate_api_key(app, &account.api_key.clone().into()).await.is_ok()
    {
        return Ok(account);
    }
    let tag = app.new_id::<uuid::Uuid>().simple().to_string();
    let email = format!("demo-{}@apiq.local", &tag[24..]);
    let password = random_text(20);
    let request = RequestInfo { request_id: app.new_id(), ..RequestInfo::default() };
    let register = Register {
        email: email.clone(),
        password: password.clone().into(),
        name: Some("Demo".into()),
        organization_name: Some("Demo organization".into()),
    };
    let tokens = auth::register(app, &request, register).await?.value;
    let token: SecretString = tokens.access_token.into();
    let actor = auth::authenticate_bearer(app, &token).await?;
    let create = CreateApiKey { name: "demo".into(), role: Role::Owner, expires_at: None };
    let key = api_key::create(app, &Context::new(actor, request), create).await?.value.key;
    let account = DemoAccount { email, password, api_key: key.expose_secret().to_owned() };
    files::write_private(&data_dir.join(FILE), &serde_json::to_string_pretty(&account)?)?;
    Ok(account)
}

fn random_text(length: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghjkmnpqrstuvwxyzABCDEFGHJKMNPQRSTUVWXYZ23456789";
    (0..length).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}
