-- How a connection's calls went lately, and what its API said of its own limit. Until anything is known against it, a
-- connection is healthy.

alter table read_models.connections
  add column health text not null default 'healthy',
  add column health_reason text,
  add column health_changed_at timestamptz,
  add column rate_limit json;
