//! OAuth providers as the use cases see them, and the keeper that renews access tokens before they end.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use commands::{
    App, Context, Failure,
    oauth::renew_due,
    ports::{KnownProvider, OauthParty, OauthProviders, OauthTokens},
};
use domain::{
    connection::host_of,
    ids::WorkspaceId,
    oauth::{Built, ClientAuth, Endpoints, Fault, FaultKind, OauthClient, Provider},
};
use futures::{StreamExt, stream};
use integrations::{
    egress::{Egress, Scope},
    oauth::{self as wire, Metadata, Party, Tokens},
};
use projections::SystemReads;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::{Liveness, supervise::supervise};

/// What an issuer says of itself is asked for again after this.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Issuers remembered; tenants may name any.
const MOST_ISSUERS: usize = 1_000;
const ROUND: Duration = Duration::from_secs(2);
/// Connections looked at in one round, and renewed at once.
const MOST: i64 = 64;
const AT_ONCE: usize = 8;

/// A client that the operator has set up with a provider.
#[derive(Clone)]
pub struct InstalledClient {
    pub provider: Provider,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretString>,
}

pub struct Providers {
    egress: Egress,
    installed: Vec<InstalledClient>,
    metadata: Mutex<HashMap<String, (Instant, Metadata)>>,
}

impl Providers {
    /// `configured` may name those that are built in, too.
    pub fn new(egress: Egress, configured: Vec<InstalledClient>) -> Self {
        let is_new = |name: &&str| !configured.iter().any(|client| client.provider.name == *name);
        let built = Built::NAMES.iter().copied().filter(is_new).filter_map(Built::named);
        let bare = |provider| InstalledClient { provider, client_id: None, client_secret: None };
        let mut installed: Vec<InstalledClient> = built.map(bare).collect();
        installed.extend(configured);
        installed.sort_by(|a, b| a.provider.name.cmp(&b.provider.name));
        Self { egress, installed, metadata: Mutex::default() }
    }

    fn of(&self, client: &OauthClient) -> Option<&InstalledClient> {
        self.installed.iter().find(|known| Some(&known.provider.name) == client.provider.as_ref())
    }

    /// The connection's own client's secret, else the installation's.
    fn secret<'a>(&'a self, party: &OauthParty<'a>) -> Option<&'a SecretString> {
        match party.client.client_id {
            Some(_) => party.secret,
            None => self.of(party.client).and_then(|known| known.client_secret.as_ref()),
        }
    }

    fn party<'a>(&'a self, party: &OauthParty<'a>) -> Party<'a> {
        Party {
            egress: &self.egress,
            endpoints: party.endpoints,
            secret: self.secret(party),
            scope: scope(party.workspace),
        }
    }

    async fn metadata(&self, workspace: WorkspaceId, issuer: &str) -> Result<Metadata, Fault> {
        let known = self.metadata.lock().unwrap_or_else(PoisonError::into_inner).get(issuer).cloned();
        if let Some((at, metadata)) = known
            && at.elapsed() < KNOWN_FOR
        {
            return Ok(metadata);
        }
        let metadata = wire::discover(&self.egress, scope(workspace), issuer).await?;
        let mut all = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_ISSUERS {
            all.clear();
        }
        all.insert(issuer.to_owned(), (Instant::now(), metadata.clone()));
        Ok(metadata)
    }
}

/// Somebody waits: the breaker of a workspace's host is no reason to leave a person outside.
fn scope(workspace: WorkspaceId) -> Scope {
    Scope { workspace: Some(workspace), asked: true, ..Scope::default() }
}

fn tokens(tokens: Tokens) -> OauthTokens {
    let Tokens { access, refresh, scopes, expires_in } = tokens;
    OauthTokens { access, refresh, scopes, expires_in }
}

#[async_trait]
impl OauthProviders for Providers {
    fn known(&self) -> Vec<KnownProvider> {
        let of = |known: &InstalledClient| KnownProvider {
            provider: known.provider.clone(),
            ready: known.client_id.is_some(),
        };
        self.installed.iter().map(of).collect()
    }

