//! For those who run the service.

use chrono::{DateTime, Utc};
use poem_openapi::{Object, OpenApi};
use projections::RebuildStatus;

use super::Tag;
use crate::{
    answer::Answer,
    auth::{Permit, grant::ProjectionRead},
    problem::Problem,
};

pub struct AdminApi;

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ProjectionJson {
    name: String,
    /// Where in the log it has come to.
    checkpoint: String,
    /// Events it does not show yet, counted up to 10,000.
    lag_events: i64,
    /// Age of the oldest of them, milliseconds.
    lag_ms: i64,
    /// Events set aside because they could not be applied: 0 in a healthy system.
    quarantined: i64,
    /// The rebuild that is running, if there is one. It is started by `apiq admin rebuild`.
    rebuild: Option<RebuildJson>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct RebuildJson {
    /// `fold`, `index`, `catch_up`, `swap` or `clean_up`.
    phase: String,
    started_at: DateTime<Utc>,
    /// Events folded so far.
    events: i64,
    /// Events in the log when it began.
    total: i64,
    events_per_second: f64,
    eta_seconds: Option<i64>,
}

impl From<RebuildStatus> for RebuildJson {
    fn from(status: RebuildStatus) -> Self {
        Self {
            events_per_second: status.rate().round(),
            eta_seconds: status.eta_seconds(),
            phase: status.phase,
            started_at: status.started_at,
            events: status.events,
            total: status.total,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ProjectionsJson {
    projections: Vec<ProjectionJson>,
}

#[OpenApi(tag = "Tag::Admin")]
impl AdminApi {
    /// Projections
    ///
    /// How far the read models are behind the log, how many events they could not take, and the rebuild under way. A
    /// rebuild is started from the command line: the server itself has no right to change the schema.
    #[oai(path = "/admin/projections", method = "get", operation_id = "listProjections")]
    async fn projections(&self, permit: Permit<ProjectionRead>) -> Result<Answer<ProjectionsJson>, Problem> {
        let lag = permit.system().lag().await.map_err(Problem::unavailable)?;
        let quarantined = permit.system().quarantined().await.map_err(Problem::unavailable)?;
        let projection = ProjectionJson {
            name: projections::CHECKPOINT.to_owned(),
            checkpoint: lag.checkpoint.to_string(),
            lag_events: lag.events,
            lag_ms: lag.age_ms,
            quarantined,
            rebuild: permit.system().rebuild().await.map_err(Problem::unavailable)?.map(Into::into),
        };
        Ok(Answer::new(ProjectionsJson { projections: vec![projection] }))
    }
}
