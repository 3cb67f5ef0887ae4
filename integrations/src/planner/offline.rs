//! The planner that needs no model: clauses, an operation for each, order by data, inputs, then the draft.

use super::{
    build::Builder,
    catalog::Catalog,
    choose::{self, Choice},
    clauses::{self, Clause},
    confidence::{Part, confidence},
    lexicon::Intent,
    matching::{LIKELY, SURE, literal_fit},
    retrieve::candidates,
    shape::{self, is_missing_without},
    sources,
    text::plain,
    types::{PlanDraft, PlanError, PlanRequest, Role},
};

/// Parts of a request that are planned; what is beyond is warned about.
const MAX_CLAUSES: usize = 20;
/// Candidates in the answer.
const SHOWN: usize = 10;

/// Plans a request from its words alone. Pure: the same catalog and request give the same draft.
///
/// # Errors
/// An empty or oversized request, a catalog without operations, a request that nothing connected serves.
pub fn plan_offline(catalog: &Catalog, request: &PlanRequest) -> Result<PlanDraft, PlanError> {
    request.checked()?;
    if catalog.is_empty() {
        return Err(PlanError::NoOperations);
    }
    let message = with_history(request);
    let mut parts = clauses::split(&message);
    let mut warnings = Vec::new();
    if parts.len() > MAX_CLAUSES {
        warnings.push(format!("The request has {} parts: the first {MAX_CLAUSES} are planned.", parts.len()));
        parts.truncate(MAX_CLAUSES);
    }
    carry_subjects(catalog, &mut parts);
    let mut choices: Vec<Option<Choice>> = Vec::new();
    for part in &parts {
        let before = choices.iter().rev().flatten().next().map(|c| c.doc);
        choices.push(choose::choose(catalog, part, &message, before));
    }
    let unserved: Vec<String> =
        parts.iter().zip(&choices).filter(|(_, c)| c.is_none()).map(|(p, _)| plain(&p.text, 120)).collect();
    if unserved.len() == parts.len() {
        return Err(PlanError::NothingFits { parts: unserved });
    }
    warnings
        .extend(unserved.iter().map(|p| format!("No connected operation fits \"{p}\": this part is not in the plan.")));
    Ok(draft(catalog, &message, &parts, &choices, warnings))
}

/// "also post it to Slack" goes on from what was asked before: both are planned as one request.
fn with_history(request: &PlanRequest) -> String {
    let message = request.message.trim();
    let lower = message.to_lowercase();
    let goes_on =
        ["also ", "and ", "then ", "additionally", "after that", "plus "].iter().any(|w| lower.starts_with(w));
    let earlier = request.previous.iter().rev().find(|m| m.role == Role::User && !m.content.trim().is_empty());
    match earlier.filter(|_| goes_on) {
        Some(earlier) => format!("{}. {message}", earlier.content.trim().trim_end_matches('.')),
        None => message.to_owned(),
    }
}

/// "Get all customers and send them …": a clause that does something "each" to no thing of its own keeps its text;
/// a clause of a bare verb ("…, update it") takes the thing of the clause before it.
fn carry_subjects(catalog: &Catalog, parts: &mut [Clause]) {
    for i in 1..parts.len() {
        let own = choose::content_words(catalog, &parts[i]);
        let bare = own.iter().all(|w| super::lexicon::verb(w).is_some());
        if bare && parts[i].literals.is_empty() {
            let things: Vec<String> = choose::content_words(catalog, &parts[i - 1])
                .into_iter()
                .filter(|w| super::lexicon::verb(w).is_none())
                .collect();
            parts[i].text = format!("{} {}", parts[i].text, things.join(" "));
        }
    }
}

