//! Risk notes of a host, and its approval: nothing is called at an origin that an admin has not approved, where the
//! organization asks for that.

use serde::{Deserialize, Serialize};

use super::{AuthScheme, Connection, ConnectionEvent, SpecFacts, SpecSource, absolute};
use crate::error::{Code, Faults, Rejection};

/// What the organization asks for, and what the workspace has approved so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gate {
    pub required: bool,
    /// Origins (`https://api.example.com`).
    pub approved: Vec<String>,
    /// Origins whose address is in a private range.
    pub private: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Nobody asked for one.
    #[default]
    NotRequired,
    Pending,
    Approved,
    Rejected,
}

impl Approval {
    pub fn as_str(self) -> &'static str {
        match self {
            Approval::NotRequired => "not_required",
            Approval::Pending => "pending",
            Approval::Approved => "approved",
            Approval::Rejected => "rejected",
        }
    }
}

/// The origins that wait, that may be called and that may not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Approvals {
    /// The organization asks for approvals: what is not in `known` or `approved` is not called, whoever names it.
    pub required: bool,
    pub waiting: Vec<String>,
    pub approved: Vec<String>,
    pub rejected: Vec<String>,
    /// Origins that need no approval of this connection: approved for the workspace, or called before anybody asked.
    pub known: Vec<String>,
    /// Why, when somebody said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Approvals {
    pub fn state(&self) -> Approval {
        match self {
            Approvals { waiting, .. } if !waiting.is_empty() => Approval::Pending,
            Approvals { rejected, .. } if !rejected.is_empty() => Approval::Rejected,
            Approvals { approved, .. } if !approved.is_empty() => Approval::Approved,
            _ => Approval::NotRequired,
        }
    }

    /// The origins that may be called; `None`: every one.
    pub fn allowed(&self) -> Option<Vec<String>> {
        self.required.then(|| self.known.iter().chain(&self.approved).cloned().collect())
    }

    /// Why nothing may be called there, in words; `None` when it may.
    pub fn blocks(&self, url: &str) -> Option<String> {
        let Some(origin) = origin(url) else {
            return self.required.then(|| "it cannot be told which host that is".to_owned());
        };
        if self.waiting.contains(&origin) {
            return Some(format!("{origin} waits for the approval of an admin"));
        }
        if self.rejected.contains(&origin) {
            return Some(match &self.reason {
                Some(reason) => format!("an admin has rejected {origin}: {reason}"),
                None => format!("an admin has rejected {origin}"),
            });
        }
        let closed = self.required && !self.known.contains(&origin) && !self.approved.contains(&origin);
        closed.then(|| format!("no admin has approved {origin}"))
    }

    pub fn evolve(&mut self, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::HostApprovalRequired { known } => {
                self.required = true;
                self.waiting.retain(|host| !known.contains(host));
                self.rejected.retain(|host| !known.contains(host));
                add(&mut self.known, known);
            }
            ConnectionEvent::HostApprovalLifted {} => {
                self.required = false;
                self.waiting.clear();
            }
            ConnectionEvent::ApprovalRequested { hosts } => {
                // What waits is what is called now; another host is asked for anew when it comes back.
                self.required = true;
                self.rejected.clear();
                self.known.retain(|host| !hosts.contains(host));
                self.waiting = hosts.clone();
                self.reason = None;
            }
            ConnectionEvent::HostApproved { hosts } => {
                add(&mut self.approved, hosts);
                self.waiting.retain(|host| !hosts.contains(host));
                self.rejected.retain(|host| !hosts.contains(host));
            }
            ConnectionEvent::HostRejected { hosts, reason } => {
                add(&mut self.rejected, hosts);
                self.waiting.retain(|host| !hosts.contains(host));
                self.approved.retain(|host| !hosts.contains(host));
                self.known.retain(|host| !hosts.contains(host));
                self.reason = reason.clone();
            }
            _ => {}
        }
    }
}

fn add(list: &mut Vec<String>, hosts: &[String]) {
    for host in hosts {
        if !list.contains(host) {
            list.push(host.clone());
        }
    }
}

