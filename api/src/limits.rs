//! Rate limits: fixed windows in memory, per node. Memory is bounded; a full table forgets, it never refuses.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::error::Code;
use poem::http::{HeaderMap, HeaderName, HeaderValue};

use crate::{clock, problem::Problem};

/// Keys counted at once; past it, windows that ended are swept, then all.
const MOST_KEYS: usize = 50_000;

/// Requests allowed; 0 means no limit.
#[derive(Debug, Clone)]
pub struct RateLimits {
    /// Per actor (user or key), or per IP without credentials.
    pub per_hour_default: u64,
    /// Logins and registrations per IP and account.
    pub auth_per_15min: u64,
    pub chat_per_min: u64,
    pub secrets_per_min: u64,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { per_hour_default: 1_000, auth_per_15min: 5, chat_per_min: 10, secrets_per_min: 100 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    Default,
    Auth,
    Chat,
    Secrets,
}

impl Class {
    /// By the request's path, with or without the version in it.
    pub fn of(path: &str) -> Self {
        let path = path.trim_start_matches("/api").trim_start_matches("/v1");
        let noun = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        match noun {
            "chat" => Class::Chat,
            "secrets" | "credentials" | "keys" => Class::Secrets,
            _ => Class::Default,
        }
    }
}

/// How a request stands, for the headers of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub limit: u64,
    pub remaining: u64,
    /// Seconds until the window ends.
    pub resets_in: u64,
    /// Seconds the window lasts.
    pub window: u64,
}

impl Rate {
    /// What a request is told that is one too many.
    pub fn refusal(self) -> Problem {
        let Rate { limit, window, resets_in, .. } = self;
        let message =
            format!("Too many requests: {limit} in {window} seconds are allowed. Try again in {resets_in} seconds.");
        Problem::new(Code::RateLimitExceeded, message).with_retry_after(resets_in.max(1))
    }

    pub fn write(self, headers: &mut HeaderMap) {
        let reset = clock::now().timestamp().max(0) as u64 + self.resets_in;
        let fields: [(&str, u64); 4] = [
            ("x-ratelimit-limit", self.limit),
            ("x-ratelimit-remaining", self.remaining),
            ("x-ratelimit-reset", reset),
            ("x-ratelimit-window", self.window),
        ];
        for (name, value) in fields {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        }
    }
}

struct Window {
    ends: Instant,
    used: u64,
}

pub struct Limiter {
    limits: RateLimits,
    windows: Mutex<HashMap<(Class, String), Window>>,
}

impl Limiter {
    pub fn new(limits: RateLimits) -> Self {
        Self { limits, windows: Mutex::default() }
    }

    fn of(&self, class: Class) -> (u64, Duration) {
        match class {
            Class::Default => (self.limits.per_hour_default, Duration::from_secs(3600)),
            Class::Auth => (self.limits.auth_per_15min, Duration::from_secs(900)),
            Class::Chat => (self.limits.chat_per_min, Duration::from_secs(60)),
            Class::Secrets => (self.limits.secrets_per_min, Duration::from_secs(60)),
        }
    }

    /// Counts a request of `key`: where it stands, and whether it is one too many.
    pub fn charge(&self, class: Class, key: &str) -> (Rate, bool) {
        self.charge_at(class, key, Instant::now())
    }

    fn charge_at(&self, class: Class, key: &str, now: Instant) -> (Rate, bool) {
        let (limit, length) = self.of(class);
        let window = length.as_secs();
        if limit == 0 {
            let plenty = u64::from(u32::MAX);
            return (Rate { limit: plenty, remaining: plenty, resets_in: window, window }, false);
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MOST_KEYS {
            windows.retain(|_, window| window.ends > now);
            if windows.len() >= MOST_KEYS {
                windows.clear();
            }
        }
        let entry = windows.entry((class, key.to_owned())).or_insert(Window { ends: now + length, used: 0 });
        if entry.ends <= now {
            *entry = Window { ends: now + length, used: 0 };
        }
        let resets_in = entry.ends.duration_since(now).as_secs_f64().ceil() as u64;
        if entry.used >= limit {
            return (Rate { limit, remaining: 0, resets_in, window }, true);
        }
        entry.used += 1;
        (Rate { limit, remaining: limit - entry.used, resets_in, window }, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_is_refused_until_the_window_ends() {
        let limiter = Limiter::new(RateLimits { auth_per_15min: 2, ..RateLimits::default() });
        let start = Instant::now();
        assert_eq!(limiter.charge_at(Class::Auth, "a", start).0.remaining, 1);
        assert_eq!(limiter.charge_at(Class::Auth, "a", start).0.remaining, 0);
        let (rate, refused) = limiter.charge_at(Class::Auth, "a", start + Duration::from_secs(800));
        assert!(refused);
        assert_eq!((rate.limit, rate.remaining, rate.resets_in, rate.window), (2, 0, 100, 900));
        assert_eq!(rate.refusal().retry_after, Some(100));
        assert!(!limiter.charge_at(Class::Auth, "b", start).1, "another account");
        assert!(!limiter.charge_at(Class::Chat, "a", start).1, "another class");
        assert!(!limiter.charge_at(Class::Auth, "a", start + Duration::from_secs(900)).1, "another window");
    }

    #[test]
    fn memory_is_bounded_and_zero_is_no_limit() {
        let limiter = Limiter::new(RateLimits { chat_per_min: 0, ..RateLimits::default() });
        let start = Instant::now();
        for n in 0..(MOST_KEYS + 10) {
            assert!(!limiter.charge_at(Class::Default, &n.to_string(), start).1);
        }
        assert!(limiter.windows.lock().unwrap().len() <= MOST_KEYS);
        for _ in 0..1_000 {
            assert!(!limiter.charge_at(Class::Chat, "a", start).1);
        }
    }

    #[test]
    fn classes_by_path() {
        assert_eq!(Class::of("/api/v1/chat/execute"), Class::Chat);
        assert_eq!(Class::of("/api/secrets/secret_1"), Class::Secrets);
        assert_eq!(Class::of("/api/v1/connections"), Class::Default);
    }
}
