//! Plain English to a plan, and a confirmed plan to an execution.

mod execute;
mod plan;

pub use execute::{PlanExecuted, execute, plan_and_execute};
pub use plan::{PlanRequest, Planned, plan};
