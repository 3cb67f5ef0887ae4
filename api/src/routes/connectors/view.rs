//! Connectors and their types, as answers show them.

use commands::ports::TestReport;
use domain::connector::kind::{Action, ConnectorType};
use poem_openapi::Object;
use projections::ConnectorView;
use serde_json::Value;

use crate::{pagination::Pagination, types::Time};

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct ConnectorTestJson {
    /// `success` or `failed`.
    status: String,
    /// What was tried, and what is wrong.
    message: String,
    http_status: Option<u16>,
    /// One word for programs; absent when nothing is wrong.
    problem: Option<String>,
    /// Milliseconds.
    response_time: u64,
    tested_at: Option<Time>,
}

fn verdict(ok: bool) -> String {
    if ok { "success" } else { "failed" }.to_owned()
}

impl From<TestReport> for ConnectorTestJson {
    fn from(report: TestReport) -> Self {
        Self {
            status: verdict(report.ok),
            message: report.message,
            http_status: report.status,
            problem: report.problem,
            response_time: report.elapsed_ms,
            tested_at: None,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct ConnectorJson {
    id: String,
    connector_type: String,
    name: String,
    /// `enabled` or `disabled`.
    status: String,
    credential_id: Option<String>,
    config: Value,
    last_test: Option<ConnectorTestJson>,
    created_at: Time,
    updated_at: Time,
    version: i64,
}

impl From<ConnectorView> for ConnectorJson {
    fn from(view: ConnectorView) -> Self {
        Self {
            id: view.id.to_string(),
            connector_type: view.connector_type,
            name: view.name,
            status: view.status,
            credential_id: view.credential_id.map(|id| id.to_string()),
            config: view.config,
            last_test: view.last_test.map(|test| ConnectorTestJson {
                status: verdict(test.ok),
                message: test.message,
                http_status: test.status,
                problem: test.problem,
                response_time: test.elapsed_ms,
                tested_at: Some(test.at.into()),
            }),
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            version: view.version,
        }
    }
}

/// Something that a type of connector does.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ConnectorActionJson {
    name: String,
    title: String,
    description: String,
    /// `safe`, `keyed`, `natural`, `by_method` or `never`: may it be repeated when nobody knows what came of it?
    repeat: String,
    /// JSON Schema of a step's `config`, beside `connectorType`, `action`, `credentialId` and `connectorId`.
    input: Value,
    /// JSON Schema of the step's output.
    output: Value,
}

impl From<&Action> for ConnectorActionJson {
    fn from(action: &Action) -> Self {
        Self {
            name: action.name.to_owned(),
            title: action.title.to_owned(),
            description: action.description.to_owned(),
            repeat: action.repeat.as_str().to_owned(),
            input: action.input.clone(),
            output: action.output.clone(),
        }
    }
}

/// A type of connector.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct ConnectorTypeJson {
    connector_type: String,
    title: String,
    description: String,
    credential_required: bool,
    /// JSON Schema of a credential's `data`; `writeOnly` marks the secrets.
    credential: Value,
    /// JSON Schema of an instance's `config`.
    config: Value,
    actions: Vec<ConnectorActionJson>,
}

impl ConnectorTypeJson {
    pub fn of(kind: &ConnectorType) -> Self {
        Self {
            connector_type: kind.name.to_owned(),
            title: kind.title.to_owned(),
            description: kind.description.to_owned(),
            credential_required: kind.credential_required,
            credential: kind.credential.clone(),
            config: kind.config.clone(),
            actions: kind.actions.iter().map(Into::into).collect(),
        }
    }
}

/// Instances with their pagination, or (`available=true`) types.
#[derive(Debug, Default, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct ConnectorsJson {
    pub connectors: Option<Vec<ConnectorJson>>,
    pub types: Option<Vec<ConnectorTypeJson>>,
    pub pagination: Option<Pagination>,
}
