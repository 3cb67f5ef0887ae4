//! The gate: permission is an extractor. It authenticates, counts, checks the matrix and makes reads wait for writes.

use std::{marker::PhantomData, sync::Arc};

use commands::{App, Context, RequestInfo};
use domain::{
    actor::Actor,
    error::Code,
    event::LogPosition,
    ids::{UserId, WorkspaceId},
    policy::Permission,
};
use poem::{
    Request, RequestBody,
    http::{Method, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use projections::{ReadModels, SystemReads};
use secrecy::SecretString;

use crate::{
    answer::{Answer, Stored, Written},
    document::note,
    freshness,
    limits::Class,
    problem::Problem,
    request::Arrival,
    state::ApiState,
};

/// Names of the document's security schemes.
pub const BEARER: &str = "bearerAuth";
pub const API_KEY: &str = "apiKeyAuth";

/// Who was found behind a request's credentials; kept, so that they are checked once.
#[derive(Clone)]
struct Known(Actor);

/// Authenticates a request once, whoever asks first.
pub async fn authenticate(state: &ApiState, request: &Request) -> Result<Actor, Problem> {
    if let Some(Known(actor)) = request.data::<Known>() {
        return Ok(actor.clone());
    }
    let actor = match credentials(request)? {
        Credentials::Bearer(token) => commands::auth::authenticate_bearer(state.app(), &token).await?,
        Credentials::ApiKey(key) => commands::auth::authenticate_api_key(state.app(), &key).await?,
    };
    check_workspace(request, &actor)?;
    Ok(actor)
}

/// Lets later layers find the actor.
pub fn remember(request: &mut Request, actor: &Actor) {
    request.set_data(Known(actor.clone()));
}

enum Credentials {
    Bearer(SecretString),
    ApiKey(SecretString),
}

fn credentials(request: &Request) -> Result<Credentials, Problem> {
    let unusable =
        || Problem::new(Code::InvalidToken, "The credentials cannot be read; send Authorization: Bearer <token>.");
    if let Some(value) = request.headers().get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| unusable())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(unusable)?;
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Err(unusable());
        }
        return Ok(Credentials::Bearer(SecretString::from(token.to_owned())));
    }
    if let Some(value) = request.headers().get("x-api-key") {
        let key = value.to_str().map_err(|_| unusable())?;
        return Ok(Credentials::ApiKey(SecretString::from(key.trim().to_owned())));
    }
    Err(Problem::new(
        Code::Unauthorized,
        "This route needs credentials: Authorization: Bearer <token or key>, or X-API-Key: <key>.",
    ))
}

/// The tenant comes from the credentials; the header may repeat it, never choose another.
fn check_workspace(request: &Request, actor: &Actor) -> Result<(), Problem> {
    let Some(value) = request.headers().get("x-workspace-id") else { return Ok(()) };
    let named: Option<WorkspaceId> = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    match named {
        None => Err(Problem::field("X-Workspace-Id", "must be a workspace's id, ws_ and 26 characters")),
        Some(workspace) if workspace == actor.workspace => Ok(()),
        Some(_) => Err(Problem::not_found(Code::ResourceNotFound, "workspace")),
    }
}

/// A permission as a type, so that a handler's signature says what it needs.
pub trait Grant: Send + Sync + 'static {
    const PERMISSION: Permission;
    /// For the document.
    const NOTE: &'static str;
}

macro_rules! grants {
    ($($permission:ident = $text:literal),* $(,)?) => {
        /// One marker for each permission of the matrix.
        pub mod grant {
            $(
                #[derive(Debug, Clone, Copy)]
                pub struct $permission;
                impl super::Grant for $permission {
                    const PERMISSION: super::Permission = super::Permission::$permission;
                    const NOTE: &'static str = concat!("permission|", $text);
                }
            )*
        }

        #[cfg(test)]
        const GRANTED: &[(Permission, &str)] = &[$((Permission::$permission, $text)),*];
    };
}

