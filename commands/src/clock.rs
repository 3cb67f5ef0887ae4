//! The one source of time and ids.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::App;

impl App {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all use cases share")]
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    /// A new time-ordered id.
    #[expect(clippy::disallowed_methods, reason = "this is the source of ids")]
    pub fn new_id<T: From<Uuid>>(&self) -> T {
        Uuid::now_v7().into()
    }
}
