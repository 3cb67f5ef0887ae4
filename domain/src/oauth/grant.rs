//! What a provider has granted to a connection, and when its access token is to be renewed: decided purely.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::Dialect;

/// Renewed ahead of its end by this much at most, by the keeper…
const AHEAD: TimeDelta = TimeDelta::minutes(5);
/// …and by whoever is about to use it.
const SPARE: TimeDelta = TimeDelta::seconds(30);
/// A token that was renewed because it was refused, and is refused again, is not cured by a third one.
const CURED: TimeDelta = TimeDelta::seconds(60);
/// Who asks within this after a renewal has it.
const TOGETHER: TimeDelta = TimeDelta::seconds(5);
/// Pauses after failures, of which each is twice the one before.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(15);
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(15);

/// Why an access token is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// It ends soon, and nobody needs it just now.
    Schedule,
    /// It ends soon, and is needed.
    Use,
    /// The API has refused it.
    Refused,
    /// A person asked.
    Asked,
}

/// A renewal that has begun and of which no end is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refreshing {
    /// By which its outcome is recorded.
    pub number: u32,
    pub because: Because,
    /// After this it counts as lost: whoever did it died, and the provider may have answered.
    pub lease_until: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The provider, for people.
    pub provider: String,
    #[serde(default)]
    pub dialect: Dialect,
    /// Version of the credential that holds the tokens.
    pub version: i32,
    pub scopes: Vec<String>,
    /// When the present access token came.
    pub obtained_at: DateTime<Utc>,
    /// Absent: it does not say when it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// There is a refresh token.
    pub refreshable: bool,
    /// How many renewals have begun.
    pub refreshes: u32,
    pub refreshing: Option<Refreshing>,
    /// A renewal before was never heard of again: its refresh token may be used up.
    #[serde(default)]
    pub interrupted: bool,
    /// When the last one ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed_at: Option<DateTime<Utc>>,
    /// The last one that ended well was because of a refusal.
    #[serde(default)]
    pub refused: bool,
    pub failures: u32,
    /// After a failure: not before.
    pub retry_at: Option<DateTime<Utc>>,
    /// Why it is over, in words; a person must connect again.
    pub lost: Option<String>,
}

impl Grant {
    fn life(&self) -> Option<TimeDelta> {
        Some(self.expires_at? - self.obtained_at)
    }

    /// When the keeper renews it; `None`: it need not, or cannot.
    pub fn due_at(&self) -> Option<DateTime<Utc>> {
        if !self.refreshable || self.lost.is_some() {
            return None;
        }
        let ahead = AHEAD.min(self.life()? / 5);
        let due = self.expires_at? - ahead;
        Some(self.retry_at.map_or(due, |retry| retry.max(due)))
    }

    /// Has the access token ended?
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Must it be renewed first? `seen`: the version of the credential that was refused.
    pub fn is_due(&self, because: Because, seen: Option<i32>, now: DateTime<Utc>) -> bool {
        match because {
            Because::Schedule => self.due_at().is_some_and(|at| at <= now),
            Because::Use => {
                let spare = self.life().map_or(SPARE, |life| SPARE.min(life / 10));
                self.expires_at.is_some_and(|at| at - spare <= now)
            }
            Because::Refused => {
                let renewed = seen.is_some_and(|seen| self.version > seen);
                let cured = self.refused && now - self.obtained_at < CURED;
                !renewed && !cured
            }
            // Several people who asked at the same time asked for one.
            Because::Asked => {
                let just_now = self.renewed_at.is_some_and(|at| now - at < TOGETHER);
                seen.is_none_or(|seen| self.version <= seen) && !just_now
            }
        }
    }

    /// Somebody is at it, as far as can be told.
    pub fn is_under_way(&self, now: DateTime<Utc>) -> bool {
        self.refreshing.as_ref().is_some_and(|refreshing| now < refreshing.lease_until)
    }

    /// When to try again, after one more failure.
    pub fn pause_until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let doubled = FIRST_PAUSE * 2i32.pow(self.failures.min(6));
        now + doubled.min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(1_800_000_000 + seconds)
    }

    fn grant(life: Option<i64>) -> Grant {
        Grant {
            provider: "P".into(),
            dialect: Dialect::Standard,
            version: 2,
            scopes: vec![],
            obtained_at: at(0),
            expires_at: life.map(at),
            refreshable: true,
            refreshes: 0,
            refreshing: None,
            interrupted: false,
            renewed_at: None,
            refused: false,
            failures: 0,
            retry_at: None,
            lost: None,
        }
    }

    #[test]
    fn it_is_renewed_ahead_by_the_keeper_and_just_before_use() {
        let hour = grant(Some(3_600));
        assert_eq!(hour.due_at(), Some(at(3_300)));
        assert!(!hour.is_due(Because::Schedule, None, at(3_299)) && hour.is_due(Because::Schedule, None, at(3_300)));
        assert!(!hour.is_due(Because::Use, None, at(3_569)) && hour.is_due(Because::Use, None, at(3_570)));
        let short = grant(Some(10));
        assert_eq!(short.due_at(), Some(at(8)), "a fifth of its life");
        assert!(!short.is_due(Because::Use, None, at(8)) && short.is_due(Because::Use, None, at(9)));
        let endless = grant(None);
        assert_eq!(endless.due_at(), None);
        assert!(!endless.is_due(Because::Use, None, at(1_000_000)) && !endless.is_over(at(1_000_000)));
    }

    #[test]
    fn a_refused_one_is_renewed_once() {
        let mut granted = grant(None);
        assert!(granted.is_due(Because::Refused, Some(2), at(1)));
        assert!(!granted.is_due(Because::Refused, Some(1), at(1)), "somebody else has renewed it");
        granted.refused = true;
        assert!(
            !granted.is_due(Because::Refused, Some(2), at(59)) && granted.is_due(Because::Refused, Some(2), at(60))
        );
        assert!(!granted.is_due(Because::Asked, Some(1), at(1)) && granted.is_due(Because::Asked, Some(2), at(1)));
        granted.renewed_at = Some(at(0));
        assert!(!granted.is_due(Because::Asked, Some(2), at(4)) && granted.is_due(Because::Asked, Some(2), at(5)));
    }

    #[test]
    fn failures_are_followed_by_longer_pauses() {
        let mut granted = grant(Some(3_600));
        assert_eq!(granted.pause_until(at(0)), at(15));
        granted.failures = 3;
        assert_eq!(granted.pause_until(at(0)), at(120));
        granted.failures = 30;
        assert_eq!(granted.pause_until(at(0)), at(900));
        granted.retry_at = Some(at(3_400));
        assert_eq!(granted.due_at(), Some(at(3_400)));
        granted.lost = Some("gone".into());
        assert_eq!(granted.due_at(), None);
    }
}
