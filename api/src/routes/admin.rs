//! For those who run the service.

use poem_openapi::{Object, OpenApi};

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
    /// How far the read models are behind the log, and how many events they could not take.
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
        };
        Ok(Answer::new(ProjectionsJson { projections: vec![projection] }))
    }
}
