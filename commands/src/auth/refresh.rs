//! Refresh tokens: each is good once; a second use ends the whole family.

use domain::{
    actor::{Actor, ActorKind},
    error::{Code, Rejection},
    ids::SessionId,
    session::{Session, SessionCommand, SessionEvent},
    user::User,
};
use event_store::Loaded;
use secrecy::SecretString;
use vault::{OpaqueKind, OpaqueToken};

use super::{Tokens, profile, tokens};
use crate::{App, Context, Failure, Outcome, RequestInfo, unit::Unit};

fn invalid() -> Failure {
    Rejection::new(Code::InvalidToken, "This refresh token is not valid; log in again.").into()
}

pub async fn refresh(app: &App, request: &RequestInfo, refresh_token: &SecretString) -> Outcome<Tokens> {
    let presented = OpaqueToken::parse(OpaqueKind::Refresh, refresh_token).ok_or_else(invalid)?;
    let mut session = app.store().load::<Session>(presented.id).await?;
    let user = session.state.user.ok_or_else(invalid)?;
    let account = app.store().load::<User>(user.0).await?;
    let context = Context::new(actor_of(&session, &account).ok_or_else(invalid)?, request.clone());
    let now = app.now();
    let id = SessionId(session.id);
    let (new_token, token_hash) = tokens::new_refresh_token(id);
    let command = SessionCommand::Refresh {
        presented_hash: presented.hash,
        token_hash,
        expires_at: now + app.settings().refresh_token_life,
        now,
    };
    let mut unit = Unit::new(app, &context).await?;
    let events = unit.stage(&mut session, command)?;
    let revoked = events.iter().any(|e| matches!(e, SessionEvent::Revoked { .. }));
    let done = match unit.commit(()).await {
        // One winner among parallel refreshes; the loser holds a token that was just used up.
        Err(failure) if failure.is_conflict() => return Err(invalid()),
        other => other?,
    };
    if revoked {
        return Err(invalid());
    }
    let profile = profile::me(app, &context).await?;
    let issued = tokens::issue(app, id, profile, new_token, now)?;
    Ok(done.map(|()| issued))
}

pub async fn logout(app: &App, context: &Context) -> Outcome<()> {
    let Some(id) = context.actor.session else {
        return Err(Failure::rejected(Code::Conflict, "An API key has no session to end; revoke the key instead."));
    };
    let target = (id.0, Code::InvalidToken, "session");
    let command = |_: &Session| Ok(SessionCommand::Revoke { reason: "logout".into() });
    Ok(crate::unit::change::<Session>(app, context, target, None, command).await?.map(|_| ()))
}

fn actor_of(session: &Loaded<Session>, account: &Loaded<User>) -> Option<Actor> {
    Some(Actor {
        kind: ActorKind::User,
        id: session.state.user?.to_string(),
        role: account.state.role?,
        workspace: session.state.workspace?,
        organization: account.state.organization?,
        session: Some(SessionId(session.id)),
    })
}
