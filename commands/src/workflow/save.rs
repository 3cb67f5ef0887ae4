//! From a client's JSON to a stored version: parse, check against the connected operations, bind, store.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    connection::{AuthScheme, Connection, IngestionStatus, Needs, Sending, security},
    error::{Faults, FieldError, Rejection},
    ids::{ConnectionId, WorkspaceId},
    operation::SpecSummary,
    workflow::{Binding, Bindings, Definition, Version, check},
};
use serde_json::Value;

use super::actions::{Bound, bind};
use crate::{App, Failure};

#[derive(Default)]
pub(crate) struct Saved {
    pub definition_hash: String,
    pub step_count: u32,
    /// What can be saved, but will not work as it is.
    pub warnings: Vec<FieldError>,
}

/// `name` is checked along, so that all faults are told at once.
pub(crate) async fn save(
    app: &App,
    workspace: WorkspaceId,
    name: Option<&str>,
    definition: &Value,
) -> Result<Saved, Failure> {
    let mut faults = Faults::default();
    if let Some(name) = name {
        faults.length("name", name, 1, 200);
    }
    let Checked { version, step_count, warnings } = match checked(app, workspace, definition).await? {
        Ok(checked) if faults.0.is_empty() => checked,
        Ok(_) => return Err(Rejection::invalid(faults.0).into()),
        Err(more) => {
            faults.0.extend(more);
            return Err(Rejection::invalid(faults.0).into());
        }
    };
    let bytes = serde_json::to_vec(&version).map_err(|e| Failure::Internal(e.to_string()))?;
    let definition_hash = app.store().put_blob(workspace.0, &bytes).await?;
    Ok(Saved { definition_hash, step_count, warnings })
}

/// A definition without fault.
pub(crate) struct Checked {
    /// As it will be stored.
    pub version: Version,
    pub step_count: u32,
    pub warnings: Vec<FieldError>,
}

/// All faults at once, or the version as it will be stored.
pub(crate) async fn checked(
    app: &App,
    workspace: WorkspaceId,
    definition: &Value,
) -> Result<Result<Checked, Vec<FieldError>>, Failure> {
    let parsed = match Definition::parse(definition) {
        Ok(parsed) => parsed,
        Err(faults) => return Ok(Err(faults)),
    };
    let mut specs: BTreeMap<ConnectionId, Option<Arc<SpecSummary>>> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut connected: BTreeMap<ConnectionId, Connection> = BTreeMap::new();
    for id in parsed.connections() {
        let loaded = app.store().load::<Connection>(id.0).await?;
        let connection = loaded.state;
        if loaded.workspace != Some(workspace.0) || !connection.is_live() {
            // `check` names each step that uses it.
            continue;
        }
        match (&connection.facts, connection.ingestion) {
            (None, IngestionStatus::Succeeded) => {
                specs.insert(id, None);
            }
            (None, status) => faults.push(FieldError::new(
                "steps",
                format!("connection {id} has no operations yet: its ingestionStatus is {}", status.as_str()),
            )),
            (Some(facts), _) => {
                specs.insert(id, Some(app.spec(&facts.operations_hash).await?));
            }
        }
        connected.insert(id, connection);
    }
    if !faults.is_empty() {
        return Ok(Err(faults));
    }
    let Bound { actions, faults, warnings: more } = bind(app, workspace, &parsed).await?;
    let connections = specs.iter().map(|(id, spec)| (*id, spec.as_deref())).collect();
    let bindings = match check::check(&parsed, &connections, &actions) {
        Ok(bindings) if faults.is_empty() => bindings,
        Ok(_) => return Ok(Err(faults)),
        Err(found) => return Ok(Err(found.into_iter().chain(faults).collect())),
    };
    let mut warnings = unauthorised(&parsed, &bindings, &connected);
    warnings.extend(more);
    let (step_count, definition) = (count(&parsed), parsed.to_json());
    Ok(Ok(Checked { step_count, warnings, version: Version { definition, bindings } }))
}

fn count(definition: &Definition) -> u32 {
    let mut count = 0;
    definition.walk(&mut |_| count += 1);
    count
}

/// Scopes that a call needs and a grant does not name, in words.
pub(crate) fn lacking_scopes(connection: &Connection, needs: Option<&Needs>) -> Option<String> {
    connection.oauth_client()?;
    if connection.grant.is_none() {
        return Some("nobody has authorized the connection yet: POST /api/v1/oauth/authorize".to_owned());
    }
    let lacking = connection.lacking_scopes(needs);
    let words = || format!("the operation needs {}, which was not granted: connect again with it", lacking.join(", "));
    (!lacking.is_empty()).then(words)
}

/// The same of a saved version, before it runs. Workflows without scopes cost a look at their bindings.
pub(crate) async fn lacking_grants(
    app: &App,
    workspace: WorkspaceId,
    version: &Version,
) -> Result<Vec<String>, Failure> {
    let wants = |binding: &Binding| binding.security.iter().flatten().flatten().any(|need| !need.scopes.is_empty());
    if !version.bindings.values().any(wants) {
        return Ok(Vec::new());
    }
    let Ok(definition) = Definition::parse(&version.definition) else { return Ok(Vec::new()) };
    let mut words = Vec::new();
    for (path, step, call) in definition.calls() {
        let Some(binding) = version.bindings.get(&step.id).filter(|binding| wants(binding)) else { continue };
        let loaded = app.store().load::<Connection>(call.connection_id.0).await?;
        if loaded.workspace == Some(workspace.0)
            && let Some(lacking) = lacking_scopes(&loaded.state, binding.security.as_ref())
        {
            words.push(format!("{path}: {lacking}."));
        }
    }
    Ok(words)
}

/// Calls that need what their connection does not have.
fn unauthorised(
    definition: &Definition,
    bindings: &Bindings,
    connections: &BTreeMap<ConnectionId, Connection>,
) -> Vec<FieldError> {
    let mut warnings = Vec::new();
    for (path, step, call) in definition.calls() {
        let Some(connection) = connections.get(&call.connection_id) else { continue };
        let needs = bindings.get(&step.id).and_then(|binding| binding.security.as_ref());
        let lacking = match connection.sending(needs) {
            Err(why) => Some(format!("it is not decided how the connection authenticates: {why}")),
            Ok(Sending::Lacking(words)) => {
                Some(format!("the operation needs {words}; the connection has {}", connection.auth.as_str()))
            }
            Ok(Sending::Nothing) if connection.auth == AuthScheme::None => needs
                .filter(|needs| !needs.is_empty() && needs.iter().all(|way| !way.is_empty()))
                .map(|needs| format!("the operation needs {}; the connection has none", security::in_words(needs))),
            Ok(Sending::Parts(_)) if connection.credential.is_none() => {
                Some("the connection has no credential yet: store one before the workflow runs".to_owned())
            }
            Ok(_) => lacking_scopes(connection, needs),
        };
        warnings.extend(lacking.map(|message| FieldError::new(format!("{path}.connectionId"), message)));
    }
    warnings
}