/// Scheme, host and port of a URL, as they are compared: lower case, without a default port.
pub fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
    let authority = authority.rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let host = authority.strip_suffix(usual).unwrap_or(authority).trim_end_matches('.');
    (!host.is_empty()).then(|| format!("{scheme}://{host}"))
}

/// Whether a URL's origin is on a list of them; of a text without one it is not.
pub fn is_among(origins: &[String], url: &str) -> bool {
    origin(url).is_some_and(|origin| origins.contains(&origin))
}

/// Every origin that is called for this connection: the document's, the base URL's, and those that operations name.
fn called(source: &SpecSource, base_url: Option<&str>, facts: Option<&SpecFacts>) -> Vec<String> {
    let mut found = Vec::new();
    if let SpecSource::Url { url } = source {
        found.extend(origin(url));
    }
    match (base_url, facts) {
        (Some(base), _) => found.extend(origin(base)),
        (None, Some(facts)) => {
            let server = facts.servers.first().map_or("/", String::as_str);
            found.extend(absolute(server, source).as_deref().and_then(origin));
            found.extend(facts.security.elsewhere.iter().cloned());
        }
        (None, None) => {}
    }
    let mut each = Vec::new();
    found.into_iter().for_each(|origin| {
        if !each.contains(&origin) {
            each.push(origin);
        }
    });
    each
}

/// What a connection calls from now on: its source, its base URL, and what its document says.
pub(super) type Calls<'a> = (&'a SpecSource, Option<&'a str>, Option<&'a SpecFacts>);

/// What comes of the organization's wish: hosts that are called already or are approved for the workspace stay open, and
/// for every other one that `calls` names an approval is asked for. Nothing, when all that is said already.
pub(super) fn ask(state: &Connection, gate: &Gate, (source, base_url, facts): Calls) -> Vec<ConnectionEvent> {
    let present = &state.approvals;
    if !gate.required {
        return if present.required { vec![ConnectionEvent::HostApprovalLifted {}] } else { vec![] };
    }
    let mut hosts = called(source, base_url, facts);
    let mut before = match present.required {
        true => vec![],
        false => called(&state.source, state.base_url.as_deref(), state.facts.as_ref()),
    };
    before.retain(|host| !present.rejected.contains(host));
    let is_known = |host: &String| gate.approved.contains(host) || before.contains(host);
    let new = |host: &&String| !present.known.contains(host) && !present.approved.contains(host);
    let mut known: Vec<String> = hosts.iter().filter(|host| is_known(host)).filter(new).cloned().collect();
    add(&mut known, &before);
    hosts.retain(|host| !is_known(host) && new(&host));
    let mut events = Vec::new();
    if !present.required || !known.is_empty() {
        events.push(ConnectionEvent::HostApprovalRequired { known });
    }
    let asked = |host: &String| present.waiting.contains(host) || present.rejected.contains(host);
    // A host that is called no more is forgotten, and asked for anew when it comes back.
    let mut waited = present.waiting.iter().chain(&present.rejected).filter(|host| !is_known(host));
    if !hosts.iter().all(asked) || waited.any(|host| !hosts.contains(host)) {
        events.push(ConnectionEvent::ApprovalRequested { hosts });
    }
    events
}

/// What is new of the called origins' addresses.
pub(super) fn note(known: &[String], gate: &Gate) -> Option<ConnectionEvent> {
    let new: Vec<String> = gate.private.iter().filter(|origin| !known.contains(origin)).cloned().collect();
    (!new.is_empty()).then_some(ConnectionEvent::PrivateRangeNoted { hosts: new })
}

/// Of the named hosts, each of which must wait or be rejected; of all of those when none is named.
pub(super) fn approve(state: &Connection, named: Option<Vec<String>>) -> Result<Vec<ConnectionEvent>, Rejection> {
    let Approvals { waiting, rejected, approved, .. } = &state.approvals;
    let asked: Vec<String> = waiting.iter().chain(rejected).cloned().collect();
    let hosts = match named {
        None => asked,
        Some(named) => {
            let mut faults = Faults::default();
            for (index, host) in named.iter().enumerate() {
                if !asked.contains(host) && !approved.contains(host) {
                    faults.add(format!("hosts[{index}]"), format!("{host} does not wait for an approval"));
                }
            }
            if !faults.0.is_empty() {
                let message = "What waits has changed: look at waitingHosts again, and approve what you find right.";
                return Err(Rejection { details: faults.0, ..Rejection::new(Code::Conflict, message) });
            }
            named.into_iter().filter(|host| asked.contains(host)).collect()
        }
    };
    if hosts.is_empty() {
        return Ok(vec![]);
    }
    let mut events = vec![ConnectionEvent::HostApproved { hosts: hosts.clone() }];
    // The document could not be fetched before.
    if let (SpecSource::Url { url }, None) = (&state.source, &state.facts)
        && origin(url).is_some_and(|origin| hosts.contains(&origin))
    {
        events.push(ConnectionEvent::RefreshRequested { source: state.source.clone(), scheduled: false });
    }
    Ok(events)
}

