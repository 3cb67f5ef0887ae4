//! Accounts and sessions: register, log in, refresh, log out, who am I.

use commands::auth::{self as use_cases, Login, Profile, Register, Tokens};
use poem_openapi::{Object, OpenApi};
use secrecy::{ExposeSecret, SecretString};

use super::Tag;
use crate::{
    answer::Answer,
    auth::{Guest, Permit, grant::SelfRead},
    body::Body,
    problem::Problem,
    types::Secret,
};

pub struct AuthApi;

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct RegisterBody {
    #[oai(validator(min_length = 3, max_length = 254))]
    email: String,
    /// 10 to 200 characters.
    password: Secret,
    name: Option<String>,
    organization_name: Option<String>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct LoginBody {
    #[oai(validator(max_length = 254))]
    email: String,
    password: Secret,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct RefreshBody {
    refresh_token: Secret,
}

/// A person or an API key, and where it is at home.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct UserJson {
    /// `user_…`, or `key_…` for an API key.
    id: String,
    email: Option<String>,
    name: Option<String>,
    role: String,
    workspace_id: String,
    organization_id: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TokensJson {
    user: UserJson,
    /// For `Authorization: Bearer …`.
    access_token: String,
    /// Good once; a second use ends the session.
    refresh_token: String,
    /// Seconds until the access token ends.
    expires_in: i64,
    token_type: String,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct MeJson {
    user: UserJson,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct LoggedOut {
    logged_out: bool,
}

impl From<Profile> for UserJson {
    fn from(profile: Profile) -> Self {
        let user = profile.user_id.map(|id| id.to_string());
        let key = profile.api_key_id.map(|id| id.to_string());
        Self {
            id: user.or(key).unwrap_or_default(),
            email: profile.email,
            name: profile.name,
            role: profile.role.as_str().to_owned(),
            workspace_id: profile.workspace_id.to_string(),
            organization_id: profile.organization_id.to_string(),
        }
    }
}

impl From<Tokens> for TokensJson {
    fn from(tokens: Tokens) -> Self {
        Self {
            user: tokens.user.into(),
            access_token: tokens.access_token,
            refresh_token: tokens.refresh_token.expose_secret().to_owned(),
            expires_in: tokens.expires_in,
            token_type: "Bearer".into(),
        }
    }
}

#[OpenApi(tag = "Tag::Auth")]
impl AuthApi {
    /// Register
    ///
    /// Makes an account with its organization and workspace, and logs it in. The account is the owner of both.
    #[oai(path = "/auth/register", method = "post", operation_id = "register")]
    async fn register(&self, guest: Guest, body: Body<RegisterBody>) -> Result<Answer<TokensJson, 201>, Problem> {
        let RegisterBody { email, password, name, organization_name } = body.0;
        guest.charge_login(&email)?;
        let input = Register { email, password: password.0, name, organization_name };
        let done = use_cases::register(guest.state.app(), &guest.request, input).await?;
        guest.note_write(done.value.user.user_id, done.at);
        Ok(Answer::new(done.value.into()).message("Welcome.").at(done.at))
    }

    /// Log in
    ///
    /// Gives an access token (15 minutes) and a refresh token (good once). The answer and its time are the same for
    /// an unknown account and a wrong password.
    #[oai(path = "/auth/login", method = "post", operation_id = "login")]
    async fn login(&self, guest: Guest, body: Body<LoginBody>) -> Result<Answer<TokensJson>, Problem> {
        let LoginBody { email, password } = body.0;
        guest.charge_login(&email)?;
        let done = use_cases::login(guest.state.app(), &guest.request, Login { email, password: password.0 }).await?;
        guest.note_write(done.value.user.user_id, done.at);
        Ok(Answer::new(done.value.into()).at(done.at))
    }

    /// Refresh the tokens
    ///
    /// Each refresh token is good once. Using one a second time ends its session: somebody else may have it.
    #[oai(path = "/auth/refresh", method = "post", operation_id = "refreshTokens")]
    async fn refresh(&self, guest: Guest, body: Body<RefreshBody>) -> Result<Answer<TokensJson>, Problem> {
        let token: SecretString = body.0.refresh_token.0;
        let done = use_cases::refresh(guest.state.app(), &guest.request, &token).await?;
        Ok(Answer::new(done.value.into()).at(done.at))
    }

    /// Log out
    ///
    /// Ends the session: its refresh token is refused from now on. `POST auth/signout` does the same.
    #[oai(path = "/auth/logout", method = "post", operation_id = "logout")]
    async fn logout(&self, permit: Permit<SelfRead>) -> Result<Answer<LoggedOut>, Problem> {
        let done = use_cases::logout(permit.app(), permit.context()).await?;
        Ok(Answer::new(LoggedOut { logged_out: true }).message("Signed out.").at(done.at))
    }

    /// Who am I
    ///
    /// The account or API key behind the credentials, its role and its workspace. `GET auth/session` does the same.
    #[oai(path = "/auth/me", method = "get", operation_id = "getMe")]
    async fn me(&self, permit: Permit<SelfRead>) -> Result<Answer<MeJson>, Problem> {
        let profile = use_cases::me(permit.app(), permit.context()).await?;
        Ok(Answer::new(MeJson { user: profile.into() }))
    }
}
