//! OAuth 2.0 for connections: clients, providers, grants, and a person's way through a provider. No token is ever here.

mod client;
mod fault;
pub mod flow;
mod grant;
mod provider;
pub mod scope;

pub use client::OauthClient;
pub use fault::{Fault, FaultKind};
pub use flow::OauthFlow;
pub use grant::{Because, Grant, Refreshing};
pub use provider::{Built, ClientAuth, Dialect, Endpoints, Provider};
