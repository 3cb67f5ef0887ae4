//! The planner port: the workspace's connected operations, indexed and kept, and the model when one is configured.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use commands::{
    App,
    ports::{Match, PlanAsk, PlanFailure, PlanProposal, Planner},
};
use domain::ids::{ConnectionId, WorkspaceId};
use integrations::planner::{
    self, Catalog, CatalogConnection, Message, ModelConfig, PlanError, PlanRequest, PlannerKind, Role,
};
use projections::SystemReads;
use serde_json::Value;
use std::sync::OnceLock;

/// Operations of all indexes in memory together; the oldest use goes first, and the newest index stays, however large.
const KEPT: usize = 20_000;

pub struct WorkspacePlanner {
    reads: SystemReads,
    model: Option<ModelConfig>,
    app: OnceLock<App>,
    catalogs: Mutex<HashMap<WorkspaceId, Kept>>,
}

/// A catalogue and what it was made of.
struct Kept {
    at: Instant,
    parts: Vec<(ConnectionId, String, String)>,
    catalog: Arc<Catalog>,
}

impl WorkspacePlanner {
    pub fn new(reads: SystemReads, model: Option<ModelConfig>) -> Self {
        Self { reads, model, app: OnceLock::new(), catalogs: Mutex::default() }
    }

    /// The app has this port, and this port reads documents through the app: joined after both are made.
    pub fn join(&self, app: App) {
        // A second join would be a wiring fault; the first stays.
        let _ = self.app.set(app);
    }

    async fn catalog(&self, workspace: WorkspaceId) -> Result<Arc<Catalog>, PlanFailure> {
        let unavailable = |e: &dyn std::fmt::Display| PlanFailure::Unavailable(e.to_string());
        let app = self.app.get().ok_or_else(|| unavailable(&"the planner is not joined"))?;
        let parts = self.reads.connected_operations(workspace).await.map_err(|e| unavailable(&e))?;
        if let Some(kept) = self.lock().get_mut(&workspace)
            && kept.parts == parts
        {
            kept.at = Instant::now();
            return Ok(kept.catalog.clone());
        }
        let mut connections = Vec::with_capacity(parts.len());
        for (id, name, hash) in &parts {
            let spec = app.spec(hash).await.map_err(|e| unavailable(&e))?;
            connections.push(CatalogConnection { connection_id: id.to_string(), name: name.clone(), spec });
        }
        let catalog = tokio::task::spawn_blocking(move || Arc::new(Catalog::new(connections)))
            .await
            .map_err(|e| unavailable(&e))?;
        let mut map = self.lock();
        map.insert(workspace, Kept { at: Instant::now(), parts, catalog: catalog.clone() });
        while map.len() > 1 && map.values().map(|kept| kept.catalog.len()).sum::<usize>() > KEPT {
            let oldest = map.iter().filter(|(id, _)| **id != workspace).min_by_key(|(_, kept)| kept.at);
            let Some(oldest) = oldest.map(|(id, _)| *id) else { break };
            map.remove(&oldest);
        }
        Ok(catalog)
    }

    /// Gives back the memory of indexes that nobody has used for so long.
    pub fn let_go(&self, unused_for: Duration) {
        self.lock().retain(|_, kept| kept.at.elapsed() < unused_for);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<WorkspaceId, Kept>> {
        self.catalogs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Planner for WorkspacePlanner {
    async fn plan(&self, ask: PlanAsk) -> Result<PlanProposal, PlanFailure> {
        let catalog = self.catalog(ask.workspace).await?;
        if catalog.is_empty() {
            return Err(PlanFailure::Nothing(
                "No API is connected yet, or none of its operations is known: create a connection with an OpenAPI \
                 document and wait until its ingestionStatus is SUCCEEDED."
                    .into(),
            ));
        }
        let previous =
            ask.previous.into_iter().map(|(role, content)| Message { role: role_of(&role), content }).collect();
        let request = PlanRequest { message: ask.message, previous, ..PlanRequest::default() };
        let planned = planner::plan(&catalog, &request, self.model.as_ref()).await.map_err(|error| match error {
            PlanError::Unavailable { reason } => PlanFailure::Unavailable(reason),
            other => PlanFailure::Nothing(other.to_string()),
        })?;
        let draft = planned.draft;
        Ok(PlanProposal {
            name: draft.name,
            steps: draft.steps,
            input_schema: draft.input_schema,
            explanation: draft.explanation,
            confidence: rounded(draft.confidence),
            planner: match planned.planner {
                PlannerKind::Llm => "llm".into(),
                PlannerKind::Offline => "offline".into(),
            },
            candidates: draft.candidates.iter().filter_map(candidate).collect(),
            warnings: draft.warnings,
            questions: draft.questions,
        })
    }

    async fn search(&self, workspace: WorkspaceId, query: &str, limit: usize) -> Result<Vec<Match>, PlanFailure> {
        Ok(matches(&*self.catalog(workspace).await?, query, limit))
    }
}

fn matches(catalog: &Catalog, query: &str, limit: usize) -> Vec<Match> {
    let ranked = catalog.search(query, limit);
    let found = ranked.into_iter().filter_map(|r| {
        let connection = catalog.connections().iter().find(|c| c.connection_id == r.connection_id)?;
        let operation = connection.spec.operations.get(r.operation_index)?;
        Some(Match {
            connection: r.connection_id.parse().ok()?,
            method: operation.method.clone(),
            path: operation.path.clone(),
            score: r.score,
        })
    });
    found.collect()
}

fn candidate(candidate: &planner::Candidate) -> Option<Value> {
    let mut value = serde_json::to_value(candidate).ok()?;
    value["score"] = rounded(candidate.score).into();
    Some(value)
}

/// Three decimals: more would only pretend.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1_000.0).round() / 1_000.0
}

fn role_of(role: &str) -> Role {
    if role == "assistant" { Role::Assistant } else { Role::User }
}
