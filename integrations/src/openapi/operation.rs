//! One operation: its own words, what its path item says for all methods, and what the document says for all.

use domain::operation::{Operation, SecurityScheme, SpecSummary};

use super::context::{Context, LONG, MAX_NAME, SHORT};
use super::tape::{Id, ROOT};
use super::{body, parameter, security, server};

const MAX_TAGS: usize = 30;

/// Where an operation stands.
pub struct Site<'d> {
    pub method: &'d str,
    pub path: &'d str,
    pub place: Id,
    /// The path item around it.
    pub item: Id,
}

/// What the document says for all operations.
pub struct Defaults<'d> {
    servers: Vec<String>,
    schemes: Vec<SecurityScheme>,
    /// 2.0: media types where an operation names none.
    pub consumes: Vec<&'d str>,
    pub produces: Vec<&'d str>,
}

impl<'d> Defaults<'d> {
    pub fn new(ctx: &Context<'d, '_>, summary: &SpecSummary) -> Self {
        Defaults {
            servers: summary.servers.clone(),
            schemes: summary.security_schemes.clone(),
            consumes: body::media_types(ctx, ROOT, "consumes").unwrap_or_default(),
            produces: body::media_types(ctx, ROOT, "produces").unwrap_or_default(),
        }
    }
}

pub fn read<'d>(ctx: &Context<'d, '_>, site: &Site<'d>, defaults: &Defaults<'d>) -> Operation {
    ctx.charge(400 + site.path.len());
    // An operation that refers elsewhere is kept, bare, even when the reference leads nowhere.
    let resolved = ctx.refs.follow(site.place);
    let node = resolved.unwrap_or(site.place);
    let inputs = parameter::read(ctx, site, node, resolved.is_some());
    let request_body = if ctx.v2 {
        body::request_v2(ctx, &inputs, node, defaults)
    } else {
        ctx.part(node, "requestBody").and_then(|at| body::request(ctx, at))
    };
    let own_servers = server::of_operation(ctx, node, site.item);
    let security = ctx.part(node, "security").filter(|v| ctx.doc.kind(*v) == super::tape::Kind::Array);
    Operation {
        method: site.method.to_ascii_uppercase(),
        path: site.path.to_string(),
        operation_id: ctx.clipped(node, "operationId", MAX_NAME),
        summary: ctx.clipped(node, "summary", SHORT),
        description: ctx.clipped(node, "description", LONG),
        tags: tags(ctx, node),
        deprecated: ctx.flag(node, "deprecated"),
        parameters: inputs.parameters,
        request_body,
        responses: resolved.map(|node| body::responses(ctx, node, defaults)).unwrap_or_default(),
        servers: if own_servers == defaults.servers { Vec::new() } else { own_servers },
        security: security.map(|list| security::requirements(ctx, list, &defaults.schemes)),
    }
}

fn tags(ctx: &Context<'_, '_>, node: Id) -> Vec<String> {
    let Some(list) = ctx.part(node, "tags") else { return Vec::new() };
    ctx.doc.items(list).take(MAX_TAGS).filter_map(|v| ctx.doc.scalar(v)).map(|t| ctx.keep(t, SHORT)).collect()
}
