//! Sealing JSON values for the log: small ones inline, large ones as blobs.

use domain::{ids::WorkspaceId, sealed::Stored};
use serde_json::Value;

use crate::{App, Failure};

/// Sealed JSON above this many bytes goes to a blob.
const INLINE: usize = 16 * 1024;

/// Seals a value of the workspace. The blob, when one is needed, is stored here: before the event that names it.
pub async fn store_value(app: &App, workspace: WorkspaceId, field: &str, value: &Value) -> Result<Stored, Failure> {
    let sealed = app.vault().seal(workspace, field, value).await?;
    if sealed.ciphertext.len() <= INLINE {
        return Ok(Stored::Inline(sealed));
    }
    let bytes = serde_json::to_vec(&sealed).map_err(|e| Failure::Internal(e.to_string()))?;
    let blob = app.store().put_blob(workspace.0, &bytes).await?;
    Ok(Stored::Blob { blob, size: bytes.len() as u64 })
}
