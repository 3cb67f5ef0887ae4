-- Read models: derived from the log, rebuilt at will. Every table that answers a tenant is under row-level security.
-- Lists are read backwards by (time, id): both columns of those indexes run the same way.

create table read_models.users (
  id uuid primary key,
  workspace_id uuid not null,
  organization_id uuid not null,
  role text not null,
  email json not null,
  name json,
  created_at timestamptz not null,
  last_login_at timestamptz
);

create index users_by_workspace on read_models.users (workspace_id, created_at, id);

create table read_models.workspaces (
  id uuid primary key,
  workspace_id uuid not null,
  organization_id uuid not null,
  name text not null,
  created_at timestamptz not null
);

create table read_models.api_keys (
  id uuid primary key,
  workspace_id uuid not null,
  name text not null,
  role text not null,
  prefix text not null,
  status text not null,
  created_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  version bigint not null
);
create index api_keys_by_workspace on read_models.api_keys (workspace_id, created_at, id);

create table read_models.connections (
  id uuid primary key,
  workspace_id uuid not null,
  name text not null,
  description text,
  source json not null,
  base_url text,
  effective_base_url text,
  auth json not null,
  credential_id uuid,
  status text not null,
  ingestion_status text not null,
  endpoint_count integer not null default 0,
  webhook_count integer not null default 0,
  facts json,
  -- What the last refresh changed.
  changes json,
  errors json not null default '[]',
  risks json not null default '[]',
  last_test json,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  version bigint not null
);
create index connections_by_workspace on read_models.connections (workspace_id, created_at, id);
create index connections_to_ingest on read_models.connections (ingestion_status)
  where ingestion_status in ('PENDING', 'RUNNING');

create table read_models.operations (
  id uuid primary key,
  workspace_id uuid not null,
  connection_id uuid not null,
  -- Place in the document.
  ordinal integer not null,
  method text not null,
  path text not null,
  operation_id text,
  summary text,
  description text,
  tags text[] not null,
  deprecated boolean not null,
  detail json not null
);
create index operations_by_connection on read_models.operations (workspace_id, connection_id, ordinal);

create table read_models.credentials (
  id uuid primary key,
  workspace_id uuid not null,
  name text not null,
  kind text not null,
  connection_id uuid,
  current_version integer not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  last_read_at timestamptz,
  read_count bigint not null default 0,
  version bigint not null
);
create index credentials_by_workspace on read_models.credentials (workspace_id, created_at, id);

create table read_models.credential_reads (
  event_id uuid primary key,
  workspace_id uuid not null,
  credential_id uuid not null,
  credential_version integer not null,
  reader_type text not null,
  reader_id uuid not null,
  purpose text not null,
  step_key text,
  attempt integer,
  actor_kind text not null,
  actor_id text not null,
  read_at timestamptz not null
);
create index credential_reads_by_credential on read_models.credential_reads (workspace_id, credential_id, read_at, event_id);

create table read_models.workflows (
  id uuid primary key,
  workspace_id uuid not null,
  name text not null,
  description text,
  status text not null,
  current_version integer not null,
  definition_hash text not null,
  step_count integer not null,
  execution_count bigint not null default 0,
  last_execution_at timestamptz,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  version bigint not null
);
create index workflows_by_workspace on read_models.workflows (workspace_id, created_at, id);

create table read_models.workflow_versions (
  workflow_id uuid not null,
  version integer not null,
  workspace_id uuid not null,
  definition_hash text not null,
  step_count integer not null,
  created_by text not null,
  created_at timestamptz not null,
  primary key (workflow_id, version)
);

