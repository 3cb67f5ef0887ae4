//! The caller's organization: what it is and what it decides.

use domain::{
    error::Code,
    organization::{Organization, OrganizationCommand, Settings},
};
use event_store::Loaded;

use crate::{
    App, Context, Failure, Outcome,
    unit::{change, owned},
};

pub async fn current(app: &App, context: &Context) -> Result<Loaded<Organization>, Failure> {
    let actor = &context.actor;
    owned(app, actor.workspace, actor.organization.0, Code::ResourceNotFound, "organization").await
}

pub async fn change_settings(
    app: &App,
    context: &Context,
    expected_version: Option<i64>,
    settings: Settings,
) -> Outcome<()> {
    let target = (context.actor.organization.0, Code::ResourceNotFound, "organization");
    let command = |_: &Organization| Ok(OrganizationCommand::ChangeSettings { settings });
    let done = change(app, context, target, expected_version, command).await?;
    app.gates().forget();
    Ok(done.map(|_| ()))
}