    async fn endpoints(&self, workspace: WorkspaceId, client: &OauthClient) -> Result<Endpoints, Fault> {
        let wrong = |words: &str| Fault::new(FaultKind::Settings, words);
        let known = match &client.provider {
            Some(_) => Some(self.of(client).ok_or_else(|| wrong("is not known to this installation"))?),
            None => None,
        };
        let provider = match known {
            Some(known) => known.provider.clone(),
            None => own(client),
        };
        let installed = known.and_then(|known| known.client_id.clone());
        let client_id = client.client_id.clone().or(installed);
        let client_id = client_id.ok_or_else(|| wrong("has no client here: give clientId and clientSecret"))?;
        let key = match client.provider.clone() {
            Some(name) => name,
            None => format!("at-{}", client.host().unwrap_or_default()),
        };
        let mut endpoints = Endpoints {
            title: provider.title.clone(),
            issuer: provider.issuer.clone(),
            dialect: provider.dialect,
            scopes: provider.scopes.clone(),
            client_auth: provider.client_auth.unwrap_or(ClientAuth::Basic),
            client_id,
            key,
            ..Endpoints::default()
        };
        let (given_authorization, given_token) = (provider.authorization_url, provider.token_url);
        // The operator may know better than an issuer's metadata; whoever names an issuer of their own means all of it.
        let vouched = known.is_none() && provider.issuer.is_some();
        if vouched && (given_authorization.is_some() || given_token.is_some()) {
            return Err(wrong("has endpoints beside its issuer, whose metadata names them: give one or the other"));
        }
        match (given_authorization, given_token, &provider.issuer) {
            (Some(authorization), Some(token), _) => {
                (endpoints.authorization, endpoints.token) = (authorization, token);
                endpoints.revocation = provider.revocation_url;
            }
            (authorization, token, Some(issuer)) => {
                let metadata = self.metadata(workspace, issuer).await?;
                endpoints.authorization = authorization.unwrap_or(metadata.authorization);
                endpoints.token = token.unwrap_or(metadata.token);
                endpoints.revocation = provider.revocation_url.or(metadata.revocation);
                endpoints.client_auth = provider.client_auth.unwrap_or(metadata.client_auth);
                endpoints.names_itself = metadata.names_itself;
            }
            _ => return Err(wrong("has no endpoints")),
        }
        for url in [&endpoints.authorization, &endpoints.token].into_iter().chain(&endpoints.revocation) {
            wire::check_endpoint(&self.egress, url).await?;
        }
        Ok(endpoints)
    }

    fn authorization(
        &self,
        endpoints: &Endpoints,
        redirect_uri: &str,
        scopes: &[String],
        state: &SecretString,
        nonce: &str,
    ) -> Result<(String, SecretString), Fault> {
        wire::authorization(endpoints, redirect_uri, scopes, state, nonce)
    }

    async fn exchange(
        &self,
        party: OauthParty<'_>,
        code: &SecretString,
        verifier: &SecretString,
        redirect_uri: &str,
        nonce: Option<&str>,
    ) -> Result<OauthTokens, Fault> {
        wire::exchange(&self.party(&party), code, verifier, redirect_uri, nonce).await.map(tokens)
    }

    async fn refresh(&self, party: OauthParty<'_>, token: &SecretString) -> Result<OauthTokens, Fault> {
        wire::refresh(&self.party(&party), token).await.map(tokens)
    }

    async fn revoke(
        &self,
        party: OauthParty<'_>,
        access: &SecretString,
        refresh: Option<&SecretString>,
    ) -> Result<bool, Fault> {
        wire::revoke(&self.party(&party), access, refresh).await
    }
}

/// A connection's own provider.
fn own(client: &OauthClient) -> Provider {
    Provider {
        title: client.issuer.as_deref().or(client.token_url.as_deref()).and_then(host_of).unwrap_or_default(),
        issuer: client.issuer.clone(),
        authorization_url: client.authorization_url.clone(),
        token_url: client.token_url.clone(),
        revocation_url: client.revocation_url.clone(),
        ..Provider::default()
    }
}

/// Renews access tokens ahead of their end, so that no call waits for it. Every node does; the append decides.
pub(crate) struct GrantKeeper {
    pub app: App,
    pub liveness: Liveness,
    pub reads: SystemReads,
}

impl GrantKeeper {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        supervise("grant keeper", shutdown, || self.rounds()).await;
    }

    async fn rounds(&self) -> Result<(), Failure> {
        loop {
            tokio::time::sleep(ROUND).await;
            let due = self.reads.grants_due(self.app.now(), MOST).await;
            let due = due.map_err(|error| Failure::Unavailable(error.to_string()))?;
            // One provider that is slow holds up only those beside it.
            let renewals = stream::iter(due).for_each_concurrent(AT_ONCE, |due| async move {
                let context = Context::system(self.liveness.name(), due.workspace, self.app.new_id());
                if let Err(error) = renew_due(&self.app, &context, due.id).await {
                    tracing::warn!(connection = %due.id, %error, "an access token cannot be renewed");
                }
            });
            renewals.await;
        }
    }
}
