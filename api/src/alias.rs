//! Other spellings of routes, as older documents have them: rewritten before routing.

use poem::{Request, http::Uri};

use crate::routes::ALIASES;

/// Gives a request that uses an alias the path that is meant; others stay as they are.
pub fn rewrite(mut request: Request) -> Request {
    let path = request.uri().path();
    let Some(base) = ["/api/v1", "/api"].into_iter().find(|base| path.starts_with(&format!("{base}/"))) else {
        return request;
    };
    let Some(meant) = meant(request.method().as_str(), &path[base.len()..]) else { return request };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(uri) = format!("{base}{meant}{query}").parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    request
}

fn meant(method: &str, path: &str) -> Option<String> {
    ALIASES.iter().filter(|(known, ..)| *known == method).find_map(|(_, pattern, target)| {
        let id = matched(pattern, path)?;
        Some(target.replace("{id}", id))
    })
}

/// What stands for `{id}`; empty for a pattern without one.
fn matched<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = pattern.split_once("{id}") else { return (pattern == path).then_some("") };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

#[cfg(test)]
mod tests {
    use poem::http::Method;

    use super::*;

    #[test]
    fn aliases_lead_to_what_is_meant() {
        let of = |method: Method, uri: &'static str| {
            rewrite(Request::builder().method(method).uri_str(uri).finish()).uri().to_string()
        };
        assert_eq!(of(Method::GET, "/api/v1/auth/session"), "/api/v1/auth/me");
        assert_eq!(of(Method::POST, "/api/webhooks/outgoing?a=1"), "/api/webhooks?a=1");
        assert_eq!(of(Method::POST, "/api/v1/executions/exec_1"), "/api/v1/executions/exec_1/cancel");
        assert_eq!(of(Method::GET, "/api/v1/executions/exec_1"), "/api/v1/executions/exec_1");
        assert_eq!(of(Method::POST, "/api/workflows/executions/exec_1/cancel"), "/api/executions/exec_1/cancel");
        assert_eq!(of(Method::GET, "/docs"), "/docs");
    }
}
