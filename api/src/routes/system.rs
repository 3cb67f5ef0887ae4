//! Is the service well, and what does it offer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use domain::error::Code;
use poem_openapi::{Object, OpenApi, payload::Json};
use serde_json::{Value, json};

use super::Tag;
use crate::{
    answer::Answer,
    auth::Guest,
    problem::Problem,
    state::{ApiState, Health},
};

/// A part that answers no faster than this is down.
const PATIENCE: Duration = Duration::from_secs(2);
/// Read models that lag this far behind are unwell, milliseconds.
const MOST_LAG_MS: i64 = 30_000;

pub struct SystemApi;

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CheckJson {
    /// `healthy` or `unhealthy`.
    status: String,
    /// When it is unhealthy, is the service?
    required: bool,
    details: Value,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct HealthJson {
    /// `healthy`, `degraded` (a part is down that does not matter for requests) or `unhealthy`.
    status: String,
    version: String,
    /// Milliseconds the checks took.
    response_time: u64,
    checks: BTreeMap<String, CheckJson>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct AliveJson {
    status: String,
}

async fn patient(check: impl Future<Output = Health>) -> Health {
    let late = || Health { healthy: false, details: json!({ "error": "no answer in time" }) };
    tokio::time::timeout(PATIENCE, check).await.unwrap_or_else(|_| late())
}

/// Both at once: the lag is a question to the database.
async fn database_and_projections(state: &ApiState) -> (Health, Health) {
    let unknown = || Health { healthy: false, details: json!({ "error": "the database cannot be asked" }) };
    let asked = async {
        let lag = state.system().lag().await?;
        Ok::<_, sqlx_error::Any>((lag, state.system().quarantined().await?))
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok((lag, quarantined))) => {
            let details = json!({ "lagEvents": lag.events, "lagMs": lag.age_ms, "quarantined": quarantined });
            let projections = Health { healthy: lag.age_ms < MOST_LAG_MS && quarantined == 0, details };
            (Health { healthy: true, details: json!({ "connected": true }) }, projections)
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "health: the database cannot be asked");
            (Health { healthy: false, details: json!({ "connected": false }) }, unknown())
        }
        Err(_) => {
            (Health { healthy: false, details: json!({ "connected": false, "error": "no answer in time" }) }, unknown())
        }
    }
}

/// The database's errors without naming its library: this crate does not depend on it.
mod sqlx_error {
    pub type Any = Box<dyn std::error::Error + Send + Sync>;
}

async fn health_of(state: &ApiState) -> (HealthJson, bool) {
    let started = Instant::now();
    let others = futures::future::join_all(
        state
            .checks()
            .iter()
            .map(|check| async move { (check.name().to_owned(), check.required(), patient(check.check()).await) }),
    );
    let ((database, projections), others) = futures::future::join(database_and_projections(state), others).await;
    let mut all = vec![("database".to_owned(), true, database), ("projections".to_owned(), false, projections)];
    all.extend(others);
    let serves = all.iter().all(|(_, required, health)| health.healthy || !required);
    let whole = all.iter().all(|(_, _, health)| health.healthy);
    let status = match (serves, whole) {
        (true, true) => "healthy",
        (true, false) => "degraded",
        (false, _) => "unhealthy",
    };
    let checks = all.into_iter().map(|(name, required, health)| {
        let status = if health.healthy { "healthy" } else { "unhealthy" };
        (name, CheckJson { status: status.to_owned(), required, details: health.details })
    });
    let health = HealthJson {
        status: status.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        response_time: started.elapsed().as_millis() as u64,
        checks: checks.collect(),
    };
    (health, serves)
}

#[OpenApi(tag = "Tag::System")]
impl SystemApi {
    /// Health
    ///
    /// Asks every part: the database, the read models and their lag, and what else runs. 503 when one is down that
    /// requests need; the same details are then beside the error, as `data`.
    #[oai(path = "/health", method = "get", operation_id = "getHealth")]
    async fn health(&self, guest: Guest) -> Result<Answer<HealthJson>, Problem> {
        let (health, serves) = health_of(&guest.state).await;
        if serves {
            return Ok(Answer::new(health));
        }
        let mut problem = Problem::new(Code::ServiceUnavailable, "A part that the service needs is down.");
        problem.data = poem_openapi::types::ToJSON::to_json(&health).map(Box::new);
        Err(problem.with_retry_after(1))
    }

    /// Is the process alive
    ///
    /// For supervisors: answers as long as the process does, whatever else is down.
    #[oai(path = "/health/live", method = "get", operation_id = "getLiveness")]
    async fn live(&self, _guest: Guest) -> Result<Answer<AliveJson>, Problem> {
        Ok(Answer::new(AliveJson { status: "alive".into() }))
    }

    /// Can it take requests
    ///
    /// For load balancers: 503 while the database cannot be reached.
    #[oai(path = "/health/ready", method = "get", operation_id = "getReadiness")]
    async fn ready(&self, guest: Guest) -> Result<Answer<AliveJson>, Problem> {
        let (database, _) = database_and_projections(&guest.state).await;
        if !database.healthy {
            return Err(Problem::unavailable("not ready: the database cannot be asked"));
        }
        Ok(Answer::new(AliveJson { status: "ready".into() }))
    }

    /// This document
    ///
    /// The OpenAPI document of this API, as Swagger UI at `/docs` shows it.
    #[oai(path = "/openapi", method = "get", operation_id = "getOpenApiDocument")]
    async fn openapi(&self, _guest: Guest) -> Result<Json<Value>, Problem> {
        serde_json::from_str(crate::document_text()).map(Json).map_err(Problem::internal)
    }
}
