//! A person's way through a provider and back: begun for one connection, bound to one browser, good once.
//!
//! The state that travels names this stream and holds a secret; so do the link that begins it in a browser, and the
//! cookie that the browser keeps. Only their hashes are here.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Endpoints, OauthClient};
use crate::{
    actor::ActorKind,
    aggregate::aggregate,
    error::{Code, Rejection},
    event::events,
    ids::ConnectionId,
    sealed::Sealed,
};

/// How long a person may take.
pub const LIFE: TimeDelta = TimeDelta::minutes(10);

events! {
    pub enum OauthFlowEvent {
        "oauth.authorization_started" v "1" = Started {
            connection_id: ConnectionId,
            client: OauthClient,
            /// As they are asked: settings that change meanwhile change nothing of this.
            endpoints: Endpoints,
            scopes: Vec<String>,
            redirect_uri: String,
            /// The origin that the tokens are for: the connection's, as the person sees it who agrees.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            target: Option<String>,
            /// SHA-256, hex.
            state_hash: String,
            link_hash: String,
            browser_hash: String,
            /// PKCE: shown to the token endpoint only.
            verifier: Sealed<String>,
            /// In whose name the answer is taken.
            actor_kind: ActorKind,
            actor_id: String,
            expires_at: DateTime<Utc>,
        },
        /// The link was opened: the browser that did so is the one, with a state and a verifier of its own.
        "oauth.link_opened" v "1" = LinkOpened { browser_hash: String, state_hash: String, verifier: Sealed<String> },
        /// The answer came back: whatever comes of it, the state is used up.
        "oauth.state_used" v "1" = StateUsed {},
        "oauth.authorization_completed" v "1" = Completed { scopes: Vec<String> },
        "oauth.authorization_failed" v "1" = Failed { reason: String },
    }
}

#[derive(Debug, Clone)]
pub struct Start {
    pub connection: ConnectionId,
    pub client: OauthClient,
    pub endpoints: Endpoints,
    pub scopes: Vec<String>,
    pub redirect_uri: String,
    pub target: Option<String>,
    pub state_hash: String,
    pub link_hash: String,
    pub browser_hash: String,
    pub verifier: Sealed<String>,
    pub actor_kind: ActorKind,
    pub actor_id: String,
    pub now: DateTime<Utc>,
}

#[derive(Debug)]
pub enum OauthFlowCommand {
    Start(Box<Start>),
    OpenLink {
        link_hash: String,
        browser_hash: String,
        state_hash: String,
        verifier: Sealed<String>,
        now: DateTime<Utc>,
    },
    /// What a callback presents. `redirect_uri` is the address that was called.
    UseState {
        state_hash: String,
        browser_hash: Option<String>,
        redirect_uri: String,
        now: DateTime<Utc>,
    },
    Complete {
        scopes: Vec<String>,
    },
    Fail {
        reason: String,
    },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct OauthFlow {
    pub connection: Option<ConnectionId>,
    pub client: OauthClient,
    pub endpoints: Endpoints,
    pub scopes: Vec<String>,
    pub redirect_uri: String,
    #[serde(default)]
    pub target: Option<String>,
    pub state_hash: String,
    pub link_hash: String,
    pub browser_hash: String,
    pub verifier: Option<Sealed<String>>,
    pub actor_kind: Option<ActorKind>,
    pub actor_id: String,
    pub expires_at: Option<DateTime<Utc>>,
    pub opened: bool,
    pub used: bool,
    pub ended: bool,
}

impl OauthFlow {
    fn evolve(&mut self, event: OauthFlowEvent) {
        match event {
            OauthFlowEvent::Started {
                connection_id,
                client,
                endpoints,
                scopes,
                redirect_uri,
                target,
                state_hash,
                link_hash,
                browser_hash,
                verifier,
                actor_kind,
                actor_id,
                expires_at,
            } => {
                *self = Self {
                    connection: Some(connection_id),
                    client,
                    endpoints,
                    scopes,
                    redirect_uri,
                    target,
                    state_hash,
                    link_hash,
                    browser_hash,
                    verifier: Some(verifier),
                    actor_kind: Some(actor_kind),
                    actor_id,
                    expires_at: Some(expires_at),
                    ..Self::default()
                };
            }
            OauthFlowEvent::LinkOpened { browser_hash, state_hash, verifier } => {
                self.opened = true;
                (self.browser_hash, self.state_hash, self.verifier) = (browser_hash, state_hash, Some(verifier));
            }
            OauthFlowEvent::StateUsed {} => self.used = true,
            OauthFlowEvent::Completed { .. } | OauthFlowEvent::Failed { .. } => {
                self.ended = true;
                // Nobody needs it any more.
                self.verifier = None;
            }
        }
    }
}

impl OauthFlow {
    /// May this link be opened?
    pub fn check_link(&self, link_hash: &str, now: DateTime<Utc>) -> Result<(), Rejection> {
        match () {
            () if self.connection.is_none() || !equal(link_hash, &self.link_hash) => Err(unknown()),
            () if self.opened || self.used => Err(refused("This link was opened before; begin again.")),
            () if self.is_late(now) => Err(late()),
            () => Ok(()),
        }
    }

