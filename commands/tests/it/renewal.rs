//! A renewal of an access token goes on, whoever asked for it: that one may stop waiting, or not be looked at.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use commands::{
    App, RequestInfo,
    connection::load,
    oauth::{self, Authorize, Callback, Fresh, fresh},
    ports::{KnownProvider, OauthParty, OauthProviders, OauthTokens},
    unit::{self, Unit},
};
use domain::{
    connection::{AuthScheme, Connection, ConnectionCommand, Gate, SpecSource},
    ids::{ConnectionId, WorkspaceId},
    oauth::{Because, Endpoints, Fault, OauthClient},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    node::{WORKSPACE, context, node_with},
    postgres::Database,
};

const SOON: Duration = Duration::from_secs(20);

/// A provider that answers a renewal when it is told to.
struct Slow {
    state: Mutex<String>,
    issued: Mutex<u32>,
    asked: Semaphore,
    answers: Semaphore,
}

impl Slow {
    fn tokens(&self) -> OauthTokens {
        let mut issued = self.issued.lock().unwrap();
        *issued += 1;
        OauthTokens {
            access: format!("access-{issued}").into(),
            refresh: Some(format!("refresh-{issued}").into()),
            scopes: None,
            expires_in: Some(3_600),
        }
    }
}

#[async_trait]
impl OauthProviders for Slow {
    fn known(&self) -> Vec<KnownProvider> {
        Vec::new()
    }

    async fn endpoints(&self, _: WorkspaceId, _: &OauthClient) -> Result<Endpoints, Fault> {
        Ok(Endpoints { key: "at-id.test".into(), title: "id.test".into(), ..Endpoints::default() })
    }

    fn authorization(
        &self,
        _: &Endpoints,
        _: &str,
        _: &[String],
        state: &SecretString,
        _: &str,
    ) -> Result<(String, SecretString), Fault> {
        *self.state.lock().unwrap() = state.expose_secret().to_owned();
        Ok(("https://id.test/authorize".into(), "a verifier".to_owned().into()))
    }

    async fn exchange(
        &self,
        _: OauthParty<'_>,
        _: &SecretString,
        _: &SecretString,
        _: &str,
        _: Option<&str>,
    ) -> Result<OauthTokens, Fault> {
        Ok(self.tokens())
    }

    async fn refresh(&self, _: OauthParty<'_>, token: &SecretString) -> Result<OauthTokens, Fault> {
        assert_eq!(token.expose_secret(), format!("refresh-{}", self.issued.lock().unwrap()));
        let tokens = self.tokens();
        self.asked.add_permits(1);
        self.answers.acquire().await.unwrap().forget();
        Ok(tokens)
    }

    async fn revoke(&self, _: OauthParty<'_>, _: &SecretString, _: Option<&SecretString>) -> Result<bool, Fault> {
        Ok(true)
    }
}

/// A connection that a person has authorized.
async fn connected(app: &App, provider: &Slow) -> ConnectionId {
    let client = OauthClient {
        authorization_url: Some("https://id.test/authorize".into()),
        token_url: Some("https://id.test/token".into()),
        client_id: Some("apiq".into()),
        ..OauthClient::default()
    };
    let create = ConnectionCommand::Create {
        name: "A".into(),
        description: None,
        source: SpecSource::None,
        base_url: Some("https://api.test".into()),
        auth: AuthScheme::Oauth2 { client },
        credential: None,
        gate: Gate::default(),
    };
    let connection: ConnectionId = app.new_id();
    let context = context();
    let mut unit = Unit::new(app, &context).await.unwrap();
    unit.stage(&mut unit::fresh::<Connection>(connection.0), create).unwrap();
    unit.commit(()).await.unwrap();
    let begun = oauth::authorize(app, &context, Authorize { connection, scopes: None, redirect_uri: None });
    let begun = begun.await.unwrap().value;
    let input = Callback {
        state: Some(provider.state.lock().unwrap().clone().into()),
        code: Some("code".to_owned().into()),
        browser: Some(begun.browser),
        path: "/api/v1/oauth/callback/at-id.test".into(),
        ..Callback::default()
    };
    oauth::callback(app, &RequestInfo::default(), input).await.unwrap();
    connection
}

#[tokio::test]
async fn a_renewal_needs_nobody_who_waits_for_it() {
    let database = Database::fresh().await;
    let provider = Arc::new(Slow {
        state: Mutex::default(),
        issued: Mutex::default(),
        asked: Semaphore::new(0),
        answers: Semaphore::new(0),
    });
    let app = node_with(&database, provider.clone()).await;
    let id = connected(&app, &provider).await;
    let context = context();

    // As the branches of one execution: the first waits too, but is not polled while the second does.
    {
        let mut first = pin!(fresh(&app, &context, id, Because::Asked, Some(1)));
        tokio::select! {
            _ = &mut first => panic!("nobody has answered"),
            asked = provider.asked.acquire() => asked.unwrap().forget(),
        }
        provider.answers.add_permits(1);
        let second = timeout(SOON, fresh(&app, &context, id, Because::Asked, Some(1))).await;
        assert_eq!(second.expect("the second does not hang").unwrap(), Fresh::Version(2));
        assert_eq!(first.await.unwrap(), Fresh::Version(2));
    }

    // Whoever asked is gone, as when a client hangs up; the refresh token that the provider has rotated is not.
    {
        let mut gone = Box::pin(fresh(&app, &context, id, Because::Refused, Some(2)));
        tokio::select! {
            _ = &mut gone => panic!("nobody has answered"),
            asked = provider.asked.acquire() => asked.unwrap().forget(),
        }
    }
    let impatient = oauth::settle(&app, Duration::from_millis(1)).await;
    assert!(!impatient, "a renewal is under way");
    provider.answers.add_permits(1);
    assert!(oauth::settle(&app, SOON).await);
    assert_eq!(load(&app, WORKSPACE, id).await.unwrap().state.grant.unwrap().version, 3);
    let token = oauth::token(&app, &context, id).await.unwrap();
    assert_eq!(token.access.expose_secret(), "access-3");
}