create table read_models.executions (
  id uuid primary key,
  workspace_id uuid not null,
  workflow_id uuid not null,
  workflow_version integer not null,
  status text not null,
  trigger text not null,
  started_by text not null,
  input json not null,
  output json,
  error json,
  -- Key of the step that failed the execution.
  failed_step text,
  -- Step instances seen so far, those that completed, and those whose outcome a person must tell.
  step_count integer not null default 0,
  completed_step_count integer not null default 0,
  unknown_step_count integer not null default 0,
  started_at timestamptz not null,
  ended_at timestamptz,
  -- When a sweep should look at it again: the latest lease's end or the earliest retry.
  wake_at timestamptz,
  version bigint not null
);
create index executions_by_workspace on read_models.executions (workspace_id, started_at, id);
create index executions_by_workflow on read_models.executions (workspace_id, workflow_id, started_at, id);
create index executions_open on read_models.executions (wake_at) where status in ('pending', 'running');

create table read_models.execution_steps (
  execution_id uuid not null,
  key text not null,
  workspace_id uuid not null,
  step_id text not null,
  ordinal bigint not null,
  status text not null,
  attempts json not null default '[]',
  attempt integer not null default 0,
  input json,
  output json,
  error json,
  http_status integer,
  branch boolean,
  item_count bigint,
  started_at timestamptz,
  ended_at timestamptz,
  primary key (execution_id, key)
);
create index execution_steps_in_order on read_models.execution_steps (workspace_id, execution_id, ordinal);

create table read_models.plans (
  id uuid primary key,
  workspace_id uuid not null,
  planner text not null,
  plan_hash text not null,
  confidence real not null,
  writes boolean not null,
  workflow_id uuid,
  execution_id uuid,
  created_by text not null,
  created_at timestamptz not null
);

create index plans_by_workspace on read_models.plans (workspace_id, created_at, id);

create table read_models.webhooks (
  id uuid primary key,
  workspace_id uuid not null,
  name text not null,
  url text not null,
  events text[] not null,
  status text not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  last_triggered_at timestamptz,
  success_count bigint not null default 0,
  failure_count bigint not null default 0,
  version bigint not null
);
create index webhooks_by_workspace on read_models.webhooks (workspace_id, created_at, id);

create table read_models.webhook_deliveries (
  id uuid primary key,
  workspace_id uuid not null,
  webhook_id uuid not null,
  source_event_id uuid not null,
  event_type text not null,
  status text not null,
  attempt integer not null default 0,
  attempts json not null default '[]',
  body json not null,
  next_attempt_at timestamptz,
  lease_until timestamptz,
  created_at timestamptz not null,
  ended_at timestamptz
);
create index webhook_deliveries_by_webhook on read_models.webhook_deliveries (workspace_id, webhook_id, created_at, id);
create index webhook_deliveries_due on read_models.webhook_deliveries (next_attempt_at) where status in ('pending', 'delivering');

-- The audit log's index: the entries themselves are the events.
create table read_models.audit_entries (
  event_id uuid primary key,
  workspace_id uuid not null,
  generation integer not null,
  transaction_id xid8 not null,
  position bigint not null,
  aggregate_type text not null,
  aggregate_id uuid not null,
  sequence bigint not null,
  event_type text not null,
  actor_kind text not null,
  actor_id text not null,
  correlation_id uuid not null,
  recorded_at timestamptz not null
);
create index audit_entries_in_order on read_models.audit_entries (workspace_id, generation, transaction_id, position);
create index audit_entries_by_aggregate on read_models.audit_entries (workspace_id, aggregate_id, sequence);
create index audit_entries_by_correlation on read_models.audit_entries (workspace_id, correlation_id);

do $$
declare table_name text;
begin
  for table_name in select tablename from pg_tables where schemaname = 'read_models' loop
    execute format('alter table read_models.%I enable row level security', table_name);
    execute format('alter table read_models.%I force row level security', table_name);
    execute format(
      'create policy tenant on read_models.%I for select to apiq_api
         using (workspace_id = nullif(current_setting(''apiq.workspace_id'', true), '''')::uuid)', table_name);
    execute format('create policy projector on read_models.%I to apiq_projector using (true) with check (true)', table_name);
    execute format('create policy auditor on read_models.%I for select to apiq_auditor using (true)', table_name);
    execute format('grant select on read_models.%I to apiq_api, apiq_auditor', table_name);
    execute format('grant select, insert, update, delete on read_models.%I to apiq_projector', table_name);
  end loop;
end $$;