grants! {
    SelfRead = "self:read",
    ApiKeyRead = "api-key:read",
    ApiKeyWrite = "api-key:write",
    ConnectionRead = "connection:read",
    ConnectionWrite = "connection:write",
    ConnectionTest = "connection:test",
    ConnectionApprove = "connection:approve",
    ConnectorRead = "connector:read",
    ConnectorWrite = "connector:write",
    ConnectorTest = "connector:test",
    OrganizationRead = "organization:read",
    OrganizationWrite = "organization:write",
    CredentialRead = "credential:read",
    CredentialWrite = "credential:write",
    CredentialReveal = "credential:reveal",
    WorkflowRead = "workflow:read",
    WorkflowWrite = "workflow:write",
    WorkflowExecute = "workflow:execute",
    ExecutionRead = "execution:read",
    ExecutionControl = "execution:control",
    PlanWrite = "plan:write",
    LogRead = "log:read",
    WebhookRead = "webhook:read",
    WebhookWrite = "webhook:write",
    ProjectionRead = "projection:read",
    CacheManage = "cache:manage",
    KeyRead = "key:read",
    KeyWrite = "key:write",
}

/// An authenticated caller who may do `P` in its workspace.
pub struct Permit<P> {
    state: ApiState,
    context: Context,
    method: Method,
    path: String,
    if_match: Option<String>,
    marker: PhantomData<P>,
}

impl<P> Permit<P> {
    pub fn app(&self) -> &App {
        self.state.app()
    }

    pub fn reads(&self) -> &ReadModels {
        self.state.reads()
    }

    pub fn system(&self) -> &SystemReads {
        self.state.system()
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn workspace(&self) -> WorkspaceId {
        self.context.actor.workspace
    }

    /// Something that only some bodies of the route need; a refusal leaves its event too.
    pub async fn require(&self, permission: Permission) -> Result<(), Problem> {
        let (method, path) = (self.method.as_str(), self.path.as_str());
        Ok(commands::auth::authorize(self.app(), &self.context, permission, method, path).await?)
    }

    /// The version that `If-Match` names.
    pub fn expected_version(&self) -> Result<Option<i64>, Problem> {
        let Some(text) = self.if_match.as_deref().map(str::trim).filter(|text| *text != "*") else { return Ok(None) };
        let bare = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        let version = bare.parse().map_err(|_| Problem::field("If-Match", "must be the ETag of an earlier answer"))?;
        Ok(Some(version))
    }

    /// Notes a write: this caller's reads will show it.
    pub fn wrote(&self, at: LogPosition) {
        self.state.last_writes().note(&self.context.actor.id, at);
    }

    /// The context of a second write of the same request: an idempotency key can be claimed once only.
    pub fn context_without_claim(&self) -> Context {
        let mut context = self.context.clone();
        context.request.idempotency = None;
        context
    }

    /// Notes a write, and waits until the read models show it. `false`: they need longer than allowed.
    pub async fn shows(&self, at: LogPosition) -> bool {
        self.wrote(at);
        freshness::reached(&self.state, at).await
    }

    /// What a write answers when the read models lag.
    pub fn lagging<T, const STATUS: u16>(&self, id: impl ToString, at: LogPosition) -> Written<T, STATUS> {
        let answer = Answer::new(Stored { id: id.to_string() }).at(at);
        Written::Else(answer.message("Stored. Read it with this answer's X-Event-Position in a moment."))
    }
}

impl<'a, P: Grant> ApiExtractor<'a> for Permit<P> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_schemes(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER, API_KEY, P::NOTE]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let state = ApiState::of(request)?;
        let arrival = Arrival::of(request)?;
        let actor = authenticate(&state, request).await?;
        let path = arrival.path.as_str();
        charge(&state, &arrival, Class::of(path), &actor.id)?;
        let context = Context::new(actor, arrival.info(request));
        commands::auth::authorize(state.app(), &context, P::PERMISSION, request.method().as_str(), path)
            .await
            .map_err(Problem::from)?;
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            freshness::await_for(&state, request, &context.actor.id).await?;
        }
        let if_match = request.header(header::IF_MATCH).map(str::to_owned);
        let (method, path) = (request.method().clone(), path.to_owned());
        Ok(Self { state, context, method, path, if_match, marker: PhantomData })
    }
}

