//! Connector instances: create, change, delete, test. What their types take is a port's to say.

use domain::{
    connector::{Connector, ConnectorCommand, ConnectorPatch, kind::ConnectorType},
    credential::{Credential, name},
    error::{Code, Faults, Rejection},
    ids::{ConnectorId, CredentialId, WorkspaceId},
    trace::traceparent,
};
use event_store::Loaded;
use serde_json::Value;
use vault::ReadReceipt;

use crate::{
    App, Context, Failure, Outcome, connection,
    ports::{ConnectorTest, TestReport},
    unit::{self, Unit, change, fresh},
};

#[derive(Debug)]
pub struct CreateConnector {
    pub connector_type: String,
    pub name: String,
    pub credential: Option<CredentialId>,
    pub config: Value,
}

fn target(id: ConnectorId) -> (uuid::Uuid, Code, &'static str) {
    (id.0, Code::ResourceNotFound, "connector")
}

/// A live instance of the workspace.
pub async fn load(app: &App, workspace: WorkspaceId, id: ConnectorId) -> Result<Loaded<Connector>, Failure> {
    let (uuid, code, noun) = target(id);
    let loaded = unit::owned::<Connector>(app, workspace, uuid, code, noun).await?;
    if loaded.state.is_live() { Ok(loaded) } else { Err(Rejection::not_found(code, noun).into()) }
}

/// Every type there is.
pub fn types(app: &App) -> &[ConnectorType] {
    app.ports().connectors.types()
}

pub(crate) fn find_type<'a>(app: &'a App, name: &str) -> Option<&'a ConnectorType> {
    types(app).iter().find(|known| known.name == name)
}

/// `slack, smtp, …`, for messages.
pub(crate) fn type_names(app: &App) -> String {
    types(app).iter().map(|known| known.name).collect::<Vec<_>>().join(", ")
}

pub async fn create(app: &App, context: &Context, input: CreateConnector) -> Outcome<ConnectorId> {
    let CreateConnector { connector_type, name, credential, config } = input;
    let mut faults = Faults::default();
    name::check(&mut faults, "name", &name);
    if find_type(app, &connector_type).is_none() {
        faults.add("connectorType", format!("must be one of {}", type_names(app)));
    }
    check(app, context, &connector_type, credential, Some(&config), &mut faults).await?;
    faults.into_result()?;
    let id: ConnectorId = app.new_id();
    let mut unit = Unit::new(app, context).await?;
    let command = ConnectorCommand::Create { connector_type, name, credential, config };
    unit.stage(&mut fresh::<Connector>(id.0), command)?;
    unit.commit(id).await
}

pub async fn update(
    app: &App,
    context: &Context,
    id: ConnectorId,
    expected_version: Option<i64>,
    patch: ConnectorPatch,
) -> Outcome<()> {
    let present = load(app, context.actor.workspace, id).await?.state;
    let mut faults = Faults::default();
    if let Some(name) = &patch.name {
        name::check(&mut faults, "name", name);
    }
    check(app, context, &present.connector_type, patch.credential, patch.config.as_ref(), &mut faults).await?;
    faults.into_result()?;
    let command = |_: &Connector| Ok(ConnectorCommand::Update(patch.clone()));
    Ok(change(app, context, target(id), expected_version, command).await?.map(|_| ()))
}

pub async fn delete(app: &App, context: &Context, id: ConnectorId) -> Outcome<()> {
    Ok(change::<Connector>(app, context, target(id), None, |_| Ok(ConnectorCommand::Delete)).await?.map(|_| ()))
}

/// A harmless call with the real credential; the read is in the log before the value is opened.
pub async fn test(app: &App, context: &Context, id: ConnectorId) -> Outcome<TestReport> {
    let workspace = context.actor.workspace;
    let connector = load(app, workspace, id).await?.state;
    let mut unable = (!connector.enabled).then(|| "The connector is switched off: enable it first.".to_owned());
    let mut value = None;
    if let (Some(credential), None) = (connector.credential, &unable) {
        let stored = app.store().load::<Credential>(credential.0).await?.state;
        unable = unusable(app, &stored, &connector.connector_type).map(str::to_owned);
        if unable.is_none() {
            let version = stored.version;
            let read = |_: &Connector| {
                let purpose = "connector_test".to_owned();
                Ok(ConnectorCommand::ReadCredential { credential, version, purpose })
            };
            let at = change(app, context, target(id), None, read).await?.at;
            value = Some(app.vault().reveal(workspace, &ReadReceipt { committed_at: at, credential, version }).await?);
        }
    }
    let report = match unable {
        Some(message) => TestReport { message, problem: Some("credential".to_owned()), ..TestReport::default() },
        None => {
            let random = app.new_id::<uuid::Uuid>().as_u64_pair().1;
            let trace = traceparent(context.request.traceparent.as_deref(), context.correlation_id(), random);
            let gate = connection::gate_of_late(app, workspace).await?;
            let target = ConnectorTest {
                workspace,
                connector: id,
                connector_type: connector.connector_type,
                config: connector.config,
                credential: value,
                origins: gate.required.then_some(gate.approved),
                traceparent: trace,
            };
            app.ports().connectors.test(target).await
        }
    };
    let record = |_: &Connector| {
        Ok(ConnectorCommand::RecordTest {
            ok: report.ok,
            message: report.message.clone(),
            status: report.status,
            elapsed_ms: report.elapsed_ms,
            problem: report.problem.clone(),
            call: report.call.clone(),
        })
    };
    let done = change(app, context, target(id), None, record).await?;
    Ok(done.map(|_| report))
}

/// Why a stored credential is not used for this type, in words.
fn unusable(app: &App, stored: &Credential, connector_type: &str) -> Option<&'static str> {
    if !stored.is_live() {
        return Some("The connector's credential was deleted: give it another one.");
    }
    if stored.is_erased() {
        return Some("The connector's credential was destroyed: store it again.");
    }
    if stored.is_expired(app.now()) {
        return Some("The connector's credential has expired: store a new value.");
    }
    (stored.kind != connector_type).then_some("The connector's credential is of another type: give it another one.")
}

/// What is wrong with a credential or a config for this type.
async fn check(
    app: &App,
    context: &Context,
    connector_type: &str,
    credential: Option<CredentialId>,
    config: Option<&Value>,
    faults: &mut Faults,
) -> Result<(), Failure> {
    if let Some(id) = credential
        && let Some(message) = misfit(app, context.actor.workspace, id, connector_type).await?
    {
        faults.add("credentialId", message);
    }
    if let Some(config) = config {
        faults.0.extend(app.ports().connectors.check_config(connector_type, config, "config"));
    }
    Ok(())
}

/// Why this credential cannot be one of that type; another tenant's does not exist.
pub(crate) async fn misfit(
    app: &App,
    workspace: WorkspaceId,
    id: CredentialId,
    connector_type: &str,
) -> Result<Option<String>, Failure> {
    let loaded = app.store().load::<Credential>(id.0).await?;
    if loaded.workspace != Some(workspace.0) || !loaded.state.is_live() {
        return Ok(Some("there is no credential with this id in the workspace".to_owned()));
    }
    let kind = &loaded.state.kind;
    Ok((kind != connector_type).then(|| format!("is a credential of type {kind}, not {connector_type}")))
}
