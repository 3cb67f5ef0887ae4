//! API keys of the workspace: shown once, stored as a hash.

use commands::api_key::{self as use_cases, CreateApiKey};
use domain::{actor::Role, error::Code, ids::ApiKeyId};
use poem_openapi::{Enum, Object, OpenApi, param::Path};
use projections::ApiKeyView;
use secrecy::ExposeSecret;

use super::{Deleted, Tag, name_of};
use crate::{
    answer::Answer,
    auth::{
        Permit,
        grant::{ApiKeyRead, ApiKeyWrite},
    },
    body::Body,
    pagination::{Pagination, listing},
    problem::Problem,
    query::Asked,
    types::{Id, Time},
};

pub struct ApiKeysApi;

listing! {
    /// What a list of keys may be asked.
    pub struct ApiKeyList sorted by "createdAt,name" {
        "status" = "some:active,revoked", "State.";
        "role" = "some:owner,admin,manager,member,viewer,auditor", "The key's role.";
    }
}

#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum RoleName {
    Owner,
    Admin,
    Manager,
    Member,
    Viewer,
    Auditor,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Owner => Role::Owner,
            RoleName::Admin => Role::Admin,
            RoleName::Manager => Role::Manager,
            RoleName::Member => Role::Member,
            RoleName::Viewer => Role::Viewer,
            RoleName::Auditor => Role::Auditor,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct CreateApiKeyBody {
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
    /// What the key may do; not more than its maker.
    role: RoleName,
    /// From then on the key is refused.
    expires_at: Option<Time>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ApiKeyJson {
    id: String,
    name: String,
    role: String,
    /// The key's first characters, to tell keys apart.
    prefix: String,
    status: String,
    created_by: String,
    created_at: Time,
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
    version: i64,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreatedApiKeyJson {
    id: String,
    /// The key itself. It is shown here and never again.
    key: String,
    prefix: String,
    name: String,
    role: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ApiKeysJson {
    api_keys: Vec<ApiKeyJson>,
    pagination: Pagination,
}

impl From<ApiKeyView> for ApiKeyJson {
    fn from(view: ApiKeyView) -> Self {
        Self {
            id: view.id.to_string(),
            name: view.name,
            role: view.role.as_str().to_owned(),
            prefix: view.prefix,
            status: name_of(view.status),
            created_by: view.created_by,
            created_at: view.created_at.into(),
            expires_at: view.expires_at.map(Time),
            revoked_at: view.revoked_at.map(Time),
            version: view.version,
        }
    }
}

#[OpenApi(tag = "Tag::ApiKeys")]
impl ApiKeysApi {
    /// List API keys
    ///
    /// Names, roles and states; never the keys themselves.
    #[oai(path = "/api-keys", method = "get", operation_id = "listApiKeys")]
    async fn list(&self, permit: Permit<ApiKeyRead>, asked: Asked<ApiKeyList>) -> Result<Answer<ApiKeysJson>, Problem> {
        let ApiKeyList { filter, page } = asked.0;
        let listed = permit.reads().api_keys(permit.workspace(), &filter, &page).await?;
        let pagination = Pagination::of(&listed);
        Ok(Answer::new(ApiKeysJson { api_keys: listed.items.into_iter().map(Into::into).collect(), pagination }))
    }

    /// Create an API key
    ///
    /// The key acts in this workspace with the given role. It is shown once: keep it.
    #[oai(path = "/api-keys", method = "post", operation_id = "createApiKey")]
    async fn create(
        &self,
        permit: Permit<ApiKeyWrite>,
        body: Body<CreateApiKeyBody>,
    ) -> Result<Answer<CreatedApiKeyJson, 201>, Problem> {
        let CreateApiKeyBody { name, role, expires_at } = body.0;
        let role = Role::from(role);
        let input = CreateApiKey { name: name.clone(), role, expires_at: expires_at.map(|time| time.0) };
        let done = use_cases::create(permit.app(), permit.context(), input).await?;
        permit.wrote(done.at);
        let created = CreatedApiKeyJson {
            id: done.value.id.to_string(),
            key: done.value.key.expose_secret().to_owned(),
            prefix: done.value.prefix,
            name,
            role: role.as_str().to_owned(),
        };
        Ok(Answer::new(created).message("Keep the key: it is not shown again.").at(done.at).shown_once("key"))
    }

    /// Get an API key
    #[oai(path = "/api-keys/:id", method = "get", operation_id = "getApiKey")]
    async fn get(&self, permit: Permit<ApiKeyRead>, id: Path<Id<ApiKeyId>>) -> Result<Answer<ApiKeyJson>, Problem> {
        let id = id.typed("id")?;
        let found = permit.reads().api_key(permit.workspace(), id).await?;
        let view = found.ok_or_else(|| Problem::not_found(Code::ApiKeyNotFound, "API key"))?;
        let version = view.version;
        Ok(Answer::new(view.into()).version(version))
    }

    /// Revoke an API key
    ///
    /// It is refused from now on. The key stays in the list as revoked.
    #[oai(path = "/api-keys/:id", method = "delete", operation_id = "revokeApiKey")]
    async fn revoke(&self, permit: Permit<ApiKeyWrite>, id: Path<Id<ApiKeyId>>) -> Result<Answer<Deleted>, Problem> {
        let id = id.typed("id")?;
        let done = use_cases::revoke(permit.app(), permit.context(), id).await?;
        permit.wrote(done.at);
        Ok(Answer::new(Deleted::of(id)).message("The API key is revoked.").at(done.at))
    }
}