/// Counts the request against its class; the answer's headers tell.
pub fn charge(state: &ApiState, arrival: &Arrival, class: Class, key: &str) -> Result<(), Problem> {
    let (rate, refused) = state.limiter().charge(class, key);
    arrival.note_rate(rate);
    if refused { Err(rate.refusal()) } else { Ok(()) }
}

fn register_schemes(registry: &mut Registry) {
    let scheme = |ty, description| MetaSecurityScheme {
        ty,
        description: Some(description),
        name: None,
        key_in: None,
        scheme: None,
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    };
    let bearer = MetaSecurityScheme {
        scheme: Some("bearer"),
        bearer_format: Some("JWT or sk_…"),
        ..scheme("http", "An access token of a login, or an API key of the workspace.")
    };
    let key = MetaSecurityScheme {
        name: Some("X-API-Key"),
        key_in: Some("header"),
        ..scheme("apiKey", "An API key of the workspace.")
    };
    registry.create_security_scheme(BEARER, bearer);
    registry.create_security_scheme(API_KEY, key);
}

/// A caller that nobody knows yet: public routes.
pub struct Guest {
    pub state: ApiState,
    pub request: RequestInfo,
    arrival: Arc<Arrival>,
}

impl Guest {
    /// Attempts to get in are counted by address and account.
    pub fn charge_login(&self, account: &str) -> Result<(), Problem> {
        let ip = self.request.ip.as_deref().unwrap_or_default();
        charge(&self.state, &self.arrival, Class::Auth, &format!("{ip} {}", account.trim().to_lowercase()))
    }

    /// Reads of this actor see what was written in its name.
    pub fn note_write_of(&self, actor: &str, at: LogPosition) {
        self.state.last_writes().note(actor, at);
    }

    /// A login's reads see what the login wrote.
    pub fn note_write(&self, user: Option<UserId>, at: LogPosition) {
        if let Some(user) = user {
            self.state.last_writes().note(&user.to_string(), at);
        }
    }
}

impl<'a> ApiExtractor<'a> for Guest {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn security_schemes() -> Vec<&'static str> {
        vec![note::PUBLIC]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let arrival = Arrival::of(request)?;
        Ok(Self { state: ApiState::of(request)?, request: arrival.info(request), arrival })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_permission_has_its_marker() {
        let granted: Vec<_> = GRANTED.iter().map(|(permission, _)| *permission).collect();
        // No route gives statistics yet.
        let wanted: Vec<_> = Permission::ALL.into_iter().filter(|p| *p != Permission::StatsRead).collect();
        assert_eq!(granted, wanted);
        for (permission, text) in GRANTED {
            assert_eq!(permission.as_str(), *text);
        }
    }

    #[test]
    fn credentials_are_told_apart_from_nonsense() {
        let of = |name: &'static str, value: &str| {
            let request = Request::builder().header(name, value).finish();
            credentials(&request).map(|c| matches!(c, Credentials::Bearer(_))).map_err(|p| p.code)
        };
        assert_eq!(of("authorization", "Bearer abc"), Ok(true));
        assert_eq!(of("authorization", "bearer abc"), Ok(true));
        assert_eq!(of("x-api-key", "sk_abc"), Ok(false));
        assert_eq!(of("authorization", "Basic abc"), Err(Code::InvalidToken));
        assert_eq!(of("authorization", "Bearer "), Err(Code::InvalidToken));
        assert_eq!(of("authorization", "abc"), Err(Code::InvalidToken));
        assert_eq!(of("accept", "*/*"), Err(Code::Unauthorized));
    }
}
