//! Accounts, sessions and callers.

mod authenticate;
mod login;
mod profile;
mod refresh;
mod register;
mod tokens;

pub use authenticate::{authenticate_api_key, authenticate_bearer, authorize};
pub use login::{Login, login};
pub use profile::{Profile, me};
pub use refresh::{logout, refresh};
pub use register::{Register, register};
pub use tokens::Tokens;

use uuid::Uuid;

use crate::{App, Failure};

/// The reservation stream of an e-mail address: an HMAC of it, so that the log tells nothing.
async fn email_stream(app: &App, email: &str) -> Result<Uuid, Failure> {
    let hash = app.vault().keyed_hash(Uuid::nil(), "email", normal(email).as_bytes()).await?;
    let mut half = [0u8; 16];
    half.copy_from_slice(&hash[..16]);
    Ok(Uuid::from_bytes(half))
}

/// Addresses are compared without case and outer spaces.
fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}
