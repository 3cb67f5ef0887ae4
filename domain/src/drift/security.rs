//! How an operation is authorised, in two versions of its document.

use super::Found;
use crate::operation::{Operation, SecurityRequirement, SecurityScheme, SpecSummary};

const PLACE: &str = "authorisation";

/// The operation's own requirements, else the document's; one of them must be met.
fn wanted<'a>(operation: &'a Operation, spec: &'a SpecSummary) -> &'a [SecurityRequirement] {
    operation.security.as_deref().unwrap_or(&spec.security)
}

pub(super) fn compare(
    (old, old_spec): (&Operation, &SpecSummary),
    (new, new_spec): (&Operation, &SpecSummary),
    found: &mut Found<'_>,
) {
    let (before, now) = (wanted(old, old_spec), wanted(new, new_spec));
    match (before.is_empty(), now.is_empty()) {
        (true, true) => return,
        (true, false) => return found.breaks(PLACE, format!("is now required: {}", names(now))),
        (false, true) => return found.notes(PLACE, "is no longer required"),
        (false, false) => {}
    }
    for requirement in before {
        let scheme = &requirement.scheme;
        let Some(kept) = now.iter().find(|n| n.scheme == *scheme) else {
            found.breaks(PLACE, format!("by `{scheme}` is no longer accepted; it wants {}", names(now)));
            continue;
        };
        let more: Vec<String> =
            kept.scopes.iter().filter(|s| !requirement.scopes.contains(s)).map(|s| format!("`{s}`")).collect();
        if !more.is_empty() {
            found.breaks(PLACE, format!("by `{scheme}` now needs the scopes {}", more.join(", ")));
        }
        let of = |spec: &'_ SpecSummary| spec.security_schemes.iter().find(|s| s.name == *scheme).map(words);
        if let (Some(was), Some(is)) = (of(old_spec), of(new_spec))
            && was != is
        {
            found.breaks(PLACE, format!("by `{scheme}` is no longer {was} but {is}"));
        }
    }
    for requirement in now.iter().filter(|n| before.iter().all(|b| b.scheme != n.scheme)) {
        found.notes(PLACE, format!("by `{}` is now accepted too", requirement.scheme));
    }
}

fn names(requirements: &[SecurityRequirement]) -> String {
    let names: Vec<String> = requirements.iter().map(|r| format!("`{}`", r.scheme)).collect();
    names.join(" or ")
}

/// What a caller must send.
fn words(scheme: &SecurityScheme) -> String {
    let place = scheme.location.map(|l| format!(" in {}", format!("{l:?}").to_lowercase())).unwrap_or_default();
    let name = scheme.parameter_name.as_ref().map(|n| format!(" `{n}`")).unwrap_or_default();
    let kind = scheme.scheme.as_ref().map(|s| format!(" {}", s.to_lowercase())).unwrap_or_default();
    format!("{}{kind}{place}{name}", scheme.kind)
}
