//! (empty)
pub mod connectors;
pub mod egress;
pub mod oauth;
pub mod openapi;
pub mod planner;
