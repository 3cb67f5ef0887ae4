//! How a document wants to be authorised: schemes (3.x and 2.0) and the requirements that name them.

use domain::operation::{ParameterLocation, SecurityRequirement, SecurityScheme};

use super::context::{Context, MAX_NAME, SHORT};
use super::tape::Id;

const MAX_SCHEMES: usize = 200;
const MAX_REQUIREMENTS: usize = 50;
const MAX_SCOPES: usize = 100;

pub fn schemes(ctx: &Context<'_, '_>) -> Vec<SecurityScheme> {
    let path: &[&str] = if ctx.v2 { &["securityDefinitions"] } else { &["components", "securitySchemes"] };
    let Some(group) = ctx.at(path) else { return Vec::new() };
    let members = ctx.unique_members(group);
    members.into_iter().take(MAX_SCHEMES).filter_map(|(name, at)| scheme(ctx, name, at)).collect()
}

fn scheme(ctx: &Context<'_, '_>, name: &str, at: Id) -> Option<SecurityScheme> {
    let target = ctx.refs.follow(at)?;
    let Some(kind) = ctx.text(target, "type") else {
        ctx.warn(at, "a security scheme needs a `type`: it is left out");
        return None;
    };
    let mut scheme = SecurityScheme {
        name: ctx.keep(name, MAX_NAME),
        kind: ctx.keep(kind, 40),
        scheme: None,
        location: None,
        parameter_name: None,
        scopes: Vec::new(),
    };
    match kind {
        // 2.0 had a type of its own for it.
        "basic" => (scheme.kind, scheme.scheme) = ("http".to_string(), Some("basic".to_string())),
        "http" => {
            scheme.scheme = ctx.clipped(target, "scheme", 40).map(|s| s.to_ascii_lowercase());
            if scheme.scheme.is_none() {
                ctx.warn(at, "an `http` security scheme needs a `scheme`");
            }
        }
        "apiKey" => {
            scheme.location = ctx.text(target, "in").and_then(key_location);
            scheme.parameter_name = ctx.clipped(target, "name", MAX_NAME);
            if scheme.location.is_none() || scheme.parameter_name.is_none() {
                ctx.warn(at, "an `apiKey` security scheme needs a `name` and `in: header`, `query` or `cookie`");
            }
        }
        "oauth2" | "openIdConnect" | "mutualTLS" => {}
        _ => ctx.warn(at, "this `type` of security scheme is not known"),
    }
    Some(scheme)
}

fn key_location(text: &str) -> Option<ParameterLocation> {
    match text {
        "header" => Some(ParameterLocation::Header),
        "query" => Some(ParameterLocation::Query),
        "cookie" => Some(ParameterLocation::Cookie),
        _ => None,
    }
}

/// The ways of a list of requirements, in document order: any one alternative is enough, and each holds in `with` what
/// is needed together with its first scheme. The empty alternative (`{}`) has no scheme.
pub fn requirements(ctx: &Context<'_, '_>, list: Id, known: &[SecurityScheme]) -> Vec<SecurityRequirement> {
    let mut found: Vec<SecurityRequirement> = Vec::new();
    for alternative in ctx.doc.items(list).take(MAX_REQUIREMENTS) {
        if !ctx.doc.is_object(alternative) {
            ctx.warn(alternative, "a security requirement must be an object: it is left out");
            continue;
        }
        let room = MAX_REQUIREMENTS.saturating_sub(found.len());
        let mut together = together(ctx, alternative, known, room).into_iter();
        let none = SecurityRequirement { scheme: String::new(), scopes: Vec::new(), with: Vec::new() };
        let mut first = together.next().unwrap_or(none);
        first.with = together.collect();
        if !found.contains(&first) {
            found.push(first);
        }
    }
    found
}

/// The schemes that one alternative wants together, each once.
fn together(ctx: &Context<'_, '_>, alternative: Id, known: &[SecurityScheme], room: usize) -> Vec<SecurityRequirement> {
    let mut found: Vec<SecurityRequirement> = Vec::new();
    for (name, scopes) in ctx.doc.members(alternative).take(room) {
        if name.len() > MAX_NAME || found.iter().any(|r| r.scheme == name) {
            continue;
        }
        if !known.iter().any(|s| s.name == name) {
            ctx.warn(scopes, format!("there is no security scheme `{name}`"));
        }
        ctx.charge(64);
        let scopes = ctx.doc.items(scopes).take(MAX_SCOPES).filter_map(|v| ctx.doc.scalar(v));
        found.push(SecurityRequirement {
            scheme: ctx.keep(name, MAX_NAME),
            scopes: scopes.map(|s| ctx.keep(s, SHORT)).collect(),
            with: Vec::new(),
        });
    }
    found
}
