//! Risk notes of a host, and its approval: nothing is called at an origin that an admin has not approved, where the
//! organization asks for that.

use serde::{Deserialize, Serialize};

use super::{AuthScheme, Connection, ConnectionEvent, SpecFacts, SpecSource, absolute};
use crate::error::Rejection;

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

/// The origins that wait, that were approved and that were not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Approvals {
    pub waiting: Vec<String>,
    pub approved: Vec<String>,
    pub rejected: Vec<String>,
    /// Origins that waited or were rejected, and that the present document does not name any more. Saved workflows may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<String>,
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

    /// Why nothing may be called there, in words; `None` when it may.
    pub fn blocks(&self, url: &str) -> Option<String> {
        let origin = origin(url)?;
        if self.waiting.contains(&origin) || self.dropped.contains(&origin) {
            return Some(format!("{origin} waits for the approval of an admin"));
        }
        self.rejected.contains(&origin).then(|| match &self.reason {
            Some(reason) => format!("an admin has rejected {origin}: {reason}"),
            None => format!("an admin has rejected {origin}"),
        })
    }

    pub fn evolve(&mut self, event: &ConnectionEvent) {
        match event {
            ConnectionEvent::ApprovalRequested { hosts } => {
                // What waits is what is called now; another host is asked for anew when it comes back, and is not called
                // meanwhile.
                let before = self.waiting.drain(..).chain(self.rejected.drain(..)).chain(self.dropped.drain(..));
                let mut dropped: Vec<String> = before.filter(|host| !hosts.contains(host)).collect();
                dropped.sort_unstable();
                dropped.dedup();
                self.dropped = dropped;
                self.waiting = hosts.clone();
                self.reason = None;
            }
            ConnectionEvent::HostApproved { hosts } => {
                self.approved
                    .extend(hosts.iter().filter(|host| !self.approved.contains(host)).cloned().collect::<Vec<_>>());
                self.waiting.retain(|host| !hosts.contains(host));
                self.rejected.retain(|host| !hosts.contains(host));
                self.dropped.retain(|host| !hosts.contains(host));
            }
            ConnectionEvent::HostRejected { hosts, reason } => {
                self.rejected
                    .extend(hosts.iter().filter(|host| !self.rejected.contains(host)).cloned().collect::<Vec<_>>());
                self.waiting.retain(|host| !hosts.contains(host));
                self.approved.retain(|host| !hosts.contains(host));
                self.reason = reason.clone();
            }
            _ => {}
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

/// The event that asks for what is called and nobody has approved; `None` when that is nothing new.
pub(super) fn ask(
    present: &Approvals,
    gate: &Gate,
    source: &SpecSource,
    base_url: Option<&str>,
    facts: Option<&SpecFacts>,
) -> Option<ConnectionEvent> {
    if !gate.required {
        return None;
    }
    let known = |host: &String| gate.approved.contains(host) || present.approved.contains(host);
    let mut hosts = called(source, base_url, facts);
    hosts.retain(|host| !known(host));
    let asked = |host: &String| present.waiting.contains(host) || present.rejected.contains(host);
    // A host that is called no more is forgotten, and asked for anew when it comes back.
    let mut before = present.waiting.iter().chain(&present.rejected);
    let nothing_new = hosts.iter().all(asked) && before.all(|host| hosts.contains(host));
    (!nothing_new).then_some(ConnectionEvent::ApprovalRequested { hosts })
}

/// What is new of the called origins' addresses.
pub(super) fn note(known: &[String], gate: &Gate) -> Option<ConnectionEvent> {
    let new: Vec<String> = gate.private.iter().filter(|origin| !known.contains(origin)).cloned().collect();
    (!new.is_empty()).then_some(ConnectionEvent::PrivateRangeNoted { hosts: new })
}

pub(super) fn approve(state: &Connection) -> Vec<ConnectionEvent> {
    let mut hosts = state.approvals.waiting.clone();
    hosts.extend(state.approvals.rejected.iter().cloned());
    if hosts.is_empty() {
        return vec![];
    }
    let mut events = vec![ConnectionEvent::HostApproved { hosts: hosts.clone() }];
    // The document could not be fetched before.
    if let (SpecSource::Url { url }, None) = (&state.source, &state.facts)
        && origin(url).is_some_and(|origin| hosts.contains(&origin))
    {
        events.push(ConnectionEvent::RefreshRequested { source: state.source.clone(), scheduled: false });
    }
    events
}

/// What waits, else what was approved.
pub(super) fn reject(state: &Connection, reason: Option<String>) -> Result<Vec<ConnectionEvent>, Rejection> {
    if let Some(text) = &reason
        && (text.chars().count() > 500 || text.chars().any(char::is_control))
    {
        return Err(Rejection::field("reason", "must have at most 500 characters and no line breaks"));
    }
    let Approvals { waiting, approved, .. } = &state.approvals;
    let hosts = if waiting.is_empty() { approved.clone() } else { waiting.clone() };
    Ok(if hosts.is_empty() { vec![] } else { vec![ConnectionEvent::HostRejected { hosts, reason }] })
}

impl Connection {
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
        run(state, ConnectionCommand::StartIngestion { executor: "e".into(), after: state.ingestions });
        let elsewhere = elsewhere.iter().map(|host| (*host).to_owned()).collect();
        let security = SpecSecurity { writes: 2, elsewhere, ..SpecSecurity::default() };
        let facts = crate::connection::tests::secured(server, security);
        let number = state.ingestions;
        let (changes, via) = (SpecChanges::default(), DocumentVia::Fetched);
        run(state, ConnectionCommand::RecordSpec { number, facts, changes, via, gate });
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
        assert_eq!(run(&mut state, ConnectionCommand::Approve), 2, "and the document is asked for again");
        assert_eq!(state.approvals.blocks("https://docs.test/x"), None);
        // The document names another host, and an operation a third one.
        read(&mut state, "https://api.test/v1", &["https://files.test"], gate(&["https://docs.test"]));
        assert_eq!(state.approvals.waiting, ["https://api.test", "https://files.test"]);
        run(&mut state, ConnectionCommand::Approve);
        assert_eq!((state.approvals.state(), run(&mut state, ConnectionCommand::Approve)), (Approval::Approved, 0));

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
        run(&mut state, ConnectionCommand::Approve);
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
        run(&mut state, ConnectionCommand::Approve);
        assert_eq!(state.approvals.state(), Approval::Approved);
        run(&mut state, reject(None));
        assert_eq!(state.approvals.state(), Approval::Rejected, "an approval can be taken back");
        assert_eq!(state.decide(reject(Some("a\nb"))).unwrap_err().details[0].field, "reason");
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
