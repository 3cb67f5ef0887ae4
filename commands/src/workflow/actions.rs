//! Binds the connector steps of a definition: does their type, action, credential and instance exist, and does the input
//! fit?

use domain::{
    connector::Connector,
    error::FieldError,
    ids::WorkspaceId,
    workflow::{
        Definition,
        action::{ActionBinding, Actions, ConnectorCall},
    },
};

use crate::{
    App, Failure,
    connector::{find_type, misfit, type_names},
};

#[derive(Default)]
pub(super) struct Bound {
    /// Of the steps without fault in what they name.
    pub actions: Actions,
    pub faults: Vec<FieldError>,
    /// What can be saved, but will not work as it is.
    pub warnings: Vec<FieldError>,
}

pub(super) async fn bind(app: &App, workspace: WorkspaceId, definition: &Definition) -> Result<Bound, Failure> {
    let mut bound = Bound::default();
    for (path, step, call) in definition.actions() {
        let path = format!("{path}.config");
        let Some(connector_type) = bound.type_of(app, workspace, call, &path).await? else { continue };
        let known = find_type(app, &connector_type);
        let Some(known) = known else {
            let message = format!("must be one of {}", type_names(app));
            bound.faults.push(FieldError::new(format!("{path}.connectorType"), message));
            continue;
        };
        if let Some(id) = call.credential_id
            && let Some(message) = misfit(app, workspace, id, &connector_type).await?
        {
            bound.faults.push(FieldError::new(format!("{path}.credentialId"), message));
        }
        if known.credential_required && call.credential_id.is_none() && call.connector_id.is_none() {
            bound.faults.push(FieldError::new(format!("{path}.credentialId"), "is required (or connectorId)"));
        }
        let Some(action) = known.action(&call.action) else {
            let message = format!("{connector_type} has no such action; it has {}", known.action_names());
            bound.faults.push(FieldError::new(format!("{path}.action"), message));
            continue;
        };
        bound.faults.extend(app.ports().connectors.check_input(&connector_type, action.name, &call.input, &path));
        let (action, repeat) = (action.name.to_owned(), action.repeat);
        bound.actions.insert(step.id.clone(), ActionBinding { connector_type, action, repeat });
    }
    Ok(bound)
}

impl Bound {
    /// The step's word, which must be the instance's; `None`: neither can be used.
    async fn type_of(
        &mut self,
        app: &App,
        workspace: WorkspaceId,
        call: &ConnectorCall,
        path: &str,
    ) -> Result<Option<String>, Failure> {
        let Some(id) = call.connector_id else { return Ok(call.connector_type.clone()) };
        let field = format!("{path}.connectorId");
        let loaded = app.store().load::<Connector>(id.0).await?;
        let connector = loaded.state;
        if loaded.workspace != Some(workspace.0) || !connector.is_live() {
            self.faults.push(FieldError::new(field, "there is no connector with this id in the workspace"));
            return Ok(call.connector_type.clone());
        }
        if call.connector_type.as_ref().is_some_and(|said| *said != connector.connector_type) {
            let message = format!("this connector is of type {}", connector.connector_type);
            self.faults.push(FieldError::new(format!("{path}.connectorType"), message));
        }
        if !connector.enabled {
            self.warnings.push(FieldError::new(field.clone(), "this connector is switched off"));
        }
        if connector.credential.is_none() && call.credential_id.is_none() {
            let required = find_type(app, &connector.connector_type).is_some_and(|known| known.credential_required);
            if required {
                self.warnings.push(FieldError::new(field, "this connector has no credential yet"));
            }
        }
        Ok(Some(connector.connector_type))
    }
}
