//! A connection's document: read again, shown, and compared with what it was.

use std::time::Duration;

use commands::connection::{self as use_cases, Ingested};
use domain::{
    connection::IngestionStatus,
    error::{Code, Faults, FieldError},
    ids::ConnectionId,
};
use poem_openapi::{OpenApi, param::Path};
use projections::{ConnectionSpecView, ConnectionView};
use tokio::time::Instant;

use super::{
    find,
    input::RefreshConnectionBody,
    spec_view::{RefreshJson, RefreshUnderWayJson, SpecDiffJson, SpecHistoryJson, SpecVersionJson},
    upload,
};
use crate::{
    answer::{Answer, Either},
    auth::{
        Permit,
        grant::{ConnectionRead, ConnectionWrite},
    },
    body::Body,
    problem::Problem,
    query::{Asked, Params, QuerySet},
    routes::Tag,
    types::Id,
};

/// A refresh that takes longer is answered while it goes on, unless the client says otherwise.
const USUAL_WAIT: Duration = Duration::from_secs(10);
/// Longer waits belong to the client.
const MOST_WAIT: Duration = Duration::from_secs(120);
/// The read model is looked at this often, once the log says that the document is read.
const LOOK: Duration = Duration::from_millis(10);
const MOST_LOOK: Duration = Duration::from_secs(2);

pub struct ConnectionSpecApi;

/// How long the answer may wait for the document.
struct RefreshQuery(Duration);

impl QuerySet for RefreshQuery {
    const NOTES: &'static [&'static str] =
        &["query|wait|string|How long to wait for the document, up to 2m: `0s`, `30s`, `1m`; `10s` when absent."];

    fn read(params: &mut Params) -> Self {
        let Some(text) = params.text("wait") else { return Self(USUAL_WAIT) };
        let wait = match text.as_str() {
            "0" | "0s" | "0ms" => Some(Duration::ZERO),
            text => domain::workflow::parse_duration(text).map(Duration::from_millis).filter(|d| *d <= MOST_WAIT),
        };
        if wait.is_none() {
            params.faults.add("wait", "must be a duration up to 2m, such as 0s, 500ms, 30s or 1m");
        }
        Self(wait.unwrap_or(USUAL_WAIT))
    }
}

struct VersionQuery(Option<u32>);

const NEWEST: u32 = 1_000_000_000;

impl QuerySet for VersionQuery {
    const NOTES: &'static [&'static str] =
        &["query|version|integer:1:1000000000|Version of the document; the newest when absent."];

    fn read(params: &mut Params) -> Self {
        Self(params.number("version", 1, NEWEST))
    }
}

struct DiffQuery {
    from: Option<u32>,
    to: Option<u32>,
}

impl QuerySet for DiffQuery {
    const NOTES: &'static [&'static str] = &[
        "query|from|integer:1:1000000000|The version to start from; the one before `to` when absent.",
        "query|to|integer:1:1000000000|The version to compare with; the newest when absent.",
    ];

    fn read(params: &mut Params) -> Self {
        Self { from: params.number("from", 1, NEWEST), to: params.number("to", 1, NEWEST) }
    }
}

/// A version, or 404 that names it.
async fn version<P>(
    permit: &Permit<P>,
    connection: &ConnectionView,
    number: Option<u32>,
) -> Result<ConnectionSpecView, Problem> {
    let number = number.map_or(connection.spec_number, |n| i32::try_from(n).unwrap_or(i32::MAX));
    let found = permit.reads().connection_spec(permit.workspace(), connection.id, number).await?;
    found.ok_or_else(|| {
        let message = match connection.spec_number {
            0 => "This connection has no document (yet).".to_owned(),
            newest => format!("There is no version {number} of this document; the newest is {newest}."),
        };
        Problem::new(Code::ResourceNotFound, message)
    })
}

