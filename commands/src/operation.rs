//! Operations of the connected APIs, ranked by relevance.

pub use crate::ports::Match;
use crate::{App, Context, Failure};

/// The best first; at most `limit`.
pub async fn search(app: &App, context: &Context, query: &str, limit: usize) -> Result<Vec<Match>, Failure> {
    let found = app.ports().planner.search(context.actor.workspace, query, limit).await;
    found.map_err(|failure| Failure::Unavailable(failure.to_string()))
}
