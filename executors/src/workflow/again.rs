//! A call whose access token was refused is made once more, with a renewed one.

use std::time::Duration;

use commands::{
    Context,
    execution::read_again,
    oauth::{Fresh, fresh},
};
use domain::{execution::CredentialUse, oauth::Because};
use integrations::egress::{EgressError, OutboundResponse, Scope};
use tokio::time::{Instant, timeout_at};

use super::{
    Executor,
    call::{Attempt, Target, request},
};
use crate::authorise::Opened;

/// RFC 6750: 401, or `invalid_token` with whatever status. The server has looked at the token and not at the request, so
/// that it may come again, whatever it is.
pub(super) fn is_refused(answer: &OutboundResponse) -> bool {
    let challenged = answer.header("www-authenticate").is_some_and(|said| said.contains("invalid_token"));
    answer.status == 401 || (answer.status >= 400 && challenged)
}

/// `None`: there is no other token, or no time to use it; the first answer stands. `Err`: the second call was begun, and
/// what became of it is the outcome. Both calls, and what is between them, have what is `left` of the attempt's time: its
/// lease ends soon after.
pub(super) async fn with_renewed(
    executor: &Executor,
    context: &Context,
    attempt: &Attempt,
    target: &Target,
    first: &OutboundResponse,
    left: Duration,
) -> Option<Result<OutboundResponse, EgressError>> {
    let deadline = Instant::now() + left;
    let (credential, seen) = target.credential?;
    let id = attempt.call.connection_id;
    let renewed = fresh(&executor.app, context, id, Because::Refused, Some(seen));
    let version = match timeout_at(deadline, renewed).await {
        Ok(Ok(Fresh::Version(version))) if version != seen => version,
        // The renewal goes on without us.
        Ok(Ok(_)) | Err(_) => return None,
        Ok(Err(error)) => {
            tracing::warn!(connection = %id, %error, "a refused token could not be renewed");
            return None;
        }
    };
    // In the execution's own stream: fifty executions that renew one token do not stand in each other's way.
    let read = CredentialUse { version, ..target.reads(&attempt.call)? };
    let step = (attempt.step.key.as_str(), attempt.attempt);
    let value = match timeout_at(deadline, read_again(&executor.app, context, attempt.execution, step, read)).await {
        Ok(Ok(value)) => value?,
        Err(_) => return None,
        Ok(Err(error)) => {
            tracing::warn!(connection = %id, %error, "a renewed token cannot be opened");
            return None;
        }
    };
    let request = request(attempt, target, Some(&Opened { credential, version, value })).ok()?;
    let scope = Scope { workspace: Some(context.actor.workspace), connection: Some(id), ..Scope::default() };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return None;
    }
    let answer = executor.egress.send(request.scope(scope).timeout(left)).await;
    Some(answer.map(|answer| OutboundResponse { attempts: first.attempts + answer.attempts, ..answer }))
}
