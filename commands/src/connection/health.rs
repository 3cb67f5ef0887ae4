//! Records that a connection's calls go better or worse than before.

use domain::{
    connection::{
        Connection, ConnectionCommand, ConnectionEvent,
        health::{Change, Health},
    },
    error::Code,
    ids::ConnectionId,
};

use super::target;
use crate::{App, Context, Failure, unit::change};

/// `seen`: the health that the change was seen in. `false`: another node was faster, or the connection is gone.
pub async fn change_health(
    app: &App,
    context: &Context,
    id: ConnectionId,
    seen: Health,
    to: Change,
) -> Result<bool, Failure> {
    let now = app.now();
    let command = |_: &Connection| Ok(ConnectionCommand::ChangeHealth { seen, change: to.clone(), now });
    match change(app, context, target(id), None, command).await {
        Ok(done) => Ok(done.value.iter().any(|e| matches!(e, ConnectionEvent::HealthChanged { .. }))),
        Err(Failure::Rejected(rejection)) if rejection.code == Code::ConnectionNotFound => Ok(false),
        Err(failure) => Err(failure),
    }
}