/// The connection as the read model shows it, once that shows the end of this ingestion too.
async fn shown<P>(
    permit: &Permit<P>,
    id: ConnectionId,
    ingested: &Ingested,
) -> Result<Option<ConnectionView>, Problem> {
    let deadline = Instant::now() + MOST_LOOK;
    loop {
        let view = find(permit, id).await?;
        let over = matches!(view.ingestion_status, IngestionStatus::Succeeded | IngestionStatus::Failed);
        if over && view.refreshes >= ingested.refreshes {
            return Ok(Some(view));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Why a refresh gave no operations; what was there before stays.
fn failure(ingested: Ingested, uploaded: bool) -> Problem {
    let (code, field, message) = match (ingested.unreachable, uploaded) {
        (true, _) => (Code::ApiConnectionFailed, "specUrl", "Spec unreachable, see logs"),
        (false, true) => {
            (Code::ValidationError, "spec", "The document cannot be taken; the operations stay as they are.")
        }
        (false, false) => {
            (Code::IntegrationError, "specUrl", "The document was fetched but cannot be taken; the operations stay.")
        }
    };
    let mut problem = Problem::new(code, message);
    let place = |pointer: &str| if pointer.is_empty() { field.to_owned() } else { format!("{field}#{pointer}") };
    problem.details = ingested.errors.into_iter().map(|e| FieldError::new(place(&e.pointer), e.message)).collect();
    problem
}

#[OpenApi(tag = "Tag::Connections")]
impl ConnectionSpecApi {
    /// Refresh the document
    ///
    /// Asks the document's server whether it has changed, or takes the new one in `spec` or `specArchive`, and compares: which operations
    /// are new, gone or changed, what of it breaks callers, and which workflows and running executions call what
    /// changed. Waits 10 seconds (`?wait=`) and answers 200 with the result; 202 when it goes on in the background: the
    /// connection then shows `ingestionStatus` and `changes`. Saved workflows keep the operations they were saved with.
    #[oai(path = "/connections/:id/refresh", method = "post", operation_id = "refreshConnection")]
    async fn refresh(
        &self,
        permit: Permit<ConnectionWrite>,
        id: Path<Id<ConnectionId>>,
        wait: Asked<RefreshQuery>,
        body: Body<RefreshConnectionBody>,
    ) -> Result<Either<Answer<RefreshJson>, Answer<RefreshUnderWayJson, 202>>, Problem> {
        let began = Instant::now();
        let id = id.typed("id")?;
        let mut faults = Faults::default();
        let RefreshConnectionBody { spec, spec_archive, spec_root } = body.0;
        let spec = upload::of(spec, spec_archive, spec_root, &mut faults);
        faults.into_result()?;
        let before = find(&permit, id).await?.spec_number;
        let uploaded = spec.is_some();
        let done = use_cases::refresh(permit.app(), permit.context(), id, spec).await?;
        permit.wrote(done.at);
        let ingested = use_cases::wait(permit.app(), permit.workspace(), id, wait.0.0).await?;
        let status = ingested.status;
        let response_time = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let view = if ingested.is_over() { shown(&permit, id, &ingested).await? } else { None };
        if status == IngestionStatus::Failed {
            return Err(failure(ingested, uploaded));
        }
        if let Some(view) = view {
            return Ok(Either::Usual(Answer::new(RefreshJson::of(view, before, response_time())).at(done.at)));
        }
        let answer = RefreshUnderWayJson {
            connection_id: id.to_string(),
            ingestion_status: status.as_str().to_owned(),
            response_time: response_time(),
        };
        Ok(Either::Else(Answer::new(answer).message("The document is being read.").at(done.at)))
    }

    /// Get the document
    ///
    /// As it was taken, to the byte, in any of its versions.
    #[oai(path = "/connections/:id/spec", method = "get", operation_id = "getConnectionSpec")]
    async fn spec(
        &self,
        permit: Permit<ConnectionRead>,
        id: Path<Id<ConnectionId>>,
        asked: Asked<VersionQuery>,
    ) -> Result<Answer<SpecVersionJson>, Problem> {
        let connection = find(&permit, id.typed("id")?).await?;
        let view = version(&permit, &connection, asked.0.0).await?;
        let document = use_cases::document(permit.app(), &view.spec_hash).await?;
        Ok(Answer::new(SpecVersionJson::of(view, Some(document))))
    }

    /// List the document's versions
    ///
    /// A version for each document that differed from the one before: when it came, who asked, what it holds.
    #[oai(path = "/connections/:id/history", method = "get", operation_id = "listConnectionHistory")]
    async fn history(
        &self,
        permit: Permit<ConnectionRead>,
        id: Path<Id<ConnectionId>>,
    ) -> Result<Answer<SpecHistoryJson>, Problem> {
        let connection = find(&permit, id.typed("id")?).await?;
        let found = permit.reads().connection_specs(permit.workspace(), connection.id).await?;
        let history = found.into_iter().map(|view| SpecVersionJson::of(view, None)).collect();
        Ok(Answer::new(SpecHistoryJson { checked_at: connection.checked_at.map(Into::into), history }))
    }

    /// Compare two versions of the document
    ///
    /// Any two, in either direction. Each change names its operation and its place, and says whether it breaks callers.
    #[oai(path = "/connections/:id/history/diff", method = "get", operation_id = "compareConnectionHistory")]
    async fn diff(
        &self,
        permit: Permit<ConnectionRead>,
        id: Path<Id<ConnectionId>>,
        asked: Asked<DiffQuery>,
    ) -> Result<Answer<SpecDiffJson>, Problem> {
        let connection = find(&permit, id.typed("id")?).await?;
        let to = version(&permit, &connection, asked.0.to).await?;
        let before = u32::try_from(to.number - 1).unwrap_or(0).max(1);
        let from = version(&permit, &connection, Some(asked.0.from.unwrap_or(before))).await?;
        let drift = use_cases::compare(permit.app(), &from.operations_hash, &to.operations_hash).await?;
        Ok(Answer::new(SpecDiffJson::of(from.number, to.number, drift)))
    }
}
