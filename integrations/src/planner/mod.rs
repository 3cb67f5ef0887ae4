//! Plain English in, a workflow draft out. Nothing here runs anything: a draft waits for a person.

mod build;
mod catalog;
mod choose;
mod clauses;
mod conditions;
mod confidence;
mod index;
mod inputs;
mod lexicon;
mod literals;
mod matching;
mod model;
mod offline;
mod producers;
mod retrieve;
mod shape;
mod sources;
mod text;
mod types;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, CatalogConnection, Ranked};
pub use model::{ModelConfig, plan_with_model};
pub use offline::plan_offline;
pub use types::{
    Candidate, MAX_REQUEST_BYTES, Message, PlanDraft, PlanError, PlanRequest, Planned, PlannerKind, Role, Usage,
};

/// Plans with the model where one is configured, else (and where the model fails) from the words alone. A fallback
/// is told in the draft's warnings.
///
/// # Errors
/// What is wrong with the request or the catalog itself; a model's failure is none.
pub async fn plan(catalog: &Catalog, request: &PlanRequest, model: Option<&ModelConfig>) -> Result<Planned, PlanError> {
    let Some(config) = model else {
        return Ok(Planned { draft: plan_offline(catalog, request)?, planner: PlannerKind::Offline });
    };
    match plan_with_model(catalog, request, config).await {
        Ok(draft) => Ok(Planned { draft, planner: PlannerKind::Llm }),
        Err(error @ (PlanError::Unavailable { .. } | PlanError::BadAnswer { .. })) => {
            tracing::warn!(%error, "planning offline instead");
            let mut draft = plan_offline(catalog, request)?;
            draft.warnings.insert(0, format!("{error} This plan was made without it."));
            Ok(Planned { draft, planner: PlannerKind::Offline })
        }
        Err(error) => Err(error),
    }
}
