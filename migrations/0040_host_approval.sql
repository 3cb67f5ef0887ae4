-- Approval of a connection's hosts, and those in a private range.
alter table read_models.connections
  add column approvals json not null default '{}',
  add column private json not null default '[]';
