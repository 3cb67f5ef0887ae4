//! What use cases ask of the outside while a client waits. Implemented in `executors`, wired at the composition root.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::{
    call::CallFacts,
    connection::{AuthScheme, health::Change},
    connector::kind::ConnectorType,
    error::FieldError,
    ids::{ConnectionId, ConnectorId, CredentialId, WorkspaceId},
    oauth::{Endpoints, Fault, OauthClient, Provider},
    operation::SpecSummary,
};
use secrecy::SecretString;
use serde_json::{Map, Value};

#[derive(Clone)]
pub struct Ports {
    pub planner: Arc<dyn Planner>,
    pub tester: Arc<dyn ConnectionTester>,
    pub addresses: Arc<dyn AddressCheck>,
    pub certificates: Arc<dyn CertificateCheck>,
    pub oauth: Arc<dyn OauthProviders>,
    pub connectors: Arc<dyn Connectors>,
}

/// A first look at a URL that a user typed: what is forbidden by its looks is refused before it is stored.
#[async_trait]
pub trait AddressCheck: Send + Sync {
    /// `Err` says in words why requests to this URL will never be sent.
    fn check(&self, url: &str) -> Result<(), String>;

    /// The host is, or resolves to, an address that is not public. A name that does not resolve is not.
    async fn is_private(&self, url: &str) -> bool;
}

/// A look at a client certificate before it is stored.
pub trait CertificateCheck: Send + Sync {
    /// PEM texts. `Err` names every fault: of `certificate` or of `privateKey`.
    fn check(&self, certificate: &str, private_key: &SecretString) -> Result<CertificateFacts, Vec<FieldError>>;
}

#[derive(Debug, Clone, PartialEq)]
pub struct CertificateFacts {
    pub subject: String,
    pub not_before: DateTime<Utc>,
    pub not_after: DateTime<Utc>,
}

/// What a connection test calls.
pub struct TestTarget {
    pub workspace: WorkspaceId,
    pub connection: ConnectionId,
    pub base_url: Option<String>,
    /// Where the credential may go.
    pub credential_base: Option<String>,
    /// The only origins that may be called, where an organization approves them.
    pub origins: Option<Vec<String>>,
    pub auth: AuthScheme,
    /// The place of a single key is the document's, and may be another for each operation.
    pub movable: bool,
    pub secret: Option<TestSecret>,
    pub spec: Option<Arc<SpecSummary>>,
    /// Of the call: the trace of whoever asks for the test.
    pub traceparent: Option<String>,
    /// Our clock, with which the API's is compared.
    pub now: DateTime<Utc>,
}

/// An opened value, with the version it is of.
pub struct TestSecret {
    pub credential: CredentialId,
    pub version: i32,
    pub value: SecretString,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TestReport {
    pub ok: bool,
    /// In words: what was tried, what is wrong, what to do.
    pub message: String,
    pub status: Option<u16>,
    pub elapsed_ms: u64,
    /// One word for programs; absent when nothing is wrong.
    pub problem: Option<String>,
    pub call: Option<CallFacts>,
    /// What it says of the connection's health; absent: nothing.
    pub health: Option<Change>,
}

#[async_trait]
pub trait ConnectionTester: Send + Sync {
    async fn test(&self, target: TestTarget) -> TestReport;
}

/// What a connector's test calls.
pub struct ConnectorTest {
    pub workspace: WorkspaceId,
    pub connector: ConnectorId,
    pub connector_type: String,
    pub config: Value,
    /// The opened data, as JSON.
    pub credential: Option<SecretString>,
    /// The only origins that may be called, where an organization approves them.
    pub origins: Option<Vec<String>>,
    /// Of the call: the trace of whoever asks for the test.
    pub traceparent: String,
}

/// The types of connectors that this build has. Each check names every fault, its place behind `path`; of a type that is
/// not known there is none.
#[async_trait]
pub trait Connectors: Send + Sync {
    fn types(&self) -> &[ConnectorType];

