-- Refreshes by schedule, the history of documents, and which operations each version of a workflow calls. Rows from
-- before know none of it: `apiq admin rebuild` folds it out of the log.

alter table read_models.connections
  add column refresh_interval integer not null default 0,
  add column next_refresh_at timestamptz,
  -- How often a refresh was asked for, and how many failed since the last good one.
  add column refreshes integer not null default 0,
  add column refresh_failures integer not null default 0,
  -- The document's version; 0 before the first.
  add column spec_number integer not null default 0,
  -- When the document was last seen as it is.
  add column checked_at timestamptz,
  -- Who asked for the present ingestion, or for the last one.
  add column asked json;
create index connections_to_refresh on read_models.connections (next_refresh_at) where next_refresh_at is not null;

create table read_models.connection_specs (
  connection_id uuid not null,
  number integer not null,
  workspace_id uuid not null,
  spec_hash text not null,
  operations_hash text not null,
  spec_version text not null,
  title text not null,
  api_version text not null,
  format text not null,
  size bigint not null,
  endpoint_count integer not null,
  webhook_count integer not null,
  added integer not null,
  removed integer not null,
  changed integer not null,
  breaking integer not null,
  via text,
  asked json,
  created_at timestamptz not null,
  primary key (connection_id, number)
);

create table read_models.workflow_operations (
  workflow_id uuid not null,
  -- Version and step.
  key text not null,
  workspace_id uuid not null,
  version integer not null,
  step_id text not null,
  connection_id uuid not null,
  -- `METHOD /path`
  operation text not null,
  primary key (workflow_id, key)
);
create index workflow_operations_by_operation
  on read_models.workflow_operations (workspace_id, connection_id, operation);
create index executions_not_ended on read_models.executions (workflow_id, workflow_version)
  where status not in ('completed', 'failed', 'cancelled');

do $$
declare table_name text;
begin
  foreach table_name in array array['connection_specs', 'workflow_operations'] loop
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