    fn is_late(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|at| at <= now)
    }
}

fn late() -> Rejection {
    refused("This took longer than ten minutes; begin again.")
}

fn unknown() -> Rejection {
    refused("This authorization is not known here; begin again.")
}

fn refused(message: &str) -> Rejection {
    Rejection::new(Code::Oauth2Error, message)
}

/// Compared without telling by its time how much of it was right.
fn equal(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.bytes().zip(b.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

fn decide(state: &OauthFlow, command: OauthFlowCommand) -> Result<Vec<OauthFlowEvent>, Rejection> {
    match command {
        OauthFlowCommand::Start(_) if state.connection.is_some() => {
            Err(Rejection::new(Code::Conflict, "This authorization has begun already."))
        }
        OauthFlowCommand::Start(start) => Ok(vec![started(*start)]),
        _ if state.connection.is_none() => Err(unknown()),
        OauthFlowCommand::UseState { state_hash, .. } if !equal(&state_hash, &state.state_hash) => Err(unknown()),
        OauthFlowCommand::OpenLink { link_hash, browser_hash, state_hash, verifier, now } => {
            state.check_link(&link_hash, now)?;
            Ok(vec![OauthFlowEvent::LinkOpened { browser_hash, state_hash, verifier }])
        }
        OauthFlowCommand::UseState { now, .. } if state.is_late(now) => Err(late()),
        OauthFlowCommand::UseState { .. } if state.used => {
            Err(refused("This answer was taken before; it is good once. Begin again."))
        }
        OauthFlowCommand::UseState { browser_hash, .. }
            if browser_hash.as_deref().is_none_or(|hash| !equal(hash, &state.browser_hash)) =>
        {
            Err(refused("This browser is not the one that began this; begin again in this one."))
        }
        OauthFlowCommand::UseState { redirect_uri, .. } if redirect_uri != state.redirect_uri => {
            Err(refused("The answer came to another address than the one that was asked for."))
        }
        OauthFlowCommand::UseState { .. } => Ok(vec![OauthFlowEvent::StateUsed {}]),
        OauthFlowCommand::Complete { .. } | OauthFlowCommand::Fail { .. } if state.ended => Ok(vec![]),
        OauthFlowCommand::Complete { scopes } => Ok(vec![OauthFlowEvent::Completed { scopes }]),
        OauthFlowCommand::Fail { reason } => Ok(vec![OauthFlowEvent::Failed { reason }]),
    }
}

fn started(start: Start) -> OauthFlowEvent {
    OauthFlowEvent::Started {
        connection_id: start.connection,
        client: start.client,
        endpoints: start.endpoints,
        scopes: start.scopes,
        redirect_uri: start.redirect_uri,
        target: start.target,
        state_hash: start.state_hash,
        link_hash: start.link_hash,
        browser_hash: start.browser_hash,
        verifier: start.verifier,
        actor_kind: start.actor_kind,
        actor_id: start.actor_id,
        expires_at: start.now + LIFE,
    }
}

aggregate!(OauthFlow, "oauth", OauthFlowCommand, OauthFlowEvent, decide);

#[cfg(test)]
mod tests {
    use cqrs_es::Aggregate;

    use super::*;
    use crate::aggregate::Decider;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(30_000_000 + minutes)
    }

    fn sealed() -> Sealed<String> {
        Sealed::from_parts("workspace:w".into(), 1, "n".into(), "c".into())
    }

    fn begun() -> OauthFlow {
        let start = Start {
            connection: ConnectionId::default(),
            client: OauthClient::default(),
            endpoints: Endpoints::default(),
            scopes: vec!["a".into()],
            redirect_uri: "https://apiq.test/api/v1/oauth/callback/p".into(),
            target: Some("https://api.test".into()),
            state_hash: "s1".into(),
            link_hash: "l1".into(),
            browser_hash: "b1".into(),
            verifier: sealed(),
            actor_kind: ActorKind::User,
            actor_id: "user_x".into(),
            now: at(0),
        };
        let mut flow = OauthFlow::default();
        run(&mut flow, OauthFlowCommand::Start(Box::new(start))).unwrap();
        flow
    }

    fn run(flow: &mut OauthFlow, command: OauthFlowCommand) -> Result<usize, String> {
        let events = flow.decide(command).map_err(|rejection| rejection.message)?;
        let count = events.len();
        events.into_iter().for_each(|event| flow.apply(event));
        Ok(count)
    }

    fn answer(state: &str, browser: Option<&str>, path: &str, minute: i64) -> OauthFlowCommand {
        OauthFlowCommand::UseState {
            state_hash: state.into(),
            browser_hash: browser.map(Into::into),
            redirect_uri: format!("https://apiq.test/api/v1/oauth/callback/{path}"),
            now: at(minute),
        }
    }

    #[test]
    fn an_answer_is_taken_once_in_the_browser_that_began() {
        let mut flow = begun();
        for (bad, why) in [
            (answer("s2", Some("b1"), "p", 1), "not known"),
            (answer("s1", Some("b2"), "p", 1), "browser"),
            (answer("s1", None, "p", 1), "browser"),
            (answer("s1", Some("b1"), "q", 1), "another address"),
            (answer("s1", Some("b1"), "p/", 1), "another address"),
            (answer("s1", Some("b1"), "p", 10), "ten minutes"),
        ] {
            let said = run(&mut flow, bad).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert_eq!(run(&mut flow, answer("s1", Some("b1"), "p", 9)), Ok(1));
        assert!(run(&mut flow, answer("s1", Some("b1"), "p", 9)).unwrap_err().contains("taken before"));
    }

    #[test]
    fn a_link_binds_the_browser_that_opens_it_first() {
        let mut flow = begun();
        let open = |link: &str, browser: &str, minute| OauthFlowCommand::OpenLink {
            link_hash: link.into(),
            browser_hash: browser.into(),
            state_hash: "s2".into(),
            verifier: sealed(),
            now: at(minute),
        };
        assert!(run(&mut flow, open("l2", "b2", 1)).unwrap_err().contains("not known"));
        assert_eq!(run(&mut flow, open("l1", "b2", 1)), Ok(1));
        assert!(run(&mut flow, open("l1", "b3", 2)).unwrap_err().contains("opened before"));
        assert!(
            run(&mut flow, answer("s1", Some("b1"), "p", 3)).unwrap_err().contains("not known"),
            "a state of before"
        );
        assert!(run(&mut flow, answer("s2", Some("b1"), "p", 3)).unwrap_err().contains("browser"));
        assert_eq!(run(&mut flow, answer("s2", Some("b2"), "p", 3)), Ok(1));
    }

    #[test]
    fn its_end_is_told_once_and_forgets_the_verifier() {
        let mut flow = begun();
        assert!(flow.verifier.is_some());
        assert_eq!(run(&mut flow, OauthFlowCommand::Complete { scopes: vec![] }), Ok(1));
        assert_eq!(run(&mut flow, OauthFlowCommand::Fail { reason: "x".into() }), Ok(0));
        assert!(flow.verifier.is_none());
        assert!(run(&mut OauthFlow::default(), answer("s1", None, "p", 1)).unwrap_err().contains("not known"));
    }
}
