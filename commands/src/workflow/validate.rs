//! Checks a definition without saving it.

use domain::error::FieldError;
use serde_json::Value;

use super::save::checked;
use crate::{App, Context, Failure};

/// Each with its JSON path.
pub struct Findings {
    /// Empty when it could be saved.
    pub errors: Vec<FieldError>,
    /// What would not work as it is.
    pub warnings: Vec<FieldError>,
}

pub async fn validate(app: &App, context: &Context, definition: &Value) -> Result<Findings, Failure> {
    Ok(match checked(app, context.actor.workspace, definition).await? {
        Ok(checked) => Findings { errors: Vec::new(), warnings: checked.warnings },
        Err(errors) => Findings { errors, warnings: Vec::new() },
    })
}
