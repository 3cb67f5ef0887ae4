//! What APIs say of their own limits, in the headers that are about: the IETF's `RateLimit` in its three drafts,
//! `X-RateLimit-*` of GitHub and most others, the variants with `-requests`, Shopify's fraction, and a bare 429 with
//! `Retry-After` (Stripe).
//!
//! When nothing is left, further calls of the same connection are held back until there is: see [`Holds`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::call::RateLimit;
use domain::ids::ConnectionId;
use http::HeaderMap;
use tokio::time::Instant;

/// Nobody is held back for longer, whatever the API says.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Connections that are remembered, never more.
const MOST: usize = 10_000;
/// Limits of single paths that are remembered of one connection, never more.
const PATHS: usize = 100;

/// The families of three headers each: limit, remaining, reset.
const TRIOS: [[&str; 3]; 4] = [
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"],
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
    ["x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"],
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
];

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// The limit that an answer tells; of several, the one of which least is left.
pub(super) fn learn(status: u16, headers: &HeaderMap, now: DateTime<Utc>) -> Option<RateLimit> {
    // Points of time are in the server's clock: its `Date` tells how far that is from ours.
    let clock = text(headers, "date").and_then(date).unwrap_or(now);
    let at = |after: TimeDelta| now.checked_add_signed(after);
    let mut found = structured(headers, &at);
    for [limit, remaining, reset] in TRIOS {
        let Some(left) = text(headers, remaining).and_then(number) else { continue };
        let limit = text(headers, limit).and_then(number);
        let reset_at = text(headers, reset).and_then(|text| until(text, clock)).and_then(at);
        found.push(RateLimit { limit, remaining: left, reset_at });
    }
    if let Some((used, limit)) = text(headers, "x-shopify-shop-api-call-limit").and_then(|text| text.split_once('/'))
        && let (Some(used), Some(limit)) = (number(used), number(limit))
    {
        found.push(RateLimit { limit: Some(limit), remaining: limit.saturating_sub(used), reset_at: None });
    }
    let after = retry_after(headers, now);
    if status == 429
        && let Some(after) = after
    {
        let limit = found.iter().find_map(|known| known.limit);
        let reset_at = TimeDelta::from_std(after).ok().and_then(at);
        return Some(RateLimit { limit, remaining: 0, reset_at });
    }
    found.into_iter().min_by_key(|limit| limit.remaining)
}

/// `RateLimit: "default";r=50;t=30` with its policy, or `RateLimit: limit=100, remaining=50, reset=30`.
fn structured(headers: &HeaderMap, at: &impl Fn(TimeDelta) -> Option<DateTime<Utc>>) -> Vec<RateLimit> {
    let Some(header) = text(headers, "ratelimit") else { return Vec::new() };
    let seconds = |text: &str| text.parse().ok().and_then(TimeDelta::try_seconds).and_then(at);
    let members = items(header);
    let older = |name: &str| members.iter().find(|item| item.name == name).and_then(|item| item.value);
    if let Some(remaining) = older("remaining").and_then(number) {
        let reset_at = older("reset").and_then(seconds);
        return vec![RateLimit { limit: older("limit").and_then(number), remaining, reset_at }];
    }
    let policies = text(headers, "ratelimit-policy").map(items).unwrap_or_default();
    let limit = |member: &Item| {
        let remaining = member.parameter("r").and_then(number)?;
        let policy = policies.iter().find(|policy| policy.name == member.name);
        let limit = policy.and_then(|policy| policy.parameter("q")).and_then(number);
        Some(RateLimit { limit, remaining, reset_at: member.parameter("t").and_then(seconds) })
    };
    members.iter().filter_map(limit).collect()
}

/// A member of a structured field: `"name";a=1;b=2` or `name=value`.
struct Item<'a> {
    name: &'a str,
    value: Option<&'a str>,
    parameters: Vec<(&'a str, &'a str)>,
}

impl Item<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

/// Names are short tokens in practice: commas and semicolons inside quotes are not looked for.
fn items(header: &str) -> Vec<Item<'_>> {
    let parse = |member| {
        let mut parts = str::split(member, ';');
        let (name, value) = pair(parts.next().unwrap_or_default());
        let parameters = parts.map(pair).filter_map(|(name, value)| Some((name, value?))).collect();
        Item { name, value, parameters }
    };
    header.split(',').map(parse).collect()
}

