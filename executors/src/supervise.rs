//! Keeps a part running: an error is logged and followed by a new start, until shutdown.

use std::{fmt::Display, future::Future, time::Duration};

use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(crate) async fn supervise<E: Display, F: Future<Output = Result<(), E>>>(
    name: &'static str,
    shutdown: CancellationToken,
    mut run: impl FnMut() -> F,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = tokio::time::Instant::now();
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            result = run() => result,
        };
        match result {
            Ok(()) => return,
            Err(error) => tracing::warn!(part = name, %error, "starts again"),
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
