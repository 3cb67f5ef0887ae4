//! When a connection's document is refreshed by schedule. Pure, so that every node and every rebuild agrees.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// Hours: a year.
pub const LONGEST_INTERVAL: u32 = 8_760;
/// The first try after a failure.
const FIRST_RETRY: i64 = 15 * 60;
/// Each further failure waits so many times as long,
const GROWTH: u32 = 4;
/// up to so many intervals.
const LONGEST_RETRY: i64 = 4;

/// The refresh after one that ended at `ended`, `failures` in a row behind it; `None` without a schedule.
///
/// A tenth earlier or later, by the connection's id: those that were set up together must not go together for ever. A
/// failed one is tried again soon, and then ever less often.
pub fn next_refresh(ended: DateTime<Utc>, interval_hours: u32, failures: u32, id: Uuid) -> Option<DateTime<Utc>> {
    let interval = i64::from(interval_hours.min(LONGEST_INTERVAL)) * 3_600;
    if interval == 0 {
        return None;
    }
    let wait = match failures {
        0 => interval,
        n => {
            let grown = FIRST_RETRY.saturating_mul(i64::from(GROWTH).saturating_pow((n - 1).min(16)));
            grown.min(interval * LONGEST_RETRY)
        }
    };
    // -100 to 100 thousandths. The end of a version 7 UUID is random.
    let jitter = i64::try_from(id.as_u128() % 201).unwrap_or(100) - 100;
    Some(ended + TimeDelta::seconds(wait + wait * jitter / 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the middle: no jitter.
    const STILL: Uuid = Uuid::from_u128(100);

    fn minutes(interval: u32, failures: u32, id: Uuid) -> i64 {
        (next_refresh(DateTime::UNIX_EPOCH, interval, failures, id).unwrap() - DateTime::UNIX_EPOCH).num_minutes()
    }

    #[test]
    fn no_interval_no_refresh() {
        assert_eq!(next_refresh(DateTime::UNIX_EPOCH, 0, 3, STILL), None);
    }

    #[test]
    fn failures_are_tried_again_soon_and_then_less_and_less() {
        let day: Vec<_> = (0..7).map(|failures| minutes(24, failures, STILL)).collect();
        assert_eq!(day, [1_440, 15, 60, 240, 960, 3_840, 5_760]);
        let hour: Vec<_> = (0..6).map(|failures| minutes(1, failures, STILL)).collect();
        assert_eq!(hour, [60, 15, 60, 240, 240, 240]);
        assert_eq!(minutes(LONGEST_INTERVAL, u32::MAX, STILL), i64::from(LONGEST_INTERVAL) * 60 * 4);
    }

    #[test]
    fn connections_of_one_hour_spread_over_a_fifth_of_their_interval() {
        let times: Vec<_> = (0..201).map(|n| minutes(10, 0, Uuid::from_u128(n))).collect();
        assert_eq!((times.iter().min(), times.iter().max()), (Some(&540), Some(&660)));
        let mut different = times.clone();
        different.sort_unstable();
        different.dedup();
        assert!(different.len() > 100, "{}", different.len());
    }
}
