//! How API documents are fetched and kept.

use std::time::Duration;

use super::parse::Reader;

const TIMEOUT: u64 = 30;
const TIME_TO_LIVE: u64 = 24;
const BYTES: u64 = 256 * 1024 * 1024;
const ENTRIES: u64 = 1_000;

/// Fetched documents and their cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecSettings {
    /// For fetching one document, to its last byte.
    pub timeout: Duration,
    /// How long a fetched document is used without asking its server.
    pub time_to_live: Duration,
    /// Compressed bytes that the cache keeps.
    pub cache_bytes: i64,
    /// Documents that the cache keeps.
    pub cache_entries: i64,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    pub(super) fn spec(&mut self) -> SpecSettings {
        let timeout = self.read("APIQ_SPEC_TIMEOUT_SECONDS", number("seconds", 1, 600)).unwrap_or(TIMEOUT);
        let hours = self.read("APIQ_SPEC_CACHE_TTL_HOURS", number("hours", 0, 8_760)).unwrap_or(TIME_TO_LIVE);
        let bytes = self.read("APIQ_SPEC_CACHE_MAX_BYTES", number("bytes", 0, 1 << 40)).unwrap_or(BYTES);
        let entries = self.read("APIQ_SPEC_CACHE_MAX_COUNT", number("documents", 0, 1_000_000)).unwrap_or(ENTRIES);
        SpecSettings {
            timeout: Duration::from_secs(timeout),
            time_to_live: Duration::from_secs(hours * 3_600),
            cache_bytes: bytes.cast_signed(),
            cache_entries: entries.cast_signed(),
        }
    }
}

fn number(unit: &'static str, least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> {
    move |text| match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("\"{text}\" is no number of {unit} from {least} to {most}")),
    }
}
