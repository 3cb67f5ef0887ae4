-- Rebuilding the read models beside the live ones, and swapping them.

-- How often the tables behind a projection were swapped for rebuilt ones. A projector that knows an older number has
-- seen the old tables, and its writes are refused.
alter table log.checkpoints add column swaps bigint not null default 0;

-- Rebuilds of the read models, the newest one last. Who rebuilds holds an advisory lock: a row that says `running`
-- without it was interrupted.
create table log.rebuilds (
  id bigint generated always as identity primary key,
  status text not null check (status in ('running', 'done', 'failed', 'interrupted')),
  -- What it does: fold, catch_up, swap, clean_up.
  phase text not null,
  events bigint not null default 0,
  -- Events in the log when it began: what `events` runs towards.
  total bigint not null,
  quarantined bigint not null default 0,
  error text,
  started_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  ended_at timestamptz
);
grant select on log.rebuilds to apiq_api, apiq_projector, apiq_auditor;
