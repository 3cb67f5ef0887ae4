//! The document as a whole: is it OpenAPI at all, its head, and the walk over its paths.

use std::collections::HashSet;
use std::time::Instant;

use domain::operation::{Operation, SpecSummary};

use super::context::{Context, LONG, SHORT, clip};
use super::index::Index;
use super::refs::Files;
use super::tape::{Doc, Id, Kind, ROOT};
use super::{IngestError, Limits, operation, security, server};

/// Methods of OpenAPI 3.1 and before.
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];

/// Longer paths are nobody's.
const MAX_PATH: usize = 4_000;

/// `until`: when reading must have ended.
pub fn read(
    doc: &Doc<'_>,
    index: &Index,
    files: &Files,
    limits: &Limits,
    until: Instant,
) -> Result<SpecSummary, IngestError> {
    let (spec_version, v2) = version(doc)?;
    let ctx = Context::new(doc, (index, files), limits, v2, until);
    let mut summary = SpecSummary { spec_version, ..SpecSummary::default() };
    head(&ctx, &mut summary);
    summary.servers = server::of_document(&ctx);
    summary.security_schemes = security::schemes(&ctx);
    if let Some(list) = ctx.part(ROOT, "security") {
        summary.security = security::requirements(&ctx, list, &summary.security_schemes);
    }
    match doc.get(ROOT, "paths") {
        Some(paths) if doc.is_object(paths) => read_paths(&ctx, paths, &mut summary)?,
        Some(paths) if doc.kind(paths) == Kind::Null => {}
        Some(paths) => ctx.warn(paths, "`paths` must be an object"),
        None if doc.get(ROOT, "webhooks").is_none() => ctx.warn(ROOT, "the document has no `paths`"),
        None => {}
    }
    summary.webhook_count = count_webhooks(&ctx)?;
    check_operation_ids(&ctx, &summary.operations);
    summary.warnings = ctx.into_warnings();
    Ok(summary)
}

/// The version as written and whether it is 2.0; refuses what is no OpenAPI document.
pub fn version(doc: &Doc<'_>) -> Result<(String, bool), IngestError> {
    if !doc.is_object(ROOT) {
        let what = match doc.kind(ROOT) {
            Kind::Array => "an array",
            Kind::String => "plain text",
            _ => "a single value",
        };
        let message = format!("an OpenAPI document is an object, this is {what}");
        return Err(IngestError::invalid("", message));
    }
    let refuse = |key: &str, message: String| Err(IngestError::invalid(format!("/{key}"), message));
    for (key, v2) in [("openapi", false), ("swagger", true)] {
        let Some(value) = doc.get(ROOT, key) else { continue };
        let Some(version) = doc.scalar(value).map(|v| clip(v, 20)) else {
            return refuse(key, format!("`{key}` must be a version"));
        };
        // 2.0 is sometimes written as a number, and `2`.
        let known = if v2 { version == "2" || version.starts_with("2.") } else { version.starts_with('3') };
        if !known {
            return refuse(key, format!("version {version} is not supported: 2.0 and 3.0 to 3.2 are"));
        }
        return Ok((version, v2));
    }
    let other = [("arazzo", "Arazzo"), ("asyncapi", "AsyncAPI"), ("swaggerVersion", "Swagger 1.x")];
    if let Some((key, name)) = other.into_iter().find(|(key, _)| doc.get(ROOT, key).is_some()) {
        return refuse(key, format!("this is an {name} document, not an OpenAPI document"));
    }
    let message = "this is no OpenAPI document: neither `openapi` nor `swagger` tells a version";
    Err(IngestError::invalid("", message))
}

fn head(ctx: &Context<'_, '_>, summary: &mut SpecSummary) {
    let Some(info) = ctx.part(ROOT, "info").filter(|v| ctx.doc.is_object(*v)) else {
        ctx.warn(ROOT, "the document has no `info`");
        return;
    };
    summary.title = ctx.clipped(info, "title", SHORT).unwrap_or_default();
    summary.version = ctx.clipped(info, "version", SHORT).unwrap_or_default();
    summary.description = ctx.clipped(info, "description", LONG);
    for (key, value) in [("title", &summary.title), ("version", &summary.version)] {
        if value.is_empty() {
            ctx.warn(info, format!("`info` has no `{key}`"));
        }
    }
}

