//! How an operation is authorised, in two versions of its document.

use super::Found;
use crate::operation::{Operation, SecurityRequirement, SecurityScheme, SpecSummary};

const PLACE: &str = "authorisation";

/// The operation's own requirements, else the document's; one of them must be met.
fn wanted<'a>(operation: &'a Operation, spec: &'a SpecSummary) -> &'a [SecurityRequirement] {
    operation.security.as_deref().unwrap_or(&spec.security)
}

/// May a call go without a credential?
fn is_open(ways: &[SecurityRequirement]) -> bool {
    ways.is_empty() || ways.iter().any(SecurityRequirement::is_anonymous)
}

pub(super) fn compare(
    (old, old_spec): (&Operation, &SpecSummary),
    (new, new_spec): (&Operation, &SpecSummary),
    found: &mut Found<'_>,
) {
    let (before, now) = (wanted(old, old_spec), wanted(new, new_spec));
    match (is_open(before), is_open(now)) {
        (true, false) => found.breaks(PLACE, format!("is now required: {}", names(now))),
        (false, true) => found.notes(PLACE, "is no longer required"),
        _ => {}
    }
    if now.is_empty() {
        return;
    }
    for way in before.iter().filter(|way| !way.is_anonymous()) {
        let Some(kept) = now.iter().find(|n| schemes(n) == schemes(way)) else {
            let other =
                if is_open(now) { "a call goes without".to_owned() } else { format!("it wants {}", names(now)) };
            found.add(!is_open(now), PLACE, format!("by {} is no longer accepted; {other}", name(way)));
            continue;
        };
        for (was, is) in parts(way).iter().zip(parts(kept)) {
            let more: Vec<String> =
                is.scopes.iter().filter(|s| !was.scopes.contains(s)).map(|s| format!("`{s}`")).collect();
            if !more.is_empty() {
                found.breaks(PLACE, format!("by `{}` now needs the scopes {}", was.scheme, more.join(", ")));
            }
            let of = |spec: &SpecSummary| spec.security_schemes.iter().find(|s| s.name == was.scheme).map(words);
            if let (Some(old), Some(new)) = (of(old_spec), of(new_spec))
                && old != new
            {
                found.breaks(PLACE, format!("by `{}` is no longer {old} but {new}", was.scheme));
            }
        }
    }
    if before.is_empty() {
        return;
    }
    for way in now.iter().filter(|n| !n.is_anonymous() && before.iter().all(|b| schemes(b) != schemes(n))) {
        found.notes(PLACE, format!("by {} is now accepted too", name(way)));
    }
}

/// What is needed together, in one order.
fn parts(way: &SecurityRequirement) -> Vec<&SecurityRequirement> {
    let mut parts: Vec<_> = std::iter::once(way).chain(&way.with).filter(|p| !p.scheme.is_empty()).collect();
    parts.sort_by(|a, b| a.scheme.cmp(&b.scheme));
    parts
}

fn schemes(way: &SecurityRequirement) -> Vec<&str> {
    parts(way).iter().map(|part| part.scheme.as_str()).collect()
}

fn name(way: &SecurityRequirement) -> String {
    let names: Vec<String> = schemes(way).iter().map(|scheme| format!("`{scheme}`")).collect();
    names.join(" and ")
}

fn names(ways: &[SecurityRequirement]) -> String {
    let names: Vec<String> = ways.iter().filter(|way| !way.is_anonymous()).map(name).collect();
    names.join(" or ")
}

/// What a caller must send.
fn words(scheme: &SecurityScheme) -> String {
    let place = scheme.location.map(|l| format!(" in {}", format!("{l:?}").to_lowercase())).unwrap_or_default();
    let name = scheme.parameter_name.as_ref().map(|n| format!(" `{n}`")).unwrap_or_default();
    let kind = scheme.scheme.as_ref().map(|s| format!(" {}", s.to_lowercase())).unwrap_or_default();
    format!("{}{kind}{place}{name}", scheme.kind)
}
