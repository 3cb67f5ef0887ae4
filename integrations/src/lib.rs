//! (empty)
pub mod connectors;
pub mod egress;
pub mod openapi;
pub mod planner;