/// What waits, else what was open.
pub(super) fn reject(state: &Connection, reason: Option<String>) -> Result<Vec<ConnectionEvent>, Rejection> {
    if let Some(text) = &reason
        && (text.chars().count() > 500 || text.chars().any(char::is_control))
    {
        return Err(Rejection::field("reason", "must have at most 500 characters and no line breaks"));
    }
    let Approvals { waiting, approved, known, .. } = &state.approvals;
    let hosts = match waiting.is_empty() {
        true => approved.iter().chain(known).cloned().collect(),
        false => waiting.clone(),
    };
    Ok(if hosts.is_empty() { vec![] } else { vec![ConnectionEvent::HostRejected { hosts, reason }] })
}

impl Connection {
    /// The origins that this connection may call, as the organization sees it now; `None`: every one.
    pub fn origins(&self, gate: &Gate) -> Option<Vec<String>> {
        let mut origins = match (self.approvals.allowed(), gate.required) {
            (Some(allowed), _) => allowed,
            (None, true) => called(&self.source, self.base_url.as_deref(), self.facts.as_ref()),
            (None, false) => return None,
        };
        add(&mut origins, &gate.approved);
        origins.retain(|host| !self.approvals.waiting.contains(host) && !self.approvals.rejected.contains(host));
        Some(origins)
    }

    /// Why nothing is called there, in words. `origins` are those that may be called.
    pub fn closed(&self, origins: Option<&[String]>, url: &str) -> Option<String> {
        match origins {
            Some(origins) if is_among(origins, url) => None,
            Some(_) => Some(self.approvals.blocks(url).unwrap_or_else(|| "no admin has approved its host".to_owned())),
            None => self.approvals.blocks(url),
        }
    }

    /// What to know before trusting this host, in words.
    pub fn risks(&self) -> Vec<String> {
        let mut risks = Vec::new();
        let spec_url = if let SpecSource::Url { url } = &self.source { Some(url.as_str()) } else { None };
        let base = self.base_url.clone().or_else(|| self.facts.as_ref().and_then(|_| self.effective_base_url()));
        if [base.as_deref(), spec_url].into_iter().flatten().any(|u| u.starts_with("http://")) {
            risks.push("plain HTTP: requests and credentials travel unencrypted".to_owned());
        }
        if self.auth == AuthScheme::None {
            risks.push("no authentication: anybody can call this API as you do".to_owned());
        }
        let called = called(&self.source, self.base_url.as_deref(), self.facts.as_ref());
        if self.private.iter().any(|origin| called.contains(origin)) {
            risks.push("private range: the host is inside your own network".to_owned());
        }
        if let Some(facts) = self.facts.as_ref().filter(|facts| facts.security.writes > 0) {
            let (writes, all) = (facts.security.writes, facts.endpoint_count);
            risks.push(format!("write operations: {writes} of {all} operations can change something"));
        }
        risks
    }
}

#[cfg(test)]
mod tests {
    use cqrs_es::Aggregate;

    use super::*;
    use crate::{aggregate::Decider, connection::*};

    fn gate(approved: &[&str]) -> Gate {
        Gate { required: true, approved: approved.iter().map(|host| (*host).to_owned()).collect(), private: vec![] }
    }

    fn create(state: &mut Connection, gate: Gate, private: bool) {
        let command = ConnectionCommand::Create {
            name: "A".into(),
            description: None,
            source: SpecSource::Url { url: "https://docs.test/openapi.json".into() },
            base_url: None,
            auth: AuthScheme::Bearer,
            credential: None,
            gate: Gate { private: if private { vec!["https://docs.test".into()] } else { vec![] }, ..gate },
        };
        run(state, command);
    }

