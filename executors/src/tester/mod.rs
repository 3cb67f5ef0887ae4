//! A connection's test: a harmless call, and what is wrong in words.

mod words;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use commands::{
    connection::same_origin,
    ports::{ConnectionTester, TestReport, TestTarget},
};
use domain::{
    call::CallFacts,
    connection::{BOUND, Needs, Sending, security::needs},
    operation::{Operation, SpecSummary},
};
use integrations::egress::{Egress, EgressError, OutboundRequest, OutboundResponse, Scope, TlsFault};

use crate::{
    authorise::{Opened, authorise},
    recorded::shown,
};
use words::Verdict;

const TIMEOUT: Duration = Duration::from_secs(15);
/// What is looked at of an answer's body.
const LOOKED_AT: usize = 64 * 1024;
/// Operations that are tried before the base URL is said to be wrong.
const PROBES: usize = 3;

pub struct Tester(pub Egress);

/// A call and what came of it.
struct Tried {
    /// `GET /items`, or `GET the base URL`.
    shown: String,
    facts: CallFacts,
    result: Result<OutboundResponse, EgressError>,
    /// Of a certificate that is not trusted: has it signed itself?
    self_signed: bool,
}

#[async_trait]
impl ConnectionTester for Tester {
    async fn test(&self, mut target: TestTarget) -> TestReport {
        let opened = target.secret.take();
        let opened = opened.map(|s| Opened { credential: s.credential, version: s.version, value: s.value });
        let Some(base) = target.base_url.clone() else {
            return refused("base_url_missing", "The connection has no base URL: set baseUrl.");
        };
        let foreign =
            opened.is_some() && target.credential_base.as_deref().is_none_or(|bound| !same_origin(bound, &base));
        if foreign {
            return refused("credential_bound", BOUND);
        }
        let probes = target.spec.as_deref().map(|spec| probes(spec, opened.is_some())).unwrap_or_default();
        let probes = if probes.is_empty() { vec![Probe::default()] } else { probes };
        let mut missing = 0;
        for probe in &probes {
            // A path such as ".evil.test" would make another host of the base.
            if !same_origin(&base, &format!("{base}{}", probe.path)) {
                return refused("credential_bound", BOUND);
            }
            let tried = match self.call(&target, opened.as_ref(), &base, probe).await {
                Ok(tried) => tried,
                Err(words) => return refused("credential_unusable", &words),
            };
            let is_missing = tried.result.as_ref().is_ok_and(|answer| answer.status == 404);
            missing += usize::from(is_missing);
            // Another operation tells a wrong base URL from one thing that is not there.
            if !is_missing || missing == probes.len() {
                return report(&target, opened.is_some(), &base, missing, tried);
            }
        }
        refused("base_url_missing", "The connection has nothing that can be called.")
    }
}

impl Tester {
    async fn call(
        &self,
        target: &TestTarget,
        opened: Option<&Opened>,
        base: &str,
        Probe { path, needs }: &Probe,
    ) -> Result<Tried, String> {
        let url = format!("{base}{path}");
        let scope = Scope {
            workspace: Some(target.workspace),
            connection: Some(target.connection),
            asked: true,
            ..Scope::default()
        };
        let mut request = OutboundRequest::get(url.clone())
            .timeout(TIMEOUT)
            .scope(scope)
            .origins(target.origins.clone())
            .header("Accept", "application/json, */*;q=0.5");
        if let Some(traceparent) = &target.traceparent {
            request = request.header("traceparent", traceparent.as_str());
        }
        if let Some(opened) = opened {
            let parts = match target.auth.sending(needs.as_ref(), target.movable) {
                Sending::Nothing => Vec::new(),
                Sending::Parts(parts) => parts,
                Sending::Lacking(words) => {
                    return Err(format!("GET {path} needs {words}, which the connection does not have."));
                }
            };
            request = authorise(request, &parts, opened).map_err(|unusable| unusable.to_string())?;
        }
        let facts = shown(request.facts(), opened);
        let tried = if path.is_empty() { "GET the base URL".to_owned() } else { format!("GET {path}") };
        let started = Instant::now();
        let result = match self.0.open(&request).await {
            Ok(answer) => answer.first(LOOKED_AT).await,
            Err(error) => Err(error),
        };
        let facts = match &result {
            Ok(answer) => answer.complete(facts),
            Err(error) => error.complete(facts, started.elapsed()),
        };
        let untrusted = matches!(result, Err(EgressError::Tls { fault: TlsFault::UnknownIssuer, .. }));
        let self_signed = untrusted && self.0.is_self_signed(&url).await == Some(true);
        Ok(Tried { shown: tried, facts, result, self_signed })
    }
}

fn report(target: &TestTarget, with_credential: bool, base: &str, missing: usize, tried: Tried) -> TestReport {
    let Tried { shown, facts, result, self_signed } = tried;
    let Verdict { ok, mut words, mut problem, health } = match &result {
        Ok(answer) => words::of_answer(target, with_credential, base, missing, answer),
        Err(error) => words::of_failure(base, error, self_signed),
    };
    let status = result.as_ref().ok().map(|answer| answer.status);
    if let Ok(answer) = &result
        && let Some(difference) = words::clock(answer, target.now + answer.elapsed)
    {
        words = format!("{words} {difference}");
        problem = problem.or(Some("clock"));
    }
    let message = match status {
        Some(status) => format!("{shown} answered {status}: {words}"),
        None => format!("{shown} failed: {words}"),
    };
    let (elapsed_ms, problem) = (facts.duration_ms, problem.map(str::to_owned));
    TestReport { ok, message, status, elapsed_ms, problem, call: Some(facts), health }
}

/// Without a call.
fn refused(problem: &str, message: &str) -> TestReport {
    TestReport { message: message.to_owned(), problem: Some(problem.to_owned()), ..TestReport::default() }
}

/// A harmless call. The default one: the base URL itself.
#[derive(Default)]
struct Probe {
    path: String,
    /// What the document says of its authentication.
    needs: Option<Needs>,
}

/// GETs that need nothing, the shortest paths first: they are the likeliest to be cheap.
fn probes(spec: &SpecSummary, with_credential: bool) -> Vec<Probe> {
    let is_harmless = |o: &&Operation| {
        o.method == "GET" && !o.path.contains('{') && !o.deprecated && !o.parameters.iter().any(|p| p.required)
    };
    let probe = |o: &Operation| Probe { path: o.path.clone(), needs: needs(spec, o) };
    let mut probes: Vec<Probe> = spec.operations.iter().filter(is_harmless).map(probe).collect();
    // One that is public would say nothing of the credential.
    let is_public = |p: &Probe| p.needs.as_ref().is_some_and(|needs| needs.is_empty());
    probes.sort_by_key(|p| (with_credential && is_public(p), p.path.len()));
    probes.dedup_by(|a, b| a.path == b.path);
    probes.truncate(PROBES);
    probes
}
