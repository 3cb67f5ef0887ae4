//! Checks a definition without saving it.

use domain::error::FieldError;
use serde_json::Value;

use super::save::checked;
use crate::{App, Context, Failure};

/// Every fault with its JSON path; empty when it could be saved.
pub async fn validate(app: &App, context: &Context, definition: &Value) -> Result<Vec<FieldError>, Failure> {
    Ok(checked(app, context.actor.workspace, definition).await?.err().unwrap_or_default())
}