fn draft(
    catalog: &Catalog,
    message: &str,
    parts: &[Clause],
    choices: &[Option<Choice>],
    warnings: Vec<String>,
) -> PlanDraft {
    let mut builder = Builder::new(catalog, parts, message);
    builder.warnings = warnings;
    let mut served: Vec<Option<Part>> = vec![None; parts.len()];
    for clause in order(catalog, parts, choices) {
        let Some(choice) = &choices[clause] else { continue };
        let before = builder.done.len();
        if !repeats(&builder, choice.doc, &parts[clause]) {
            builder.add(choice.doc, clause);
        }
        let new = &builder.done[before..];
        served[clause] = Some(Part {
            coverage: choice.coverage,
            margin: choice.margin,
            required: new.iter().map(|s| s.required).sum(),
            met: new.iter().map(|s| s.met).sum(),
        });
    }
    let unused: Vec<String> = builder.unused().iter().map(|l| plain(&l.text, 60)).collect();
    let mut warnings = std::mem::take(&mut builder.warnings);
    warnings.extend(unused.iter().map(|v| format!("The value \"{v}\" of the request is not used by any step.")));
    PlanDraft {
        name: plain(message, 60),
        steps: builder.steps(),
        input_schema: builder.inputs.schema(),
        explanation: explain(catalog, &builder),
        confidence: confidence(&served, builder.unclear_conditions(), unused.len()),
        candidates: candidates(catalog, &merged(choices)),
        warnings,
        questions: builder.inputs.questions.clone(),
        usage: None,
    }
}

/// The same reading operation twice with nothing new to ask it is one step.
fn repeats(builder: &Builder<'_>, doc: usize, clause: &Clause) -> bool {
    let slots = clause.literals.len();
    slots == 0 && clause.guard.is_none() && builder.done.iter().any(|d| d.doc == doc && d.operation.is_safe())
}

/// Clauses in order of execution: as said, but a reading one comes before an earlier one that needs what it gives.
fn order(catalog: &Catalog, parts: &[Clause], choices: &[Option<Choice>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..parts.len()).collect();
    for i in 0..order.len() {
        let clause = order[i];
        let Some(choice) = &choices[clause] else { continue };
        if served_before(catalog, &order[..i], choices, choice.doc) || parts[clause].intent == Some(Intent::Read) {
            continue;
        }
        let better = (i + 1..order.len()).find(|&j| {
            let other = choices[order[j]].as_ref().map(|c| c.doc);
            other.is_some_and(|o| catalog.operation(o).is_safe() && needs(catalog, &parts[clause], choice.doc, o))
        });
        if let Some(j) = better {
            let moved = order.remove(j);
            order.insert(i, moved);
        }
    }
    order
}

fn served_before(catalog: &Catalog, before: &[usize], choices: &[Option<Choice>], doc: usize) -> bool {
    let docs = before.iter().filter_map(|&c| choices[c].as_ref()).map(|c| c.doc);
    let slots = shape::slots(catalog.operation(doc));
    docs.into_iter().any(|d| {
        slots
            .iter()
            .filter(|s| is_missing_without(s))
            .any(|s| sources::yields(catalog, catalog.operation(d), s, doc) >= LIKELY)
    })
}

/// Operation `doc` lacks a required input that the clause doesn't give and `other`'s answer does.
fn needs(catalog: &Catalog, clause: &Clause, doc: usize, other: usize) -> bool {
    shape::slots(catalog.operation(doc)).iter().filter(|s| is_missing_without(s)).any(|slot| {
        let said = clause.literals.iter().any(|l| literal_fit(slot, l) >= LIKELY);
        !said && sources::yields(catalog, catalog.operation(other), slot, doc) >= SURE
    })
}

/// All parts' candidates, best first, each once.
fn merged(choices: &[Option<Choice>]) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> = Vec::new();
    for choice in choices.iter().flatten() {
        let best = choice.score.max(f32::MIN_POSITIVE);
        for (doc, score) in choice.ranked.iter().take(SHOWN) {
            let score = score / best;
            match all.iter_mut().find(|(d, _)| d == doc) {
                Some(known) => known.1 = known.1.max(score),
                None => all.push((*doc, score)),
            }
        }
    }
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(SHOWN);
    all
}

fn explain(catalog: &Catalog, builder: &Builder<'_>) -> String {
    let mut out = String::new();
    for (i, step) in builder.done.iter().enumerate() {
        let connection = plain(&catalog.connection(step.doc).name, 60);
        let writes = if step.operation.is_safe() { "" } else { ", writes" };
        out.push_str(&format!(
            "{}. {} ({} {} on {connection}{writes}",
            i + 1,
            step.title,
            step.operation.method,
            step.operation.path
        ));
        if step.scope.is_some() {
            out.push_str(", for each item");
        }
        if let Some(guard) = &step.guard {
            out.push_str(&format!(", only {} {}", if guard.negated { "unless" } else { "if" }, plain(&guard.text, 80)));
        }
        out.push_str(")\n");
    }
    out.truncate(out.trim_end().len());
    out
}
