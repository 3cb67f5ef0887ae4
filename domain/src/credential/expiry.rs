//! When something is due for a credential: warnings before it expires, its expiry, its destruction.

use chrono::{DateTime, TimeDelta, Utc};

/// Days before the expiry at which it is told; 0 is the expiry itself.
pub const WARNINGS: [u32; 3] = [7, 1, 0];

/// The warning that is due by `now`, when it was not told yet: the latest one only.
pub fn due(expires_at: DateTime<Utc>, warned: Option<u32>, now: DateTime<Utc>) -> Option<u32> {
    let passed = WARNINGS.into_iter().filter(|days| now >= moment(expires_at, *days)).min()?;
    warned.is_none_or(|told| passed < told).then_some(passed)
}

/// When the next one is due.
pub fn next(expires_at: DateTime<Utc>, warned: Option<u32>) -> Option<DateTime<Utc>> {
    let left = WARNINGS.into_iter().find(|days| warned.is_none_or(|told| *days < told))?;
    Some(moment(expires_at, left))
}

fn moment(expires_at: DateTime<Utc>, days: u32) -> DateTime<Utc> {
    expires_at - TimeDelta::days(i64::from(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_warning_is_told_once_and_late_ones_are_left_out() {
        let at = |days: i64| DateTime::UNIX_EPOCH + TimeDelta::days(days);
        let expires = at(100);
        assert_eq!(due(expires, None, at(92)), None);
        assert_eq!(due(expires, None, at(93)), Some(7));
        assert_eq!(due(expires, Some(7), at(98)), None);
        assert_eq!(due(expires, Some(7), at(99)), Some(1));
        assert_eq!(due(expires, None, at(99)), Some(1), "who was asleep for a week is told the latest only");
        assert_eq!(due(expires, Some(1), at(100)), Some(0));
        assert_eq!(due(expires, Some(0), at(101)), None);
        assert_eq!(next(expires, None), Some(at(93)));
        assert_eq!(next(expires, Some(7)), Some(at(99)));
        assert_eq!(next(expires, Some(1)), Some(at(100)));
        assert_eq!(next(expires, Some(0)), None);
    }
}
