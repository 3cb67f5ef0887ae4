//! Login: the same answer and time whether the account exists or not.

use domain::{
    actor::{Actor, ActorKind},
    error::{Code, Rejection},
    ids::{SessionId, UserId},
    reservation::Reservation,
    session::{Session, SessionCommand},
    user::{User, UserCommand},
};
use event_store::Loaded;
use secrecy::SecretString;

use super::{Profile, Tokens, email_stream, normal, tokens};
use crate::{
    App, Context, Failure, Outcome, RequestInfo,
    unit::{Unit, fresh},
};

#[derive(Debug)]
pub struct Login {
    pub email: String,
    pub password: SecretString,
}

pub async fn login(app: &App, request: &RequestInfo, input: Login) -> Outcome<Tokens> {
    let wrong = || Failure::from(Rejection::new(Code::InvalidCredentials, "E-mail address or password is wrong."));
    let reservation = app.store().load::<Reservation>(email_stream(app, &input.email).await?).await?;
    let account = match reservation.state.owner {
        Some(owner) => Some(app.store().load::<User>(owner).await?),
        None => None,
    };
    let stored = match &account {
        Some(Loaded { state: User { password: Some(sealed), workspace: Some(workspace), .. }, .. }) => {
            Some(app.vault().open_sealed(*workspace, "user.password", sealed).await?)
        }
        _ => None,
    };
    let good = app.vault().verify_password(&input.password, stored.as_deref()).await?;
    let Some(mut account) = account.filter(|a| a.state.registered) else { return Err(wrong()) };
    let session: SessionId = app.new_id();
    let context = Context::new(actor_of(&account, good.then_some(session)).ok_or_else(wrong)?, request.clone());
    if !good {
        let mut unit = Unit::new(app, &context).await?;
        unit.stage(&mut account, UserCommand::FailLogin)?;
        // Lost to a parallel attempt on the same account: that one is in the log.
        if let Err(failure) = unit.commit(()).await
            && !failure.is_conflict()
        {
            return Err(failure);
        }
        return Err(wrong());
    }
    start_session(app, &context, &mut account, session, &input.email).await
}

async fn start_session(
    app: &App,
    context: &Context,
    account: &mut Loaded<User>,
    session: SessionId,
    email: &str,
) -> Outcome<Tokens> {
    let now = app.now();
    let user = UserId(account.id);
    let workspace = context.actor.workspace;
    let (refresh_token, token_hash) = tokens::new_refresh_token(session);
    let expires_at = now + app.settings().refresh_token_life;
    let name = match &account.state.name {
        Some(sealed) => app.vault().open_sealed(workspace, "user.name", sealed).await.ok(),
        None => None,
    };
    let profile = Profile {
        user_id: Some(user),
        api_key_id: None,
        email: Some(normal(email)),
        name,
        role: context.actor.role,
        workspace_id: workspace,
        organization_id: context.actor.organization,
    };
    let issued = tokens::issue(app, session, profile, refresh_token, now)?;
    // The account's stream may move at the same time (a parallel login): decide again.
    for _ in 0..8 {
        let mut unit = Unit::new(app, context).await?;
        unit.stage(account, UserCommand::LogIn { session })?;
        let start = SessionCommand::Start { user, workspace, token_hash: token_hash.clone(), expires_at };
        unit.stage(&mut fresh::<Session>(session.0), start)?;
        match unit.commit(()).await {
            Ok(done) => return Ok(done.map(|()| issued)),
            Err(failure) if failure.is_conflict() => *account = app.store().load::<User>(account.id).await?,
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::Unavailable("too many logins to this account at once".into()))
}

fn actor_of(account: &Loaded<User>, session: Option<SessionId>) -> Option<Actor> {
    Some(Actor {
        kind: if session.is_some() { ActorKind::User } else { ActorKind::Anonymous },
        id: UserId(account.id).to_string(),
        role: account.state.role?,
        workspace: account.state.workspace?,
        organization: account.state.organization?,
        session,
    })
}
