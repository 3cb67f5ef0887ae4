//! The routes, a file a noun. A handler extracts, calls a use case or a query, answers.

mod admin;
mod api_keys;
mod audit;
mod auth;
mod chat;
mod connections;
mod connectors;
mod credentials;
mod execution_view;
mod executions;
mod keys;
mod logs;
mod oauth;
mod openapi_cache;
mod operations;
mod organizations;
mod secret_life;
mod secrets;
mod system;
mod webhooks;
mod workflows;

use poem_openapi::{Object, Tags};
use serde::Serialize;
use serde_json::Value;

/// Every noun's routes. A tuple holds sixteen at most: what belongs together is one of its own.
pub type Api = (
    system::SystemApi,
    auth::AuthApi,
    api_keys::ApiKeysApi,
    (
        connections::ConnectionsApi,
        connections::ConnectionCredentialsApi,
        connections::ConnectionSpecApi,
        operations::OperationsApi,
        oauth::OauthApi,
    ),
    organizations::OrganizationsApi,
    (secrets::SecretsApi, secret_life::SecretLifeApi, credentials::CredentialsApi, keys::KeysApi),
    connectors::ConnectorsApi,
    workflows::WorkflowsApi,
    executions::ExecutionsApi,
    chat::ChatApi,
    (logs::LogsApi, audit::AuditApi),
    (webhooks::WebhooksApi, webhooks::DeliveriesApi),
    (admin::AdminApi, openapi_cache::OpenapiCacheApi),
);

pub fn api() -> Api {
    (
        system::SystemApi,
        auth::AuthApi,
        api_keys::ApiKeysApi,
        (
            connections::ConnectionsApi,
            connections::ConnectionCredentialsApi,
            connections::ConnectionSpecApi,
            operations::OperationsApi,
            oauth::OauthApi,
        ),
        organizations::OrganizationsApi,
        (secrets::SecretsApi, secret_life::SecretLifeApi, credentials::CredentialsApi, keys::KeysApi),
        connectors::ConnectorsApi,
        workflows::WorkflowsApi,
        executions::ExecutionsApi,
        chat::ChatApi,
        (logs::LogsApi, audit::AuditApi),
        (webhooks::WebhooksApi, webhooks::DeliveriesApi),
        (admin::AdminApi, openapi_cache::OpenapiCacheApi),
    )
}

/// Other spellings that older documents use: method, path, and the path that is meant. Below the base path.
pub const ALIASES: [(&str, &str, &str); 9] = [
    ("GET", "/auth/session", "/auth/me"),
    ("POST", "/auth/signout", "/auth/logout"),
    ("POST", "/webhooks/outgoing", "/webhooks"),
    ("GET", "/workflows/executions/{id}", "/executions/{id}"),
    ("GET", "/workflows/executions/{id}/status", "/executions/{id}/status"),
    ("POST", "/workflows/executions/{id}/cancel", "/executions/{id}/cancel"),
    ("POST", "/executions/{id}", "/executions/{id}/cancel"),
    ("GET", "/admin/spec-cache", "/admin/openapi-cache"),
    ("DELETE", "/admin/spec-cache", "/admin/openapi-cache"),
];

#[derive(Tags)]
pub(crate) enum Tag {
    /// Is the service well, and what does it offer.
    System,
    /// Accounts, logins, tokens.
    Auth,
    /// Keys that act for a workspace with a role of their own.
    #[oai(rename = "API keys")]
    ApiKeys,
    /// Authenticated instances of APIs, and the operations their documents describe.
    Connections,
    /// OAuth 2.0 for connections: a person agrees at a provider, and tokens are kept and renewed.
    #[oai(rename = "OAuth2")]
    Oauth,
    /// Services that need no API document: Slack, mail, Stripe, Discord, any HTTP API.
    Connectors,
    /// What an organization decides for all its workspaces.
    Organizations,
    /// The vault: values go in and are never returned.
    Secrets,
    /// Steps over connected APIs, in versions that never change.
    Workflows,
    /// Runs of workflows: every step's input, output, times and attempts.
    Executions,
    /// From plain English to a plan, and from the plan to its execution.
    Chat,
    /// The event log: everything that happened, and who did it.
    Logs,
    /// Outgoing webhooks after the Standard Webhooks specification.
    Webhooks,
    /// For those who run the service.
    Admin,
}

/// What became of a resource.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(crate) struct Deleted {
    pub id: String,
    pub deleted: bool,
}

impl Deleted {
    pub fn of(id: impl ToString) -> Self {
        Self { id: id.to_string(), deleted: true }
    }
}

/// The name of a unit variant, as serde writes it.
pub(crate) fn name_of(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name,
        _ => String::new(),
    }
}
