//! Request bodies and responses, of 3.x (`content`) and 2.0 (`body` and `formData` parameters, `consumes`, `produces`).

use domain::operation::{Property, RequestBody, Response, Schema};

use super::context::{Context, MAX_NAME, SHORT};
use super::operation::Defaults;
use super::parameter::{self, Inputs};
use super::schema::{self, BRIEF, FULL, Size};
use super::tape::Id;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";
const MAX_RESPONSES: usize = 100;
const MAX_MEDIA_TYPES: usize = 50;

/// A 3.x request body; `None` with a warning where it says nothing.
pub fn request(ctx: &Context<'_, '_>, at: Id) -> Option<RequestBody> {
    let media = ctx.part(at, "content").and_then(|content| choose_media(ctx, content));
    let Some((content_type, media)) = media else {
        ctx.warn(at, "a request body needs `content`: it is left out");
        return None;
    };
    let schema = media_schema(ctx, media, FULL).unwrap_or_default();
    Some(RequestBody { required: ctx.flag(at, "required"), content_type, schema })
}

/// A 2.0 request body, from the parameters with `in: body` or `in: formData`.
pub fn request_v2<'d>(
    ctx: &Context<'d, '_>,
    inputs: &Inputs<'d>,
    node: Id,
    defaults: &Defaults<'d>,
) -> Option<RequestBody> {
    let consumes = media_types(ctx, node, "consumes").unwrap_or_else(|| defaults.consumes.clone());
    if let Some(at) = inputs.body {
        let schema = ctx.doc.get(at, "schema").map(|s| schema::summarise(ctx, s, FULL)).unwrap_or_default();
        return Some(RequestBody { required: ctx.flag(at, "required"), content_type: preferred(&consumes), schema });
    }
    if inputs.form.is_empty() {
        return None;
    }
    let mut upload = false;
    let mut properties = Vec::with_capacity(inputs.form.len());
    for (name, at) in &inputs.form {
        upload |= ctx.text(*at, "type") == Some("file");
        let schema = schema::summarise(ctx, *at, BRIEF);
        let (name, required) = (ctx.keep(name, MAX_NAME), ctx.flag(*at, "required"));
        properties.push(Property { name, required, read_only: false, schema });
    }
    let content_type = match consumes.iter().find(|t| t.starts_with(FORM) || t.starts_with(MULTIPART)) {
        _ if upload => MULTIPART,
        Some(named) => named,
        None => FORM,
    };
    let required = properties.iter().any(|p| p.required);
    let schema = Schema { kind: "object".to_string(), properties, ..Schema::default() };
    Some(RequestBody { required, content_type: ctx.keep(content_type, SHORT), schema })
}

/// All responses in document order.
pub fn responses(ctx: &Context<'_, '_>, node: Id, defaults: &Defaults<'_>) -> Vec<Response> {
    let Some(list) = ctx.part(node, "responses").filter(|v| ctx.doc.is_object(*v)) else {
        ctx.warn(node, "the operation has no `responses`");
        return Vec::new();
    };
    let mut found = Vec::new();
    for (status, at) in ctx.unique_members(list) {
        let Some(status) = normal_status(status) else {
            ctx.warn(at, "a response needs a status like 200, 2XX or default: it is left out");
            continue;
        };
        if found.len() >= MAX_RESPONSES || ctx.exhausted() {
            ctx.warn(list, format!("more than {MAX_RESPONSES} responses: the rest is left out"));
            break;
        }
        found.push(response(ctx, status, at, node, defaults));
    }
    if found.is_empty() {
        ctx.warn(list, "the operation has no `responses`");
    }
    found.shrink_to_fit();
    found
}

fn response(ctx: &Context<'_, '_>, status: String, at: Id, node: Id, defaults: &Defaults<'_>) -> Response {
    ctx.charge(150);
    let size = if status.starts_with('2') || status == "default" { FULL } else { BRIEF };
    let Some(at) = ctx.refs.follow(at) else {
        return Response { status, description: None, content_type: None, schema: None };
    };
    let description = ctx.clipped(at, "description", SHORT);
    if !ctx.v2 {
        let media = ctx.part(at, "content").and_then(|content| choose_media(ctx, content));
        let schema = media.as_ref().and_then(|(_, media)| media_schema(ctx, *media, size));
        return Response { status, description, content_type: media.map(|(name, _)| name), schema };
    }
    let mut schema = ctx.doc.get(at, "schema").map(|s| schema::summarise(ctx, s, size));
    let produces = media_types(ctx, node, "produces").unwrap_or_else(|| defaults.produces.clone());
    let content_type = schema.is_some().then(|| preferred(&produces));
    if let Some(schema) = schema.as_mut().filter(|s| s.example.is_none()) {
        let example = ctx.part(at, "examples").and_then(|e| ctx.doc.members(e).next());
        schema.example = example.and_then(|(_, v)| schema::example_value(ctx, v));
    }
    Response { status, description, content_type, schema }
}

/// `200`, `2XX`, `default`; `None` for anything else.
fn normal_status(text: &str) -> Option<String> {
    if text == "default" {
        return Some(text.to_string());
    }
    let status = text.to_ascii_uppercase();
    let shape = status.as_bytes();
    let digits = |b: &[u8]| b.iter().all(u8::is_ascii_digit) || b == b"XX";
    (shape.len() == 3 && (b'1'..=b'5').contains(&shape[0]) && digits(&shape[1..])).then_some(status)
}

fn media_schema(ctx: &Context<'_, '_>, media: Id, size: Size) -> Option<Schema> {
    let mut schema = schema::summarise(ctx, ctx.doc.get(media, "schema")?, size);
    if schema.example.is_none() {
        schema.example = parameter::example(ctx, media).and_then(|v| schema::example_value(ctx, v));
    }
    Some(schema)
}

/// The media type to speak and its place: JSON where offered, else the first.
fn choose_media(ctx: &Context<'_, '_>, content: Id) -> Option<(String, Id)> {
    let offered: Vec<(&str, Id)> = ctx.doc.members(content).take(MAX_MEDIA_TYPES).collect();
    let names: Vec<&str> = offered.iter().map(|(name, _)| *name).collect();
    let (name, at) = offered.get(preferred_index(&names)?)?;
    Some((concrete(name), *at))
}

/// Of the names in a 2.0 list the one to speak; JSON where there are none.
fn preferred(names: &[&str]) -> String {
    preferred_index(names).map_or_else(|| JSON.to_string(), |i| concrete(names[i]))
}

fn preferred_index(names: &[&str]) -> Option<usize> {
    let essence = |name: &str| name.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let by = |test: &dyn Fn(&str) -> bool| names.iter().position(|name| test(&essence(name)));
    by(&|n| n == JSON)
        .or_else(|| by(&|n| n.ends_with("+json") || n.ends_with("/json")))
        .or_else(|| by(&|n| n == "*/*" || n == "application/*"))
        .or(if names.is_empty() { None } else { Some(0) })
}

/// A range of media types cannot be sent: JSON is in each that we meet.
fn concrete(name: &str) -> String {
    if matches!(name, "*/*" | "application/*") { JSON.to_string() } else { super::context::clip(name, SHORT) }
}

/// A 2.0 list of media types, `None` where the member is missing.
pub fn media_types<'d>(ctx: &Context<'d, '_>, owner: Id, key: &str) -> Option<Vec<&'d str>> {
    let doc = ctx.doc;
    let list = doc.get(owner, key)?;
    Some(doc.items(list).take(MAX_MEDIA_TYPES).filter_map(|v| doc.string(v)).collect())
}
