-- Folded states of long streams, so that a cold load need not read them from their first event. Derived: may be emptied
-- at any time. Sealed values stay sealed in them.
create table log.snapshots (
  aggregate_type text not null,
  aggregate_id uuid not null,
  -- Fingerprint of the code that folded it; another shape's snapshots are never read.
  shape text not null,
  workspace_id uuid not null,
  sequence bigint not null check (sequence > 0),
  -- The event at that sequence: a state of another history is told by it.
  event_id uuid not null,
  state json not null,
  -- SHA-256 over the other columns (but created_at): damage shows.
  digest bytea not null,
  created_at timestamptz not null default now(),
  primary key (aggregate_type, aggregate_id, shape)
);
grant select, insert, update, delete on log.snapshots to apiq_writer;
grant select on log.snapshots to apiq_auditor;