    /// An action's input as a step has it: a text with an expression in it fits anything.
    fn check_input(
        &self,
        connector_type: &str,
        action: &str,
        input: &Map<String, Value>,
        path: &str,
    ) -> Vec<FieldError>;

    /// No message holds a value.
    fn check_credential(&self, connector_type: &str, data: &Value, path: &str) -> Vec<FieldError>;

    fn check_config(&self, connector_type: &str, config: &Value, path: &str) -> Vec<FieldError>;

    async fn test(&self, target: ConnectorTest) -> TestReport;
}

pub struct PlanAsk {
    pub workspace: WorkspaceId,
    pub message: String,
    /// Earlier messages, oldest first: role and content.
    pub previous: Vec<(String, String)>,
}

/// A draft: nothing of it has run.
#[derive(Debug, Clone)]
pub struct PlanProposal {
    pub name: String,
    pub steps: Vec<Value>,
    pub input_schema: Option<Value>,
    pub explanation: String,
    pub confidence: f64,
    /// `llm` or `offline`.
    pub planner: String,
    pub candidates: Vec<Value>,
    pub warnings: Vec<String>,
    pub questions: Vec<String>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum PlanFailure {
    /// Nothing is connected, or nothing fits; the sentence says what to do.
    #[error("{0}")]
    Nothing(String),
    #[error("the planner cannot be reached: {0}")]
    Unavailable(String),
}

/// An operation that fits a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    pub connection: ConnectionId,
    pub method: String,
    pub path: String,
    /// Higher fits better; comparable within one search only.
    pub score: f32,
}

#[async_trait]
pub trait Planner: Send + Sync {
    async fn plan(&self, ask: PlanAsk) -> Result<PlanProposal, PlanFailure>;

    /// The operations of the workspace's connections that fit best, best first.
    async fn search(&self, workspace: WorkspaceId, query: &str, limit: usize) -> Result<Vec<Match>, PlanFailure>;
}

/// Our client at a provider, for one connection.
pub struct OauthParty<'a> {
    pub workspace: WorkspaceId,
    pub client: &'a OauthClient,
    pub endpoints: &'a Endpoints,
    /// The connection's own; the installation's is known there.
    pub secret: Option<&'a SecretString>,
}

/// What a provider gave.
pub struct OauthTokens {
    pub access: SecretString,
    /// Absent: there is none, or the one before goes on.
    pub refresh: Option<SecretString>,
    /// Absent: those that were asked for.
    pub scopes: Option<Vec<String>>,
    /// Seconds; absent: it does not say.
    pub expires_in: Option<i64>,
}

/// A provider by name. `ready`: the operator has set up a client there.
#[derive(Debug, Clone)]
pub struct KnownProvider {
    pub provider: Provider,
    pub ready: bool,
}

/// OAuth providers, and what is asked of them.
#[async_trait]
pub trait OauthProviders: Send + Sync {
    fn known(&self) -> Vec<KnownProvider>;

    /// Where the client's provider is; its metadata is asked for where an issuer is all that is known.
    async fn endpoints(&self, workspace: WorkspaceId, client: &OauthClient) -> Result<Endpoints, Fault>;

    /// The address a person is sent to, and the PKCE verifier of it.
    fn authorization(
        &self,
        endpoints: &Endpoints,
        redirect_uri: &str,
        scopes: &[String],
        state: &SecretString,
        nonce: &str,
    ) -> Result<(String, SecretString), Fault>;

    async fn exchange(
        &self,
        party: OauthParty<'_>,
        code: &SecretString,
        verifier: &SecretString,
        redirect_uri: &str,
        nonce: Option<&str>,
    ) -> Result<OauthTokens, Fault>;

    async fn refresh(&self, party: OauthParty<'_>, token: &SecretString) -> Result<OauthTokens, Fault>;

    /// `false`: the provider has no way to do so.
    async fn revoke(
        &self,
        party: OauthParty<'_>,
        access: &SecretString,
        refresh: Option<&SecretString>,
    ) -> Result<bool, Fault>;
}
