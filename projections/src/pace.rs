//! How many events a batch takes, and when: one at once after a quiet time, few milliseconds apart under load, and never
//! so many that the transaction which writes them keeps readers of the log waiting.

use std::time::Duration;

use tokio::time::Instant;

/// Batches begin no closer than this while events keep coming: one event each would cost ten times as much.
const GAP: Duration = Duration::from_millis(3);
/// The same on a busy log, and a batch that shows one: what a batch costs besides its events is shared by more of them.
const BUSY_GAP: Duration = Duration::from_millis(10);
const BUSY: usize = 24;
/// How long a batch's transaction should take. No reader of the log sees past an open write transaction.
const STEADY: Duration = Duration::from_millis(4);
/// The same, while there is a backlog: the fold is then further behind than any reader of the log.
const BEHIND: Duration = Duration::from_millis(25);
const LEAST: usize = 16;
const MOST: usize = 2_000;

pub(crate) struct Pace {
    begun: Option<Instant>,
    /// Writing one event takes this long, as last seen, in seconds.
    cost: f64,
    behind: bool,
    busy: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self { begun: None, cost: 40e-6, behind: false, busy: false }
    }
}

impl Pace {
    /// Events of the next batch, at most.
    pub fn limit(&self) -> usize {
        let time = if self.behind { BEHIND } else { STEADY };
        ((time.as_secs_f64() / self.cost) as usize).clamp(LEAST, MOST)
    }

    /// Waits until the next batch may begin.
    pub async fn wait(&mut self) {
        let now = Instant::now();
        let next = self.next(now);
        if next > now {
            tokio::time::sleep_until(next).await;
        }
        self.begun = Some(Instant::now());
    }

    /// When the next batch may begin.
    fn next(&self, now: Instant) -> Instant {
        match self.begun {
            Some(begun) if !self.behind => now.max(begun + if self.busy { BUSY_GAP } else { GAP }),
            _ => now,
        }
    }

    /// A batch of `events` was written in `took`; `full`: there are probably more.
    pub fn wrote(&mut self, events: usize, full: bool, took: Duration) {
        self.behind = full;
        self.busy = events >= BUSY;
        if events >= LEAST {
            // A slow write counts at once, a fast one bit by bit.
            let cost = (took.as_secs_f64() / events as f64).max(1e-6);
            self.cost = if cost > self.cost { cost } else { self.cost * 0.8 + cost * 0.2 };
        }
    }

    /// The log's end was seen.
    pub fn idle(&mut self) {
        (self.behind, self.busy) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_as_large_as_its_time_allows() {
        let mut pace = Pace::default();
        for _ in 0..50 {
            pace.wrote(100, false, Duration::from_millis(2));
        }
        // 20 µs an event.
        assert!((190..=210).contains(&pace.limit()), "{}", pace.limit());
        pace.wrote(200, true, Duration::from_millis(4));
        assert!((1_200..=1_300).contains(&pace.limit()), "a backlog takes more at once: {}", pace.limit());
        pace.wrote(100, false, Duration::from_millis(20));
        assert_eq!(pace.limit(), 20, "a slow write counts at once");
        pace.wrote(100, false, Duration::from_secs(2));
        assert_eq!(pace.limit(), LEAST);
    }

    #[test]
    fn the_first_batch_begins_at_once_and_the_next_ones_apart() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.next(now), now);
        pace.begun = Some(now);
        pace.wrote(1, false, Duration::ZERO);
        assert_eq!(pace.next(now), now + GAP);
        assert_eq!(pace.next(now + GAP * 2), now + GAP * 2, "after a quiet time at once");
        pace.wrote(BUSY, false, Duration::ZERO);
        assert_eq!(pace.next(now), now + BUSY_GAP, "more at once while many come");
        pace.wrote(1, false, Duration::ZERO);
        assert_eq!(pace.next(now), now + GAP);
        pace.wrote(100, true, Duration::ZERO);
        assert_eq!(pace.next(now), now, "with a backlog at once");
    }
}
