//! Waiting for something to become true: looked at often, given up at a deadline, never a sleep that hopes.

use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Look until there is something; panics with `what` when `limit` is over.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The same for threads that have no runtime to wait on. `false` when the limit is over.
#[expect(clippy::disallowed_methods, reason = "only `Drop` comes here, where nothing can be awaited")]
pub fn until_blocking(limit: Duration, mut is_done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is_done() {
        if began.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}
