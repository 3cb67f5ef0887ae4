//! Connectors: instances of the types that this build has, and what those types can do.

mod view;

use commands::connector::{self as use_cases, CreateConnector};
use domain::{
    connector::ConnectorPatch,
    error::Code,
    event::LogPosition,
    ids::{ConnectorId, CredentialId},
};
use poem_openapi::{Enum, Object, OpenApi, param::Path};
use projections::ConnectorView;
use serde_json::{Value, json};
use view::{ConnectorJson, ConnectorTestJson, ConnectorTypeJson, ConnectorsJson};

use super::{Deleted, Tag};
use crate::{
    answer::{Answer, Written},
    auth::{
        Permit,
        grant::{ConnectorRead, ConnectorTest, ConnectorWrite},
    },
    body::Body,
    pagination::{self, Pagination},
    problem::Problem,
    query::{Asked, Params, QuerySet},
    types::Id,
};

pub struct ConnectorsApi;

/// What a list of connectors may be asked; or, instead of instances, the types.
struct ConnectorList {
    available: bool,
    filter: projections::ListFilter,
    page: projections::Page,
}

const OWN: &[&str] = &[
    "query|connectorType|string|Of this type.",
    "query|status|some:enabled,disabled|State.",
    "query|search|string|Part of the name.",
];
const SORTS: &str = "createdAt,updatedAt,name";

