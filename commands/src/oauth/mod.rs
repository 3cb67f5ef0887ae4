//! OAuth 2.0 for connections: begin, come back, renew, show, give back.
//!
//! The tokens are a credential like any other: a version in the vault, opened against a `credential.read`. What a renewal
//! gives is stored before it is used, and one at a time is done over all nodes: the append of
//! `connection.oauth_refresh_started` decides who does it.

mod authorize;
mod callback;
mod client;
mod fresh;
mod link;
mod revoke;
mod token;
mod tokens;
mod turns;

pub use authorize::{Authorize, Begun, authorize};
pub use callback::{Callback, Connected, callback, flow_of};
pub(crate) use client::check as check_client;
pub use client::set_client;
use domain::{
    error::{Code, Rejection},
    oauth::{Fault, FaultKind},
};
pub use fresh::{Fresh, fresh, not_connected, renew_due};
pub use link::{Offer, Opened, flow_of_link, offer, open_link};
pub use revoke::{Revoked, revoke};
pub use token::{Token, token};
pub use tokens::reveal;
pub use turns::{Renewals, settle};

use crate::{App, Failure, ports::KnownProvider};

/// Where providers send people back to: below the public URL.
pub const CALLBACK: &str = "/api/v1/oauth/callback";

/// The providers that this installation knows by name.
pub fn providers(app: &App) -> Vec<KnownProvider> {
    app.ports().oauth.known()
}

/// The redirect URI to register with the provider of this name, when the service knows its own address.
pub fn redirect_uri(app: &App, key: &str) -> Option<String> {
    app.settings().public_url.as_ref().map(|base| format!("{base}{CALLBACK}/{key}"))
}

/// What the provider does wrong, to whom it may concern.
fn failure(title: &str, fault: &Fault) -> Failure {
    let code = match fault.kind {
        FaultKind::Settings | FaultKind::Refused | FaultKind::GrantGone => Code::Oauth2Error,
        FaultKind::Unreachable | FaultKind::Unreadable => Code::IntegrationError,
    };
    Rejection::new(code, sentence(title, fault)).into()
}

fn sentence(title: &str, fault: &Fault) -> String {
    sentence_of(title, &fault.words)
}

fn sentence_of(title: &str, words: &str) -> String {
    format!("The provider {title} {words}.")
}
