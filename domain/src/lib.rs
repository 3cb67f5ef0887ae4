//! Everything APIQ decides, and nothing it does: no I/O, no clock, no randomness.
//!
//! Aggregates are folders named for their noun: `mod` holds the state, `command` decides, `event` names what happened.

pub mod access;
pub mod actor;
pub mod aggregate;
pub mod api_key;
pub mod call;
pub mod catalogue;
pub mod connection;
pub mod connector;
pub mod credential;
pub mod delivery;
pub mod document_cache;
pub mod drift;
pub mod error;
pub mod event;
pub mod execution;
pub mod expression;
pub mod ids;
pub mod oauth;
pub mod operation;
pub mod organization;
pub mod plan;
pub mod policy;
pub mod reservation;
pub mod sealed;
pub mod session;
pub mod trace;
#[cfg(test)]
mod tutorial;
pub mod upcast;
pub mod user;
pub mod webhook;
pub mod workflow;
pub mod workspace;
pub mod workspace_key;

/// Names the sources of this crate, in 16 hex digits: states that were folded by equal sources have equal shapes.
pub const FOLD_FINGERPRINT: &str = env!("DOMAIN_FOLD_FINGERPRINT");
