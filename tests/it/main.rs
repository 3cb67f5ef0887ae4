//! The whole service from outside: the binary, over HTTP, with its own Postgres and NATS. One test binary, a module a
//! subject; each test starts its server, tells a story, and ends with `Server::finish`.

mod archives;
mod audit;
mod auth;
mod authorization;
mod bounds;
mod chat;
mod connection_auth;
mod connections;
mod contract;
mod deliveries;
mod diagnosis;
mod docs;
mod document_cache;
mod documents;
mod drift;
mod faults;
mod health;
mod host_approval;
mod jwt;
mod metrics;
mod oauth;
mod planner_model;
mod prism;
mod rebuild;
mod replay;
mod secrets;
mod ssrf;
mod startup;
mod support;
mod tenants;
mod vault_keys;
mod webhooks;
mod workflows;
mod workflows_bad;