/// `name=value`, or a name alone; without quotes.
fn pair(text: &str) -> (&str, Option<&str>) {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    (bare(name), value.map(bare))
}

fn bare(text: &str) -> &str {
    text.trim().trim_matches('"')
}

/// `100`, and `100, 100;window=60` of the first draft.
fn number(text: &str) -> Option<u64> {
    let first = text.split([',', ';']).next()?.trim();
    first.parse().ok().or_else(|| first.parse::<f64>().ok().filter(|n| (0.0..1e15).contains(n)).map(|n| n as u64))
}

/// How long until the reset: seconds, a point of time in seconds or milliseconds, a duration such as `6m0s`, or a date.
fn until(text: &str, clock: DateTime<Utc>) -> Option<TimeDelta> {
    if let Ok(number) = text.parse::<f64>() {
        let point = |millis: f64| DateTime::from_timestamp_millis(millis as i64).map(|at| at - clock);
        return match number {
            n if !(0.0..1e14).contains(&n) => None,
            n if n > 1e11 => point(n),
            n if n > 1e9 => point(n * 1e3),
            n => Some(TimeDelta::milliseconds((n * 1e3) as i64)),
        };
    }
    duration(text).or_else(|| date(text).map(|at| at - clock))
}

/// `1h2m3.5s`, `120ms`.
fn duration(text: &str) -> Option<TimeDelta> {
    let (mut rest, mut millis) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let amount: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let unit = &unit[..unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len())];
        millis += amount
            * match unit {
                "d" => 86_400_000.0,
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1_000.0,
                "ms" => 1.0,
                _ => return None,
            };
        rest = &rest[digits + unit.len()..];
    }
    (0.0..1e14).contains(&millis).then(|| TimeDelta::milliseconds(millis as i64))
}

/// An HTTP date in any of its forms, or RFC 3339.
pub(super) fn date(text: &str) -> Option<DateTime<Utc>> {
    let http = httpdate::parse_http_date(text).ok().map(DateTime::<Utc>::from);
    http.or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()))
}

/// `Retry-After` in seconds or as a date; what is past is zero.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = text(headers, "retry-after")?;
    if let Ok(seconds) = value.parse::<f64>() {
        return (0.0..1e9).contains(&seconds).then(|| Duration::from_secs_f64(seconds));
    }
    let clock = text(headers, "date").and_then(date).unwrap_or(now);
    Some((date(value)? - clock).to_std().unwrap_or_default())
}

/// Connections of which the API said that nothing is left, on this node.
#[derive(Default)]
pub(super) struct Holds(Mutex<HashMap<ConnectionId, Vec<Hold>>>);

struct Hold {
    until: Instant,
    /// The limit is this path's alone.
    path: Option<String>,
}

impl Holds {
    /// How long a call is to be held back.
    pub(super) fn left(&self, connection: ConnectionId, path: &str, now: Instant) -> Option<Duration> {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = holds.get_mut(&connection)?;
        own.retain(|hold| hold.until > now);
        let ends = own.iter().filter(|h| h.path.as_deref().is_none_or(|p| p == path)).map(|hold| hold.until).max();
        if own.is_empty() {
            holds.remove(&connection);
        }
        ends.map(|until| until - now)
    }

    /// Notes what an answer said.
    pub(super) fn note(
        &self,
        connection: ConnectionId,
        path: &str,
        headers: &HeaderMap,
        limit: &RateLimit,
        (wall, now): (DateTime<Utc>, Instant),
    ) {
        let wait = limit.reset_at.and_then(|at| (at - wall).to_std().ok());
        let (0, Some(wait)) = (limit.remaining, wait) else { return };
        let hold = Hold { until: now + wait.min(LONGEST), path: is_of_one_path(headers).then(|| path.to_owned()) };
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if holds.len() >= MOST {
            holds.retain(|_, own| own.iter().any(|hold| hold.until > now));
        }
        if holds.len() >= MOST && !holds.contains_key(&connection) {
            make_room(&mut holds);
        }
        let own = holds.entry(connection).or_default();
        own.retain(|known| known.until > now && known.path != hold.path);
        if own.len() >= PATHS
            && let Some((first, _)) = own.iter().enumerate().min_by_key(|(_, known)| known.until)
        {
            own.swap_remove(first);
        }
        own.push(hold);
    }
}

