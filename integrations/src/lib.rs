//! (empty)
pub mod egress;
pub mod openapi;
pub mod planner;