impl QuerySet for ConnectorList {
    const NOTES: &'static [&'static str] = &[
        "query|available|one:true,false|`true`: the types there are, in place of the workspace's instances.",
        "query|connectorType|string|Of this type.",
        "query|status|some:enabled,disabled|State.",
        "query|search|string|Part of the name.",
        "query|createdAfter|date-time|From this time on.",
        "query|createdBefore|date-time|Before this time.",
        "query|sort|string|Fields by comma, - for descending: createdAt,updatedAt,name.",
        "query|page|integer:1:1000000:1|The page, from 1.",
        "query|limit|integer:1:100:20|Items on a page.",
        "query|cursor|string|nextCursor or prevCursor of an earlier page; goes before page.",
    ];

    fn read(params: &mut Params) -> Self {
        let text = params.text("available");
        if text.as_deref().is_some_and(|text| !["true", "false"].contains(&text)) {
            params.faults.add("available", "must be true or false");
        }
        let (filter, page) = pagination::read(params, OWN, SORTS);
        Self { available: text.as_deref() == Some("true"), filter, page }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct CreateConnectorBody {
    /// `slack`, `smtp`, `stripe`, `discord` or `http`.
    connector_type: String,
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    /// A credential of this type (`POST credentials`).
    credential_id: Option<Id<CredentialId>>,
    /// What the type's `config` schema allows; never a secret.
    config: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
enum ConnectorStatusName {
    Enabled,
    Disabled,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct PatchConnectorBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    name: Option<String>,
    credential_id: Option<Id<CredentialId>>,
    /// Takes the place of the whole config.
    config: Option<Value>,
    /// Steps of a disabled one fail, until it is enabled again.
    status: Option<ConnectorStatusName>,
}

/// The connector, or 404.
async fn find<P>(permit: &Permit<P>, id: ConnectorId) -> Result<ConnectorView, Problem> {
    let found = permit.reads().connector(permit.workspace(), id).await?;
    found.ok_or_else(|| Problem::not_found(Code::ResourceNotFound, "connector"))
}

/// What a write at `at` made of the connector.
async fn stored<const STATUS: u16>(
    permit: &Permit<ConnectorWrite>,
    id: ConnectorId,
    at: LogPosition,
    message: &str,
) -> Result<Written<ConnectorJson, STATUS>, Problem> {
    if permit.shows(at).await
        && let Some(view) = permit.reads().connector(permit.workspace(), id).await?
    {
        let version = view.version;
        return Ok(Written::Usual(Answer::new(view.into()).message(message).version(version).at(at)));
    }
    Ok(permit.lagging(id, at))
}

#[OpenApi(tag = "Tag::Connectors")]
impl ConnectorsApi {
    /// List connectors
    ///
    /// The workspace's instances. With `available=true` the types that this build has, each with its actions (JSON Schemas
    /// of input and output) and what its credential and its config hold; other parameters do not matter then.
    #[oai(path = "/connectors", method = "get", operation_id = "listConnectors")]
    async fn list(
        &self,
        permit: Permit<ConnectorRead>,
        asked: Asked<ConnectorList>,
    ) -> Result<Answer<ConnectorsJson>, Problem> {
        let ConnectorList { available, filter, page } = asked.0;
        if available {
            let types = use_cases::types(permit.app()).iter().map(ConnectorTypeJson::of).collect();
            return Ok(Answer::new(ConnectorsJson { types: Some(types), ..ConnectorsJson::default() }));
        }
        let listed = permit.reads().connectors(permit.workspace(), &filter, &page).await?;
        let pagination = Some(Pagination::of(&listed));
        let connectors = Some(listed.items.into_iter().map(Into::into).collect());
        Ok(Answer::new(ConnectorsJson { connectors, types: None, pagination }))
    }

    /// Create a connector
    ///
    /// An instance of a type, with its credential and settings. Steps name it by `connectorId`.
    #[oai(path = "/connectors", method = "post", operation_id = "createConnector")]
    async fn create(
        &self,
        permit: Permit<ConnectorWrite>,
        body: Body<CreateConnectorBody>,
    ) -> Result<Written<ConnectorJson, 201>, Problem> {
        let CreateConnectorBody { connector_type, name, credential_id, config } = body.0;
        let credential = credential_id.map(|id| id.typed("credentialId")).transpose()?;
        let config = config.unwrap_or_else(|| json!({}));
        let input = CreateConnector { connector_type, name, credential, config };
        let done = use_cases::create(permit.app(), permit.context(), input).await?;
        stored(&permit, done.value, done.at, "Connector created.").await
    }

    /// Get a connector
    #[oai(path = "/connectors/:id", method = "get", operation_id = "getConnector")]
    async fn get(
        &self,
        permit: Permit<ConnectorRead>,
        id: Path<Id<ConnectorId>>,
    ) -> Result<Answer<ConnectorJson>, Problem> {
        let view = find(&permit, id.typed("id")?).await?;
        let version = view.version;
        Ok(Answer::new(view.into()).version(version))
    }

    /// Change a connector
    ///
    /// Fields that are absent stay. Steps that run take it as it is at their next attempt.
    #[oai(path = "/connectors/:id", method = "patch", operation_id = "updateConnector")]
    async fn update(
        &self,
        permit: Permit<ConnectorWrite>,
        id: Path<Id<ConnectorId>>,
        body: Body<PatchConnectorBody>,
    ) -> Result<Written<ConnectorJson>, Problem> {
        let id = id.typed("id")?;
        let expected = permit.expected_version()?;
        let PatchConnectorBody { name, credential_id, config, status } = body.0;
        let credential = credential_id.map(|id| id.typed("credentialId")).transpose()?;
        let enabled = status.map(|status| status == ConnectorStatusName::Enabled);
        let patch = ConnectorPatch { name, credential, config, enabled };
        let done = use_cases::update(permit.app(), permit.context(), id, expected, patch).await?;
        stored(&permit, id, done.at, "Connector updated.").await
    }

    /// Delete a connector
    ///
    /// Its credential stays. Steps that name it fail from now on.
    #[oai(path = "/connectors/:id", method = "delete", operation_id = "deleteConnector")]
    async fn delete(
        &self,
        permit: Permit<ConnectorWrite>,
        id: Path<Id<ConnectorId>>,
    ) -> Result<Answer<Deleted>, Problem> {
        let id = id.typed("id")?;
        let done = use_cases::delete(permit.app(), permit.context(), id).await?;
        permit.wrote(done.at);
        Ok(Answer::new(Deleted::of(id)).message("Connector deleted.").at(done.at))
    }

    /// Test a connector
    ///
    /// One harmless call with the real credential: Slack's `auth.test`, Stripe's balance, Discord's own user, a GET of the
    /// base URL, a login at the mail server. The use of the credential is in the log before it happens.
    #[oai(path = "/connectors/:id/test", method = "post", operation_id = "testConnector")]
    async fn test(
        &self,
        permit: Permit<ConnectorTest>,
        id: Path<Id<ConnectorId>>,
    ) -> Result<Answer<ConnectorTestJson>, Problem> {
        let id = id.typed("id")?;
        // Two appends: the read of the credential, and the outcome.
        let done = use_cases::test(permit.app(), &permit.context_without_claim(), id).await?;
        permit.wrote(done.at);
        Ok(Answer::new(done.value.into()).at(done.at))
    }
}