    fn run(state: &mut Connection, command: ConnectionCommand) -> usize {
        let events = state.decide(command).unwrap();
        let count = events.len();
        events.into_iter().for_each(|event| state.apply(event));
        count
    }

    fn read(state: &mut Connection, server: &str, elsewhere: &[&str], gate: Gate) {
        if state.ingestion == IngestionStatus::Succeeded {
            run(state, ConnectionCommand::Refresh { source: None });
        }
        run(state, ConnectionCommand::StartIngestion { executor: "e".into(), after: state.ingestions });
        let elsewhere = elsewhere.iter().map(|host| (*host).to_owned()).collect();
        let security = SpecSecurity { writes: 2, elsewhere, ..SpecSecurity::default() };
        let facts = crate::connection::tests::secured(server, security);
        let facts = SpecFacts { spec_hash: server.into(), ..facts };
        let number = state.ingestions;
        let (changes, via) = (SpecChanges::default(), DocumentVia::Fetched);
        run(state, ConnectionCommand::RecordSpec { number, facts, changes, via, gate });
    }

    fn approve(state: &mut Connection) -> usize {
        run(state, ConnectionCommand::Approve { hosts: None })
    }

    fn base_url(state: &mut Connection, url: &str, gate: Gate) {
        let patch = ConnectionPatch { base_url: Some(url.into()), gate, ..ConnectionPatch::default() };
        run(state, ConnectionCommand::Update(patch));
    }

    #[test]
    fn origins_are_compared_as_they_are_called() {
        assert_eq!(origin("HTTPS://A.Test:443/x?y").unwrap(), "https://a.test");
        assert_eq!(origin("https://u:p@a.test./").unwrap(), "https://a.test");
        assert_eq!(origin("http://a.test:443").unwrap(), "http://a.test:443");
        assert_eq!(origin("http://[::1]:80/").unwrap(), "http://[::1]");
        assert_eq!(origin("/relative"), None);
    }

    #[test]
    fn a_new_host_waits_and_an_approved_one_does_not() {
        let mut state = Connection::default();
        create(&mut state, gate(&[]), false);
        assert_eq!(state.approvals.state(), Approval::Pending);
        assert!(state.approvals.blocks("https://docs.test/x").unwrap().contains("waits"));
        assert_eq!(approve(&mut state), 2, "and the document is asked for again");
        assert_eq!(state.approvals.blocks("https://docs.test/x"), None);
        // The document names another host, and an operation a third one.
        read(&mut state, "https://api.test/v1", &["https://files.test"], gate(&["https://docs.test"]));
        assert_eq!(state.approvals.waiting, ["https://api.test", "https://files.test"]);
        approve(&mut state);
        assert_eq!((state.approvals.state(), approve(&mut state)), (Approval::Approved, 0));

        let mut known = Connection::default();
        create(&mut known, gate(&["https://docs.test"]), false);
        assert_eq!(known.approvals.state(), Approval::NotRequired);
    }

    #[test]
    fn another_base_url_asks_again_and_the_old_one_does_not() {
        let mut state = Connection::default();
        create(&mut state, Gate::default(), false);
        assert_eq!(state.approvals.state(), Approval::NotRequired);
        base_url(&mut state, "https://one.test/a", gate(&["https://docs.test"]));
        assert_eq!(state.approvals.waiting, ["https://one.test"]);
        approve(&mut state);
        base_url(&mut state, "https://one.test/b", gate(&["https://docs.test"]));
        assert_eq!(state.approvals.state(), Approval::Approved, "the same host");
        base_url(&mut state, "https://two.test", gate(&["https://docs.test"]));
        assert_eq!(state.approvals.waiting, ["https://two.test"]);
        base_url(&mut state, "https://one.test", gate(&["https://docs.test"]));
        assert_eq!(state.approvals.state(), Approval::Approved, "back at the approved host");
    }