/// Forgets those that end first, an eighth at once: a call that goes too early is told so by the API.
fn make_room(holds: &mut HashMap<ConnectionId, Vec<Hold>>) {
    let ends = |own: &[Hold]| own.iter().map(|hold| hold.until).max();
    let mut order: Vec<_> = holds.iter().map(|(id, own)| (ends(own), *id)).collect();
    order.select_nth_unstable_by_key(MOST / 8, |(ends, _)| *ends);
    for (_, id) in order.into_iter().take(MOST / 8) {
        holds.remove(&id);
    }
}

/// GitHub names the resource that a limit is about, Stripe the reason: a search that is used up stops searches alone.
fn is_of_one_path(headers: &HeaderMap) -> bool {
    let resource = text(headers, "x-ratelimit-resource").is_some_and(|resource| resource != "core");
    let reason = text(headers, "stripe-rate-limited-reason").is_some_and(|reason| !reason.starts_with("global"));
    resource || reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn headers(lines: &str) -> HeaderMap {
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())
        };
        lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(pair).collect()
    }

    fn learnt(status: u16, lines: &str) -> Option<(Option<u64>, u64, Option<i64>)> {
        let limit = learn(status, &headers(lines), now())?;
        Some((limit.limit, limit.remaining, limit.reset_at.map(|at| (at - now()).num_seconds())))
    }

    #[test]
    fn every_family_of_headers_is_understood() {
        for (lines, expected) in [
            (
                "X-RateLimit-Limit: 5000\nX-RateLimit-Remaining: 4999\nX-RateLimit-Reset: 1800000060",
                (Some(5000), 4999, Some(60)),
            ),
            (
                "X-RateLimit-Limit: 60\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1800000060000",
                (Some(60), 0, Some(60)),
            ),
            ("X-Rate-Limit-Limit: 15\nX-Rate-Limit-Remaining: 3\nX-Rate-Limit-Reset: 42", (Some(15), 3, Some(42))),
            (
                "RateLimit-Limit: 100, 100;window=60\nRateLimit-Remaining: 50\nRateLimit-Reset: 30",
                (Some(100), 50, Some(30)),
            ),
            ("RateLimit: limit=100, remaining=50, reset=30", (Some(100), 50, Some(30))),
            ("RateLimit-Policy: \"default\";q=100;w=60\nRateLimit: \"default\";r=50;t=30", (Some(100), 50, Some(30))),
            (
                "RateLimit-Policy: \"burst\";q=10;w=1, \"day\";q=1000;w=86400\nRateLimit: \"burst\";r=9;t=1, \"day\";r=2;t=4000",
                (Some(1000), 2, Some(4000)),
            ),
            (
                "x-ratelimit-limit-requests: 60\nx-ratelimit-remaining-requests: 59\nx-ratelimit-reset-requests: 1m2.5s",
                (Some(60), 59, Some(62)),
            ),
            ("X-RateLimit-Remaining: 7\nX-RateLimit-Reset: 2027-01-15T08:01:00Z", (None, 7, Some(60))),
            ("X-RateLimit-Remaining: 7\nX-RateLimit-Reset: soon", (None, 7, None)),
            ("X-Shopify-Shop-Api-Call-Limit: 32/40", (Some(40), 8, None)),
            // The server's clock is an hour ahead of ours: the reset is a minute away all the same.
            (
                "Date: Fri, 15 Jan 2027 09:00:00 GMT\nX-RateLimit-Remaining: 0\nX-RateLimit-Reset: 1800003660",
                (None, 0, Some(60)),
            ),
        ] {
            assert_eq!(learnt(200, lines), Some(expected), "{lines}");
        }
        let stripe = "Retry-After: 3\nStripe-Rate-Limited-Reason: global-rate";
        assert_eq!(learnt(429, stripe), Some((None, 0, Some(3))));
        assert_eq!(learnt(503, stripe), None, "an outage is no limit");
        assert_eq!(
            learnt(429, "Retry-After: 3\nX-RateLimit-Limit: 9\nX-RateLimit-Remaining: 5"),
            Some((Some(9), 0, Some(3)))
        );
        for nonsense in
            ["X-RateLimit-Remaining: many", "X-RateLimit-Remaining: -1", "RateLimit: ;;,=,\"", "X-RateLimit-Limit: 7"]
        {
            assert_eq!(learnt(200, nonsense), None, "{nonsense}");
        }
        let odd = "X-RateLimit-Remaining: 1\nX-RateLimit-Reset: 99999999999999999999";
        assert_eq!(learnt(200, odd), Some((None, 1, None)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |lines| retry_after(&headers(lines), now()).map(|d| d.as_millis());
        assert_eq!(after("Retry-After: 7"), Some(7_000));
        assert_eq!(after("Retry-After: 0.5"), Some(500));
        assert_eq!(after("Retry-After: Fri, 15 Jan 2027 08:00:09 GMT"), Some(9_000));
        assert_eq!(after("Retry-After: Friday, 15-Jan-27 08:00:09 GMT"), Some(9_000));
        assert_eq!(after("Retry-After: Fri, 15 Jan 2027 07:00:00 GMT"), Some(0), "past");
        assert_eq!(
            after("Date: Fri, 15 Jan 2027 07:59:59 GMT\nRetry-After: Fri, 15 Jan 2027 08:00:09 GMT"),
            Some(10_000)
        );
        assert_eq!((after("Retry-After: -1"), after("Retry-After: tomorrow"), after("A: b")), (None, None, None));
    }

    #[test]
    fn calls_are_held_back_until_the_reset() {
        let (holds, t) = (Holds::default(), Instant::now());
        let (id, other) = (ConnectionId(uuid::Uuid::from_u128(1)), ConnectionId(uuid::Uuid::from_u128(2)));
        let used_up =
            |seconds| RateLimit { limit: None, remaining: 0, reset_at: Some(now() + TimeDelta::seconds(seconds)) };
        let none = HeaderMap::new();
        let some_left = RateLimit { remaining: 1, ..used_up(9) };
        holds.note(id, "/a", &none, &some_left, (now(), t));
        holds.note(id, "/a", &none, &RateLimit { reset_at: None, ..used_up(9) }, (now(), t));
        assert_eq!(holds.left(id, "/a", t), None);
        holds.note(id, "/search", &headers("X-RateLimit-Resource: search"), &used_up(9), (now(), t));
        assert_eq!((holds.left(id, "/search", t), holds.left(id, "/a", t)), (Some(Duration::from_secs(9)), None));
        holds.note(id, "/a", &none, &used_up(100_000), (now(), t));
        assert_eq!(holds.left(id, "/b", t), Some(LONGEST));
        assert_eq!(holds.left(other, "/b", t), None);
        assert_eq!(holds.left(id, "/b", t + LONGEST), None);
        assert!(holds.0.lock().unwrap().is_empty());
    }

    #[test]
    fn however_many_are_used_up_so_many_are_remembered_and_the_longest_ones_stay() {
        let (holds, t) = (Holds::default(), Instant::now());
        let id = |n: usize| ConnectionId(uuid::Uuid::from_u128(n as u128));
        let used_up = |n: usize| RateLimit {
            limit: None,
            remaining: 0,
            reset_at: Some(now() + TimeDelta::milliseconds(60_000 + n as i64)),
        };
        for n in 0..2 * MOST {
            holds.note(id(n), "/a", &HeaderMap::new(), &used_up(n), (now(), t));
            assert!(holds.0.lock().unwrap().len() <= MOST);
        }
        assert!(holds.left(id(2 * MOST - 1), "/a", t).is_some());
        let search = headers("X-RateLimit-Resource: search");
        for n in 0..3 * PATHS {
            holds.note(id(2 * MOST - 1), &format!("/{n}"), &search, &used_up(n), (now(), t));
        }
        assert_eq!(holds.0.lock().unwrap()[&id(2 * MOST - 1)].len(), PATHS);
        assert!(holds.left(id(2 * MOST - 1), &format!("/{}", 3 * PATHS - 1), t).is_some());
    }
}
