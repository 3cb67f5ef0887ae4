//! Outgoing webhooks and their deliveries, as people act on them and as the dispatcher records.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    catalogue,
    delivery::{Delivery, DeliveryCommand},
    error::{Code, FieldError, Rejection},
    ids::{DeliveryId, WebhookId},
    policy,
    webhook::{Webhook, WebhookCommand, WebhookPatch},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    App, Context, Failure, Outcome,
    connection::check_address,
    unit::{self, Unit, change, fresh},
};

#[derive(Debug)]
pub struct CreateWebhook {
    pub name: String,
    pub url: String,
    pub events: Vec<String>,
    /// `whsec_` and base64 of 24 to 64 bytes; made when absent.
    pub secret: Option<SecretString>,
}

#[derive(Debug)]
pub struct CreatedWebhook {
    pub id: WebhookId,
    /// Shown once.
    pub secret: SecretString,
}

fn target(id: WebhookId) -> (uuid::Uuid, Code, &'static str) {
    (id.0, Code::WebhookNotFound, "webhook")
}

pub async fn create(app: &App, context: &Context, input: CreateWebhook) -> Outcome<CreatedWebhook> {
    check_address(app, "url", Some(&input.url))?;
    may_subscribe(context, &input.events)?;
    let secret = match input.secret {
        Some(secret) => checked(secret)?,
        None => generate(),
    };
    let id: WebhookId = app.new_id();
    let sealed = app.vault().seal(context.actor.workspace, "webhook.secret", secret.expose_secret()).await?;
    let mut unit = Unit::new(app, context).await?;
    let command = WebhookCommand::Create { name: input.name, url: input.url, events: input.events, secret: sealed };
    unit.stage(&mut fresh::<Webhook>(id.0), command)?;
    unit.commit(CreatedWebhook { id, secret }).await
}

pub async fn update(
    app: &App,
    context: &Context,
    id: WebhookId,
    expected_version: Option<i64>,
    patch: WebhookPatch,
) -> Outcome<()> {
    check_address(app, "url", patch.url.as_deref())?;
    let command = |hook: &Webhook| {
        // Who sends events to another address, or again, must be allowed to read them, whoever subscribed.
        if patch.events.is_some() || patch.url.is_some() || patch.active == Some(true) {
            may_subscribe(context, patch.events.as_ref().unwrap_or(&hook.events))?;
        }
        Ok(WebhookCommand::Update(patch.clone()))
    };
    Ok(change(app, context, target(id), expected_version, command).await?.map(|_| ()))
}

pub async fn delete(app: &App, context: &Context, id: WebhookId) -> Outcome<()> {
    Ok(change::<Webhook>(app, context, target(id), None, |_| Ok(WebhookCommand::Delete)).await?.map(|_| ()))
}

/// A webhook tells its receiver what its maker may read, and no more.
fn may_subscribe(context: &Context, events: &[String]) -> Result<(), Failure> {
    let role = context.actor.role;
    let mut refused = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let needed = policy::read_of(event);
        // What is no event type at all is told as that.
        if catalogue::is_known_subscription(event) && !policy::allows(role, needed) {
            refused.push(FieldError::new(format!("events[{index}]"), format!("{event:?} needs {}", needed.as_str())));
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    let message = format!("Your role, {}, may not read all that this webhook would send.", role.as_str());
    Err(Rejection { details: refused, ..Rejection::new(Code::Forbidden, message) }.into())
}

/// Delivers once more, whatever became of it.
pub async fn resend(app: &App, context: &Context, id: WebhookId, delivery: DeliveryId) -> Outcome<()> {
    let (code, noun) = (Code::ResourceNotFound, "delivery");
    let loaded = unit::owned::<Delivery>(app, context.actor.workspace, delivery.0, code, noun).await?;
    if loaded.state.webhook != id {
        return Err(Rejection::not_found(code, noun).into());
    }
    let command = |_: &Delivery| Ok(DeliveryCommand::Resend { now: app.now() });
    Ok(change(app, context, (delivery.0, code, noun), None, command).await?.map(|_| ()))
}

/// Schedules a delivery; with `start`, its first attempt begins in the same append. `None`: it was scheduled before.
pub async fn schedule_delivery(
    app: &App,
    context: &Context,
    delivery: DeliveryId,
    schedule: DeliveryCommand,
    start: Option<DeliveryCommand>,
) -> Result<Option<Delivery>, Failure> {
    // The place behind nothing is free once only: there is no need to look first.
    let mut loaded = fresh::<Delivery>(delivery.0);
    let mut unit = Unit::new(app, context).await?;
    unit.stage(&mut loaded, schedule)?;
    if let Some(start) = start {
        unit.stage(&mut loaded, start)?;
    }
    match unit.commit(()).await {
        Ok(_) => Ok(Some(loaded.state)),
        Err(failure) if failure.is_conflict() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// What the dispatcher records of a delivery. Gives the state after it.
pub async fn record_delivery(
    app: &App,
    context: &Context,
    delivery: DeliveryId,
    command: impl Fn() -> DeliveryCommand,
) -> Result<(Delivery, bool), Failure> {
    for _ in 0..8 {
        let mut loaded = app.store().load::<Delivery>(delivery.0).await?;
        let mut unit = Unit::new(app, context).await?;
        let events = unit.stage(&mut loaded, command())?;
        match unit.commit(()).await {
            Err(failure) if failure.is_conflict() => continue,
            Err(failure) => return Err(failure),
            Ok(_) => return Ok((loaded.state, !events.is_empty())),
        }
    }
    Err(Failure::Unavailable("a delivery is changed all the time".into()))
}

/// A receiver that answers 410 wants nothing more.
pub async fn disable(app: &App, context: &Context, id: WebhookId, reason: &str) -> Result<(), Failure> {
    let command = |_: &Webhook| Ok(WebhookCommand::Disable { reason: reason.to_owned() });
    change(app, context, target(id), None, command).await.map(|_| ())
}

fn generate() -> SecretString {
    let mut bytes = [0u8; 32];
    rand::fill(&mut bytes[..]);
    format!("whsec_{}", STANDARD.encode(bytes)).into()
}

fn checked(secret: SecretString) -> Result<SecretString, Failure> {
    let bytes = secret.expose_secret().strip_prefix("whsec_").and_then(|t| STANDARD.decode(t).ok());
    match bytes {
        Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(secret),
        _ => Err(Rejection::field("secret", "must be \"whsec_\" followed by 24 to 64 bytes in base64").into()),
    }
}
