//! Where an API lives: `servers` with their variables (3.x), `schemes` + `host` + `basePath` (2.0).

use super::context::Context;
use super::tape::{Id, ROOT};

const MAX_SERVERS: usize = 50;
const MAX_URL: usize = 2_000;

/// The document's servers; empty where it names none: then its own URL counts.
pub fn of_document(ctx: &Context<'_, '_>) -> Vec<String> {
    if ctx.v2 {
        return of_schemes(ctx, ctx.doc.get(ROOT, "schemes"));
    }
    ctx.part(ROOT, "servers").map(|list| of_list(ctx, list)).unwrap_or_default()
}

/// The operation's own servers, else its path item's; empty where neither names any.
pub fn of_operation(ctx: &Context<'_, '_>, node: Id, item: Id) -> Vec<String> {
    if ctx.v2 {
        return ctx.doc.get(node, "schemes").map(|schemes| of_schemes(ctx, Some(schemes))).unwrap_or_default();
    }
    let own = [node, item].into_iter().filter_map(|owner| ctx.part(owner, "servers"));
    own.map(|list| of_list(ctx, list)).find(|urls| !urls.is_empty()).unwrap_or_default()
}

fn of_list(ctx: &Context<'_, '_>, list: Id) -> Vec<String> {
    ctx.doc.items(list).take(MAX_SERVERS).filter_map(|server| url(ctx, server)).collect()
}

fn url(ctx: &Context<'_, '_>, server: Id) -> Option<String> {
    let Some(template) = ctx.text(server, "url").filter(|u| u.len() <= MAX_URL) else {
        ctx.warn(server, "a server needs a `url`: it is left out");
        return None;
    };
    let mut url = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else { break };
        url.push_str(before);
        match default_of(ctx, server, name) {
            Some(value) if url.len() + value.len() <= MAX_URL => url.push_str(value),
            _ => {
                ctx.warn(server, format!("the server variable `{name}` has no default"));
                url.push_str(&format!("{{{name}}}"));
            }
        }
        rest = tail;
    }
    url.push_str(rest);
    ctx.charge(url.len());
    Some(url)
}

/// The variable's default, else the first of its choices. An empty default is one, too.
fn default_of<'d>(ctx: &Context<'d, '_>, server: Id, name: &str) -> Option<&'d str> {
    let doc = ctx.doc;
    let variable = doc.get(doc.get(server, "variables")?, name)?;
    let first = || doc.get(variable, "enum").and_then(|list| doc.items(list).next());
    doc.get(variable, "default").or_else(first).and_then(|v| doc.scalar(v))
}

/// 2.0: one URL for each scheme that is HTTP, the encrypted first. Without a host the document's own counts.
fn of_schemes(ctx: &Context<'_, '_>, schemes: Option<Id>) -> Vec<String> {
    let base = ctx.text(ROOT, "basePath").filter(|b| b.len() <= MAX_URL).unwrap_or_default();
    let base = if base.is_empty() || base.starts_with('/') { base.to_string() } else { format!("/{base}") };
    let Some(host) = ctx.text(ROOT, "host").filter(|h| h.len() <= MAX_URL) else {
        return if base.is_empty() { Vec::new() } else { vec![base] };
    };
    let named: Vec<&str> = match schemes {
        Some(list) => ctx.doc.items(list).take(MAX_SERVERS).filter_map(|v| ctx.doc.string(v)).collect(),
        None => Vec::new(),
    };
    let mut used: Vec<&str> = ["https", "http"].into_iter().filter(|s| named.contains(s)).collect();
    if used.is_empty() {
        used.push("https");
    }
    used.into_iter().map(|scheme| format!("{scheme}://{host}{base}")).collect()
}
