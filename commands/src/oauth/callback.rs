//! A person comes back: the answer is taken once, checked, and its code exchanged for tokens, which are stored.

use chrono::{DateTime, Utc};
use domain::{
    actor::{Actor, Role},
    connection::{Connection, ConnectionCommand, Granted, OauthCommand},
    credential::{Credential, CredentialCommand, NewVersion, name},
    error::{Code, Rejection},
    ids::{ConnectionId, CredentialId, OauthFlowId, OrganizationId},
    oauth::{OauthFlow, flow::OauthFlowCommand, scope},
};
use event_store::Loaded;
use secrecy::SecretString;
use vault::{OpaqueKind, OpaqueToken};

use super::{
    authorize::{VERIFIER, nonce, public_url},
    sentence,
    tokens::{self, Values},
};
use crate::{
    App, Context, Failure, Outcome, RequestInfo, connection,
    ports::{OauthParty, OauthTokens},
    stored_credential,
    unit::{Unit, change, fresh},
};

const RACES: usize = 8;
const TARGET: (Code, &str) = (Code::Oauth2Error, "authorization");

/// What a browser brings back.
#[derive(Debug, Default)]
pub struct Callback {
    pub state: Option<SecretString>,
    pub code: Option<SecretString>,
    /// The provider's word for why there is no code.
    pub error: Option<String>,
    pub issuer: Option<String>,
    /// The cookie of this authorization.
    pub browser: Option<SecretString>,
    /// The path that was called, as it came.
    pub path: String,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Connected {
    pub connection: ConnectionId,
    pub name: String,
    pub provider: String,
    pub scopes: Vec<String>,
    /// Asked for and not granted.
    pub refused: Vec<String>,
    pub expires_at: Option<DateTime<Utc>>,
    pub refreshable: bool,
    /// Who began it.
    pub actor_id: String,
}

/// The authorization that a state belongs to: by it the cookie is named.
pub fn flow_of(state: &SecretString) -> Option<OauthFlowId> {
    OpaqueToken::parse(OpaqueKind::OauthState, state).map(|token| OauthFlowId(token.id))
}

/// In whose name an answer is taken: theirs who began it, in the browser that it is bound to.
pub(super) fn context_of(flow: &Loaded<OauthFlow>, request: &RequestInfo) -> Option<Context> {
    let actor = Actor {
        kind: flow.state.actor_kind?,
        id: flow.state.actor_id.clone(),
        // What it may do was asked when it began.
        role: Role::Owner,
        workspace: flow.workspace?.into(),
        organization: OrganizationId::default(),
        session: None,
    };
    Some(Context::new(actor, request.clone()))
}

pub async fn callback(app: &App, request: &RequestInfo, input: Callback) -> Outcome<Connected> {
    let unknown = || Rejection::new(Code::Oauth2Error, "This authorization is not known here; begin again.");
    let state = input.state.ok_or_else(unknown)?;
    let token = OpaqueToken::parse(OpaqueKind::OauthState, &state).ok_or_else(unknown)?;
    let mut loaded = app.store().load::<OauthFlow>(token.id).await?;
    let context = context_of(&loaded, request).ok_or_else(unknown)?;
    let browser = input.browser.and_then(|cookie| OpaqueToken::parse(OpaqueKind::OauthBrowser, &cookie));
    let command = OauthFlowCommand::UseState {
        state_hash: token.hash,
        browser_hash: browser.map(|browser| browser.hash),
        redirect_uri: format!("{}{}", public_url(app)?, input.path),
        now: app.now(),
    };
    // Appended before anything is asked: of two that bring the same answer, one is first.
    let mut unit = Unit::new(app, &context).await?;
    unit.stage(&mut loaded, command)?;
    unit.commit(()).await.map_err(|failure| match failure.is_conflict() {
        true => Rejection::new(Code::Oauth2Error, "This answer was taken before; it is good once. Begin again.").into(),
        false => failure,
    })?;
    let flow = loaded.state;
    let taken = take(app, &context, token.id, &flow, &state, input.code, input.error, input.issuer).await;
    if let Err(failure) = &taken {
        let reason = match failure {
            Failure::Rejected(rejection) => rejection.message.clone(),
            _ => "The service could not finish it.".to_owned(),
        };
        let fail = |_: &OauthFlow| Ok(OauthFlowCommand::Fail { reason: reason.clone() });
        change(app, &context, (token.id, TARGET.0, TARGET.1), None, fail).await?;
    }
    taken
}

#[expect(clippy::too_many_arguments, reason = "the parts of one answer")]
async fn take(
    app: &App,
    context: &Context,
    id: uuid::Uuid,
    flow: &OauthFlow,
    state: &SecretString,
    code: Option<SecretString>,
    error: Option<String>,
    issuer: Option<String>,
) -> Outcome<Connected> {
    let refused = |message: String| -> Failure { Rejection::new(Code::Oauth2Error, message).into() };
    let provider = &flow.endpoints.title;
    // Before anything that the answer says is believed.
    flow.endpoints.check_issuer(issuer.as_deref()).map_err(|why| refused(format!("Nothing was connected: {why}.")))?;
    if let Some(error) = error {
        return Err(refused(match error.as_str() {
            "access_denied" => format!("Nothing was connected: the request was declined at {provider}."),
            other => format!("Nothing was connected: {provider} answers {}.", shown(other)),
        }));
    }
    let code = code.ok_or_else(|| refused(format!("Nothing was connected: {provider} answers without a code.")))?;
    let connection = flow.connection.ok_or_else(|| Failure::Internal("an authorization of nothing".into()))?;
    let verifier = flow.verifier.as_ref().ok_or_else(|| Failure::Internal("an authorization that has ended".into()))?;
    let verifier: String = app.vault().open_sealed(context.actor.workspace, VERIFIER, verifier).await?;
    // The secret that is stored now is the present client's.
    unchanged(flow, &connection::load(app, context.actor.workspace, connection).await?.state)?;
    let own = flow.client.client_id.is_some();
    let before = match own {
        true => tokens::read(app, context, connection, "oauth_exchange", &flow.endpoints.token).await?.0,
        false => Values::default(),
    };
    let party = OauthParty {
        workspace: context.actor.workspace,
        client: &flow.client,
        endpoints: &flow.endpoints,
        secret: before.client_secret.as_ref(),
    };
    let asked_identity = flow.scopes.iter().any(|scope| scope == "openid").then(|| nonce(state));
    let outside = &app.ports().oauth;
    let tokens = outside
        .exchange(party, &code, &verifier.into(), &flow.redirect_uri, asked_identity.as_deref())
        .await
        .map_err(|fault| refused(format!("Nothing was connected. {}", sentence(provider, &fault))))?;
    store(app, context, id, flow, connection, before, tokens).await
}

/// An error's name as the standard writes them; a sentence of the provider's is not repeated.
fn shown(error: &str) -> &str {
    let fits = error.len() <= 60 && error.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if fits && !error.is_empty() { error } else { "an error without a name" }
}

/// The tokens, the grant and the end of the authorization: one append.
async fn store(
    app: &App,
    context: &Context,
    id: uuid::Uuid,
    flow: &OauthFlow,
    connection: ConnectionId,
    before: Values,
    tokens: OauthTokens,
) -> Outcome<Connected> {
    let workspace = context.actor.workspace;
    let now = app.now();
    let scopes = tokens.scopes.clone().unwrap_or_else(|| flow.scopes.clone());
    let expires_at = tokens::expires_at(&tokens, now);
    // A refresh token of an earlier grant is none of this one's.
    let values = Values { refresh: None, ..before }.renewed(&tokens);
    let (value, refreshable) = (values.text()?, values.refresh.is_some());
    let made: CredentialId = app.new_id();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut target = connection::load(app, workspace, connection).await?;
        unchanged(flow, &target.state)?;
        let (present, stored) = next_version(app, &target, made, &value).await?;
        let (credential, version) = (CredentialId(present.id), stored.version);
        let outcome = async {
            let mut unit = Unit::new(app, context).await?;
            stage_credential(&mut unit, &mut target, present, stored)?;
            let granted = Granted { credential, version, scopes: scopes.clone(), expires_at, refreshable };
            let (provider, dialect) = (flow.endpoints.title.clone(), flow.endpoints.dialect);
            let grant = OauthCommand::Grant { provider: provider.clone(), dialect, granted, now };
            unit.stage(&mut target, ConnectionCommand::Oauth(grant))?;
            let mut ended = app.store().load::<OauthFlow>(id).await?;
            unit.stage(&mut ended, OauthFlowCommand::Complete { scopes: scopes.clone() })?;
            let refused = scope::lacking(dialect, &scopes, &flow.scopes).into_iter().map(str::to_owned).collect();
            let (name, scopes) = (target.state.name.clone(), scopes.clone());
            let actor_id = context.actor.id.clone();
            let connected =
                Connected { connection, name, provider, scopes, refused, expires_at, refreshable, actor_id };
            unit.commit(connected).await
        };
        match stored_credential::settle(app, workspace, credential, version, outcome.await).await {
            Err(failure) if failure.is_conflict() && attempt < RACES => continue,
            other => return other,
        }
    }
}

