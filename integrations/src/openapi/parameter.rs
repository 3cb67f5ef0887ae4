//! Parameters of an operation: the path item's and its own, and those that only the path template knows.

use domain::operation::{Parameter, ParameterLocation, Schema};

use super::context::{Context, MAX_NAME, SHORT};
use super::operation::Site;
use super::schema::{self, BRIEF};
use super::tape::Id;

const MAX_PARAMETERS: usize = 500;

/// What an operation takes. In 2.0 the body is a parameter too; `body` hands those on.
#[derive(Default)]
pub struct Inputs<'d> {
    pub parameters: Vec<Parameter>,
    /// 2.0: the parameter with `in: body`.
    pub body: Option<Id>,
    /// 2.0: parameters with `in: formData`.
    pub form: Vec<(&'d str, Id)>,
}

/// A declared parameter: name, `in`, place.
type Declared<'d> = (&'d str, &'d str, Id);

/// `complete`: the operation is all there, so that what it does not declare is worth a warning.
pub fn read<'d>(ctx: &Context<'d, '_>, site: &Site<'d>, node: Id, complete: bool) -> Inputs<'d> {
    let mut inputs = Inputs::default();
    let template = template_names(site.path);
    for (name, location, id) in declared(ctx, site, node) {
        let location = match location {
            "path" if !template.contains(&name) => {
                ctx.warn(id, format!("the path has no `{{{name}}}`: the parameter is left out"));
                continue;
            }
            "path" => ParameterLocation::Path,
            "query" | "querystring" => ParameterLocation::Query,
            "header" if !ctx.v2 && is_reserved_header(name) => continue,
            "header" => ParameterLocation::Header,
            "cookie" => ParameterLocation::Cookie,
            "body" if ctx.v2 => {
                inputs.body = Some(id);
                continue;
            }
            "formData" if ctx.v2 => {
                inputs.form.push((name, id));
                continue;
            }
            other => {
                let other = ctx.keep(other, 40);
                ctx.warn(id, format!("a parameter cannot be in `{other}`: it is left out"));
                continue;
            }
        };
        inputs.parameters.push(parameter(ctx, name, location, id));
        if ctx.exhausted() {
            break;
        }
    }
    for name in add_undeclared(ctx, &template, &mut inputs.parameters) {
        if complete {
            ctx.warn(site.place, format!("the path parameter `{name}` is not declared: taken as a string"));
        }
    }
    inputs
}

/// The path item's parameters with the operation's over them: same name and place is the same parameter.
fn declared<'d>(ctx: &Context<'d, '_>, site: &Site<'d>, node: Id) -> Vec<Declared<'d>> {
    let mut found: Vec<Declared<'d>> = Vec::new();
    for list in [site.item, node].into_iter().filter_map(|owner| ctx.part(owner, "parameters")) {
        for entry in ctx.doc.items(list) {
            ctx.charge(32 + found.len());
            if ctx.exhausted() {
                return found;
            }
            let Some(id) = ctx.refs.follow(entry) else { continue };
            let location = ctx.text(id, "in").unwrap_or_default();
            let name = match ctx.text(id, "name") {
                Some(name) if name.len() <= MAX_NAME => name,
                // The name of a 2.0 body means nothing.
                None if ctx.v2 && location == "body" => "body",
                _ => {
                    ctx.warn(entry, "a parameter needs a `name` and an `in`: it is left out");
                    continue;
                }
            };
            match found.iter().position(|(n, l, _)| *n == name && *l == location) {
                Some(known) => found[known].2 = id,
                None if found.len() < MAX_PARAMETERS => found.push((name, location, id)),
                None => {
                    ctx.warn(list, format!("more than {MAX_PARAMETERS} parameters: the rest is left out"));
                    return found;
                }
            }
        }
    }
    found
}

fn parameter(ctx: &Context<'_, '_>, name: &str, location: ParameterLocation, id: Id) -> Parameter {
    ctx.charge(150);
    let doc = ctx.doc;
    let content =
        || ctx.part(id, "content").and_then(|c| doc.members(c).next()).and_then(|(_, m)| doc.get(m, "schema"));
    // In 2.0 the parameter itself is the schema.
    let place = doc.get(id, "schema").or_else(content).or(ctx.v2.then_some(id));
    let mut schema = place.map(|at| schema::summarise(ctx, at, BRIEF)).unwrap_or_default();
    let description = ctx.clipped(id, "description", SHORT);
    if ctx.v2 || schema.description == description {
        schema.description = None;
    }
    if schema.example.is_none() {
        schema.example = example(ctx, id).and_then(|v| schema::example_value(ctx, v));
    }
    let required = location == ParameterLocation::Path || ctx.flag(id, "required");
    Parameter { name: ctx.keep(name, MAX_NAME), location, required, description, schema }
}

/// The `example` of a parameter or media type, or the first of its `examples`.
pub fn example(ctx: &Context<'_, '_>, id: Id) -> Option<Id> {
    let first = || {
        let examples = ctx.part(id, "examples")?;
        let (_, first) = ctx.doc.members(examples).next()?;
        ctx.doc.get(ctx.refs.follow(first)?, "value")
    };
    ctx.doc.get(id, "example").or_else(first)
}

/// OpenAPI 3 says that parameters of these names are to be ignored: security and media types speak for them.
fn is_reserved_header(name: &str) -> bool {
    ["accept", "content-type", "authorization"].iter().any(|h| name.eq_ignore_ascii_case(h))
}

/// The names between braces in a path template, each once.
pub fn template_names(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for part in path.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else { continue };
        if !name.is_empty() && name.len() <= MAX_NAME && !names.contains(&name) {
            names.push(name);
        }
        if names.len() == MAX_PARAMETERS {
            break;
        }
    }
    names
}

/// Adds what only the template knows, and tells the names.
fn add_undeclared<'d>(ctx: &Context<'_, '_>, template: &[&'d str], parameters: &mut Vec<Parameter>) -> Vec<&'d str> {
    let location = ParameterLocation::Path;
    let known = |all: &[Parameter], name: &str| all.iter().any(|p| p.location == location && p.name == name);
    let missing: Vec<&str> = template.iter().copied().filter(|name| !known(parameters, name)).collect();
    for name in &missing {
        let schema = Schema { kind: "string".to_string(), ..Schema::default() };
        let name = ctx.keep(name, MAX_NAME);
        parameters.push(Parameter { name, location, required: true, description: None, schema });
    }
    missing
}
