//! Executions, as people act on them. What executors append goes through `Unit` as well.

mod cancel;
mod read;
mod resolve;
mod start;
mod wait;

pub use cancel::cancel;
use domain::{error::Code, ids::ExecutionId};
pub use read::read_again;
pub use resolve::{Resolution, resolve};
pub(crate) use start::stage_start;
pub use start::{Started, start};
pub use wait::wait;

fn target(id: ExecutionId) -> (uuid::Uuid, Code, &'static str) {
    (id.0, Code::ExecutionNotFound, "execution")
}