/// What a person agreed to is this client, and tokens for this host.
fn unchanged(flow: &OauthFlow, present: &Connection) -> Result<(), Rejection> {
    let what = match present.oauth_client().is_some_and(|client| client.is_same(&flow.client)) {
        true if present.origin() == flow.target => return Ok(()),
        true => "host",
        false => "OAuth client",
    };
    let message = format!("Nothing was connected: the connection's {what} was changed meanwhile. Begin again.");
    Err(Rejection::new(Code::Oauth2Error, message))
}

/// Stores the value as the next version of the connection's credential, or as the first one of a new credential.
async fn next_version(
    app: &App,
    target: &Loaded<Connection>,
    made: CredentialId,
    value: &SecretString,
) -> Result<(Loaded<Credential>, NewVersion), Failure> {
    let workspace = target.workspace.map(Into::into).unwrap_or_default();
    let kind = target.state.auth.credential_kind();
    let present = match target.state.credential {
        Some(id) => Some(app.store().load::<Credential>(id.0).await?),
        None => None,
    };
    let usable = present.filter(|credential| credential.state.is_live() && credential.state.kind == kind);
    let credential = usable.unwrap_or_else(|| fresh::<Credential>(made.0));
    let version = credential.state.version;
    let stored = stored_credential::store(app, workspace, CredentialId(credential.id), version, value).await?;
    Ok((credential, stored))
}

fn stage_credential(
    unit: &mut Unit<'_>,
    target: &mut Loaded<Connection>,
    mut present: Loaded<Credential>,
    value: NewVersion,
) -> Result<(), Failure> {
    let credential = CredentialId(present.id);
    if present.state.created {
        unit.stage(&mut present, CredentialCommand::Rotate { value })?;
        unit.stage(target, ConnectionCommand::AttachCredential { credential })?;
        return Ok(());
    }
    let name = name::derived(&target.state.name, "credential");
    let kind = target.state.auth.credential_kind().to_owned();
    let connection = Some(ConnectionId(target.id));
    unit.stage(&mut present, CredentialCommand::Create { name, kind, connection, value })?;
    unit.stage(target, ConnectionCommand::AttachCredential { credential })?;
    Ok(())
}
