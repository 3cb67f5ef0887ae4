-- The log and what must be there from its first event: order, roles, blobs, checkpoints.

-- Roles are cluster-wide; the server logs in as the migration role and takes one of these by SET ROLE.
do $$
declare role_name text;
begin
  foreach role_name in array array['apiq_api', 'apiq_writer', 'apiq_projector', 'apiq_auditor'] loop
    if not exists (select from pg_roles where rolname = role_name) then
      begin
        execute format('create role %I nologin', role_name);
      exception when duplicate_object or unique_violation then null;
      end;
    end if;
    execute format('grant %I to %I', role_name, current_user);
  end loop;
end $$;

create schema log;
create schema vault;
create schema read_models;

grant usage on schema log to apiq_api, apiq_writer, apiq_projector, apiq_auditor;
grant usage on schema vault to apiq_writer;
grant usage on schema read_models to apiq_api, apiq_projector, apiq_auditor;

-- One row: which cluster the log's transaction ids belong to.
create table log.cluster (
  only_row boolean primary key default true check (only_row),
  generation integer not null,
  system_identifier text not null
);
insert into log.cluster (generation, system_identifier)
  select 1, system_identifier::text from pg_control_system();
grant select on log.cluster to apiq_api, apiq_writer, apiq_projector, apiq_auditor;

create sequence log.event_position as bigint cache 1;

-- Order: (generation, transaction_id, position). `json` is kept to the byte, so hashes of it hold.
create table log.events (
  generation integer not null,
  transaction_id xid8 not null default pg_current_xact_id(),
  position bigint not null default nextval('log.event_position'),
  workspace_id uuid not null,
  aggregate_type text not null,
  aggregate_id uuid not null,
  sequence bigint not null check (sequence > 0),
  event_type text not null,
  event_version text not null,
  payload json not null,
  metadata json not null,
  event_id uuid not null,
  recorded_at timestamptz not null default clock_timestamp(),
  constraint events_stream primary key (aggregate_type, aggregate_id, sequence)
);
create unique index events_order on log.events (generation, transaction_id, position);
comment on column log.events.recorded_at is 'The database''s clock at insert; order is by position, never by time.';

grant select, insert on log.events to apiq_writer;
grant usage on sequence log.event_position to apiq_writer;
grant select on log.events to apiq_projector, apiq_auditor;

-- What a tenant may see of the log: the view's owner reads, the setting filters.
create view log.tenant_events with (security_barrier) as
  select generation, transaction_id, position, workspace_id, aggregate_type, aggregate_id, sequence, event_type,
         event_version, payload, metadata, event_id, recorded_at
    from log.events
   where workspace_id = nullif(current_setting('apiq.workspace_id', true), '')::uuid;
grant select on log.tenant_events to apiq_api;

-- Content-addressed, compressed by zstd. Stored before the event that names them.
create table log.blobs (
  hash text primary key,
  workspace_id uuid not null,
  size bigint not null,
  content bytea not null,
  created_at timestamptz not null default now()
);
alter table log.blobs alter column content set storage external;
grant select, insert on log.blobs to apiq_writer;
grant select on log.blobs to apiq_projector, apiq_auditor;

-- Answers to writes that carried an Idempotency-Key; the row is claimed in the append's own transaction.
create table log.idempotency_keys (
  workspace_id uuid not null,
  key text not null,
  request_hash text not null,
  status integer,
  response text,
  created_at timestamptz not null default now(),
  primary key (workspace_id, key)
);
grant select, insert, update, delete on log.idempotency_keys to apiq_writer;

-- How far each projection and each relay has read.
create table log.checkpoints (
  name text primary key,
  generation integer not null default 0,
  transaction_id xid8 not null default '0',
  position bigint not null default 0,
  updated_at timestamptz not null default now()
);
grant select, insert, update on log.checkpoints to apiq_projector, apiq_writer;
grant select on log.checkpoints to apiq_api, apiq_auditor;

-- Events a projection could not apply: set aside with the reason, others go on.
create table log.quarantine (
  projection text not null,
  event_id uuid not null,
  generation integer not null,
  transaction_id xid8 not null,
  position bigint not null,
  reason text not null,
  quarantined_at timestamptz not null default now(),
  primary key (projection, event_id)
);
grant select, insert, delete on log.quarantine to apiq_projector;
grant select on log.quarantine to apiq_api, apiq_auditor;