fn read_paths(ctx: &Context<'_, '_>, paths: Id, summary: &mut SpecSummary) -> Result<(), IngestError> {
    let shared = operation::Defaults::new(ctx, summary);
    for (path, value) in path_items(ctx, paths) {
        if !ctx.doc.is_object(value) {
            ctx.warn(value, "a path item must be an object");
            continue;
        }
        if !path.starts_with('/') {
            ctx.warn(value, "a path must begin with `/`");
        }
        if path.len() > MAX_PATH {
            ctx.warn(value, format!("the path has more than {MAX_PATH} bytes: it is left out"));
            continue;
        }
        for (method, place, item) in methods(ctx, value) {
            if summary.operations.len() >= ctx.limits.max_operations {
                let message = format!("the document has more than {} operations", ctx.limits.max_operations);
                return Err(IngestError::invalid(ctx.doc.pointer(value), message));
            }
            let site = operation::Site { method, path, place, item };
            summary.operations.push(operation::read(ctx, &site, &shared));
            check_budget(ctx, place)?;
        }
        check_budget(ctx, value)?;
    }
    Ok(())
}

/// The members of `paths`, and of the object that it refers to; what stands beside the `$ref` comes first.
fn path_items<'d>(ctx: &Context<'d, '_>, paths: Id) -> Vec<(&'d str, Id)> {
    let mut found = ctx.unique_members(paths);
    let Some(target) = ctx.refs.reference(paths).and_then(|_| ctx.refs.follow(paths)) else { return found };
    found.retain(|(path, _)| *path != "$ref");
    let own: HashSet<&str> = found.iter().map(|(path, _)| *path).collect();
    found.extend(ctx.unique_members(target).into_iter().filter(|(path, _)| !own.contains(path)));
    found
}

fn check_budget(ctx: &Context<'_, '_>, at: Id) -> Result<(), IngestError> {
    if !ctx.exhausted() {
        return Ok(());
    }
    if ctx.late() {
        let message = format!("reading the document takes longer than {} s", ctx.limits.max_time.as_secs());
        return Err(IngestError::invalid(ctx.doc.pointer(at), message));
    }
    let mib = ctx.limits.max_summary_bytes >> 20;
    let message = format!("references shared too often: up to here the document unfolds to more than {mib} MiB");
    Err(IngestError::invalid(ctx.doc.pointer(at), message))
}

/// The operations of a path item in document order: method, operation, and the item it stands in. A path item may
/// refer to another one; what stands beside the `$ref` comes first.
fn methods<'d>(ctx: &Context<'d, '_>, item: Id) -> Vec<(&'d str, Id, Id)> {
    let target = ctx.refs.reference(item).and_then(|_| ctx.refs.follow(item));
    let mut found: Vec<(&str, Id, Id)> = Vec::new();
    for owner in [Some(item), target].into_iter().flatten() {
        for (key, value) in ctx.unique_members(owner) {
            if matches!(key, "query" | "additionalOperations") && ctx.doc.is_object(value) {
                ctx.warn(value, format!("`{key}` is of OpenAPI 3.2, which is read as 3.1: it is left out"));
            }
            if !METHODS.contains(&key) || found.iter().any(|(method, ..)| *method == key) {
                continue;
            }
            if ctx.doc.is_object(value) {
                found.push((key, value, owner));
            } else {
                ctx.warn(value, "an operation must be an object");
            }
        }
    }
    found
}

fn count_webhooks(ctx: &Context<'_, '_>) -> Result<usize, IngestError> {
    let Some(webhooks) = ctx.part(ROOT, "webhooks") else { return Ok(0) };
    let mut count = 0;
    for (_, item) in ctx.unique_members(webhooks) {
        count += methods(ctx, item).len();
        check_budget(ctx, item)?;
    }
    Ok(count)
}

fn check_operation_ids(ctx: &Context<'_, '_>, operations: &[Operation]) {
    let mut seen = HashSet::new();
    for operation in operations {
        let Some(id) = operation.operation_id.as_deref() else { continue };
        if seen.insert(id) {
            continue;
        }
        let item = |paths: Id| ctx.doc.get(paths, &operation.path);
        let place = ctx
            .doc
            .get(ROOT, "paths")
            .and_then(|paths| item(paths).or_else(|| item(ctx.refs.follow(paths)?)))
            .and_then(|item| ctx.part_of_item(item, &operation.method.to_ascii_lowercase()))
            .unwrap_or(ROOT);
        ctx.warn(place, format!("the operationId `{id}` is used twice"));
    }
}
