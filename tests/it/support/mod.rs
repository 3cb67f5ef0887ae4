//! What every test of the whole needs: a server with its own engines, a client, a third party that counts, waiting.

pub mod account;
pub mod certificates;
pub mod client;
pub mod engines;
pub mod fake_provider;
pub mod keeper;
pub mod ledger;
pub mod oidc;
pub mod person;
pub mod poll;
pub mod server;
pub mod specs;
pub mod stub;
pub mod tls;

pub use account::Account;
pub use client::{Answer, Client};
pub use ledger::Ledger;
pub use poll::until;
pub use server::Server;
pub use stub::{Reply, Seen, Stub};
