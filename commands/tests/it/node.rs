//! A node without an outside: what use cases need, on a real Postgres.

use std::sync::Arc;

use async_trait::async_trait;
use commands::{
    App, Context, Settings,
    ports::{
        AddressCheck, CertificateCheck, CertificateFacts, ConnectionTester, ConnectorTest, Connectors, KnownProvider,
        Match, OauthParty, OauthProviders, OauthTokens, PlanAsk, PlanFailure, PlanProposal, Planner, Ports, TestReport,
        TestTarget,
    },
};
use domain::{
    connector::kind::ConnectorType,
    error::FieldError,
    ids::WorkspaceId,
    oauth::{Endpoints, Fault, FaultKind, OauthClient},
};
use event_store::{EventStore, Options};
use secrecy::SecretString;
use serde_json::{Map, Value};
use uuid::Uuid;
use vault::{MasterKey, Vault};

use crate::postgres::Database;

/// The outside, which no command here asks.
struct Nobody;

#[async_trait]
impl AddressCheck for Nobody {
    async fn is_private(&self, _: &str) -> bool {
        false
    }

    fn check(&self, url: &str) -> Result<(), String> {
        Err(format!("{url} is outside"))
    }
}

impl CertificateCheck for Nobody {
    fn check(&self, _: &str, _: &SecretString) -> Result<CertificateFacts, Vec<FieldError>> {
        Err(Vec::new())
    }
}

#[async_trait]
impl ConnectionTester for Nobody {
    async fn test(&self, _: TestTarget) -> TestReport {
        TestReport { message: "nobody tests".into(), ..TestReport::default() }
    }
}

#[async_trait]
impl Connectors for Nobody {
    fn types(&self) -> &[ConnectorType] {
        &[]
    }

    fn check_input(&self, _: &str, _: &str, _: &Map<String, Value>, _: &str) -> Vec<FieldError> {
        Vec::new()
    }

    fn check_credential(&self, _: &str, _: &Value, _: &str) -> Vec<FieldError> {
        Vec::new()
    }

    fn check_config(&self, _: &str, _: &Value, _: &str) -> Vec<FieldError> {
        Vec::new()
    }

    async fn test(&self, _: ConnectorTest) -> TestReport {
        TestReport { message: "nobody tests".into(), ..TestReport::default() }
    }
}

#[async_trait]
impl Planner for Nobody {
    async fn plan(&self, _: PlanAsk) -> Result<PlanProposal, PlanFailure> {
        Err(PlanFailure::Nothing("nobody plans".into()))
    }

    async fn search(&self, _: WorkspaceId, _: &str, _: usize) -> Result<Vec<Match>, PlanFailure> {
        Ok(Vec::new())
    }
}

fn nowhere() -> Fault {
    Fault::new(FaultKind::Unreachable, "is outside")
}

#[async_trait]
impl OauthProviders for Nobody {
    fn known(&self) -> Vec<KnownProvider> {
        Vec::new()
    }

    async fn endpoints(&self, _: WorkspaceId, _: &OauthClient) -> Result<Endpoints, Fault> {
        Err(nowhere())
    }

    fn authorization(
        &self,
        _: &Endpoints,
        _: &str,
        _: &[String],
        _: &SecretString,
        _: &str,
    ) -> Result<(String, SecretString), Fault> {
        Err(nowhere())
    }

    async fn exchange(
        &self,
        _: OauthParty<'_>,
        _: &SecretString,
        _: &SecretString,
        _: &str,
        _: Option<&str>,
    ) -> Result<OauthTokens, Fault> {
        Err(nowhere())
    }

    async fn refresh(&self, _: OauthParty<'_>, _: &SecretString) -> Result<OauthTokens, Fault> {
        Err(nowhere())
    }

    async fn revoke(&self, _: OauthParty<'_>, _: &SecretString, _: Option<&SecretString>) -> Result<bool, Fault> {
        Err(nowhere())
    }
}

/// A node of an installation.
pub async fn node(database: &Database) -> App {
    node_with(database, Arc::new(Nobody)).await
}

/// With these OAuth providers.
pub async fn node_with(database: &Database, oauth: Arc<dyn OauthProviders>) -> App {
    let pool = database.pool("apiq_writer").await;
    // The same on each node: 32 zero bytes.
    let master = MasterKey::from_base64(&format!("{}=", "A".repeat(43)).into()).unwrap();
    let vault = Vault::open(pool.clone(), master).await.unwrap();
    let store = EventStore::open(pool, Options::default()).await.unwrap();
    let ports = Ports {
        planner: Arc::new(Nobody),
        tester: Arc::new(Nobody),
        addresses: Arc::new(Nobody),
        certificates: Arc::new(Nobody),
        oauth,
        connectors: Arc::new(Nobody),
    };
    let public_url = Some("https://apiq.test".to_owned());
    App::new(store, vault, Settings { public_url, ..Settings::default() }, ports)
}

pub const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(7));

pub fn context() -> Context {
    Context::system("test", WORKSPACE, Uuid::from_u128(1))
}
