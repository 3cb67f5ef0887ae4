//! Registration: account, organization, workspace and first session in one append.

use domain::{
    actor::{Actor, ActorKind, Role},
    error::Faults,
    ids::{OrganizationId, SessionId, UserId, WorkspaceId},
    organization::{Organization, OrganizationCommand},
    reservation::{Reservation, ReservationCommand},
    session::{Session, SessionCommand},
    user::{User, UserCommand},
    workspace::{Workspace, WorkspaceCommand},
};
use secrecy::{ExposeSecret, SecretString};

use super::{Profile, Tokens, email_stream, normal, tokens};
use crate::{
    App, Context, Failure, Outcome, RequestInfo,
    unit::{Unit, fresh},
    workspace_key,
};

#[derive(Debug)]
pub struct Register {
    pub email: String,
    pub password: SecretString,
    pub name: Option<String>,
    pub organization_name: Option<String>,
}

pub async fn register(app: &App, request: &RequestInfo, input: Register) -> Outcome<Tokens> {
    check(&input)?;
    let (user, session): (UserId, SessionId) = (app.new_id(), app.new_id());
    let (organization, workspace): (OrganizationId, WorkspaceId) = (app.new_id(), app.new_id());
    let now = app.now();
    let reservation_id = email_stream(app, &input.email).await?;
    let mut reservation = app.store().load::<Reservation>(reservation_id).await?;

    let email = normal(&input.email);
    let subject = format!("user:{}", user.0);
    let vault = app.vault();
    let sealed_email = vault.seal_for(workspace, &subject, "user.email", &email).await?;
    let sealed_name = match &input.name {
        Some(name) => Some(vault.seal_for(workspace, &subject, "user.name", name).await?),
        None => None,
    };
    let hash = vault.hash_password(&input.password).await?;
    let password = vault.seal_for(workspace, &subject, "user.password", &hash).await?;
    let (refresh_token, token_hash) = tokens::new_refresh_token(session);

    let actor = Actor {
        kind: ActorKind::User,
        id: user.to_string(),
        role: Role::Owner,
        workspace,
        organization,
        session: Some(session),
    };
    let mut unit = Unit::new(app, &Context::new(actor, request.clone())).await?;
    let owner = user.0;
    unit.stage(&mut reservation, ReservationCommand::Claim { kind: "email".into(), owner })?;
    let name = input.organization_name.unwrap_or_else(|| "My organization".into());
    unit.stage(&mut fresh::<Organization>(organization.0), OrganizationCommand::Create { name, owner: user })?;
    unit.stage(
        &mut fresh::<Workspace>(workspace.0),
        WorkspaceCommand::Create { organization_id: organization, name: "Default".into() },
    )?;
    let mut account = fresh::<User>(user.0);
    unit.stage(
        &mut account,
        UserCommand::Register { email: sealed_email, name: sealed_name, password, organization, workspace },
    )?;
    let expires_at = now + app.settings().refresh_token_life;
    unit.stage(&mut fresh::<Session>(session.0), SessionCommand::Start { user, workspace, token_hash, expires_at })?;
    let profile = Profile {
        user_id: Some(user),
        api_key_id: None,
        email: Some(email),
        name: input.name,
        role: Role::Owner,
        workspace_id: workspace,
        organization_id: organization,
    };
    let keys = workspace_key::stage_made(app, &mut unit, workspace).await?;
    let done = unit.commit(tokens::issue(app, session, profile, refresh_token, now)?).await?;
    app.vault().settled_keys(workspace, &keys).await?;
    Ok(done)
}

fn check(input: &Register) -> Result<(), Failure> {
    let mut faults = Faults::default();
    let email = normal(&input.email);
    let plausible = email.split_once('@').is_some_and(|(local, host)| {
        !local.is_empty() && host.contains('.') && !host.starts_with('.') && !host.ends_with('.') && !host.contains('@')
    });
    if !plausible || email.len() > 254 || email.chars().any(|c| c.is_whitespace() || c.is_control()) {
        faults.add("email", "must be an e-mail address");
    }
    let length = input.password.expose_secret().chars().count();
    if !(10..=200).contains(&length) {
        faults.add("password", "must have 10 to 200 characters");
    }
    if let Some(name) = &input.name {
        faults.length("name", name, 1, 200);
    }
    if let Some(name) = &input.organization_name {
        faults.length("organizationName", name, 1, 200);
    }
    Ok(faults.into_result()?)
}