    #[test]
    fn a_rejected_host_stays_closed_until_it_is_approved() {
        let mut state = Connection::default();
        create(&mut state, gate(&[]), false);
        let reject = |reason: Option<&str>| ConnectionCommand::Reject { reason: reason.map(Into::into) };
        run(&mut state, reject(Some("not ours")));
        assert_eq!(state.approvals.state(), Approval::Rejected);
        assert!(state.approvals.blocks("https://docs.test").unwrap().contains("not ours"));
        assert_eq!(run(&mut state, reject(None)), 0);
        approve(&mut state);
        assert_eq!(state.approvals.state(), Approval::Approved);
        run(&mut state, reject(None));
        assert_eq!(state.approvals.state(), Approval::Rejected, "an approval can be taken back");
        assert_eq!(state.decide(reject(Some("a\nb"))).unwrap_err().details[0].field, "reason");
    }

    #[test]
    fn what_is_not_on_the_list_is_closed() {
        let mut state = Connection::default();
        create(&mut state, gate(&["https://docs.test"]), false);
        assert_eq!(state.approvals.allowed().unwrap(), ["https://docs.test"]);
        assert_eq!(state.approvals.blocks("https://docs.test/x"), None);
        // A redirect, a server of a saved workflow, a text that is no URL: none of them was asked for.
        for url in ["https://other.test", "http://docs.test", "https://docs.test:444", "docs.test", "https://"] {
            assert!(state.approvals.blocks(url).is_some(), "{url}");
        }
        read(&mut state, "https://api.test", &[], gate(&["https://docs.test"]));
        approve(&mut state);
        // Called no more, and still approved; what was never decided is closed.
        base_url(&mut state, "https://moved.test", gate(&["https://docs.test", "https://api.test"]));
        assert_eq!(state.approvals.blocks("https://api.test"), None);
        base_url(&mut state, "https://api.test", gate(&["https://docs.test", "https://api.test"]));
        assert!(state.approvals.blocks("https://moved.test").unwrap().contains("no admin has approved"));
    }

    #[test]
    fn hosts_from_before_the_organization_asked_stay_open_and_its_word_can_be_taken_back() {
        let mut state = Connection::default();
        create(&mut state, Gate::default(), false);
        read(&mut state, "https://one.test", &["https://files.test"], Gate::default());
        assert_eq!((state.approvals.allowed(), state.approvals.blocks("docs.test")), (None, None));
        // Asked from here on: the document names another server.
        read(&mut state, "https://two.test", &["https://files.test"], gate(&[]));
        assert_eq!(state.approvals.waiting, ["https://two.test"]);
        for url in ["https://docs.test", "https://one.test", "https://files.test"] {
            assert_eq!(state.approvals.blocks(url), None, "{url}");
        }
        read(&mut state, "https://three.test", &[], Gate::default());
        assert_eq!((state.approvals.allowed(), state.approvals.state()), (None, Approval::NotRequired));
        assert_eq!(state.approvals.blocks("https://two.test"), None);
    }

    #[test]
    fn an_approval_is_of_the_hosts_that_it_names() {
        let mut state = Connection::default();
        create(&mut state, gate(&[]), false);
        read(&mut state, "https://api.test", &["https://files.test"], gate(&[]));
        let named = |hosts: &[&str]| ConnectionCommand::Approve {
            hosts: Some(hosts.iter().map(|host| (*host).to_owned()).collect()),
        };
        let refused = state.decide(named(&["https://api.test", "https://new.test"])).unwrap_err();
        assert_eq!((refused.code, refused.details[0].field.as_str()), (Code::Conflict, "hosts[1]"));
        run(&mut state, named(&["https://api.test"]));
        assert_eq!(state.approvals.waiting, ["https://docs.test", "https://files.test"], "nobody has looked at these");
        assert_eq!(run(&mut state, named(&["https://api.test"])), 0, "said twice");
    }

    #[test]
    fn risks_follow_what_is_known() {
        let mut state = Connection::default();
        create(&mut state, Gate::default(), true);
        assert_eq!(state.risks(), ["private range: the host is inside your own network"]);
        read(&mut state, "http://api.test", &[], Gate::default());
        let risks = state.risks();
        assert!(
            risks[0].starts_with("plain HTTP")
                && risks[2] == "write operations: 2 of 0 operations can change something"
        );
    }
}
