-- Connector instances.

create table read_models.connectors (
  id uuid primary key,
  workspace_id uuid not null,
  connector_type text not null,
  name text not null,
  status text not null,
  credential_id uuid,
  config json not null,
  last_test json,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  version bigint not null
);
create index connectors_by_workspace on read_models.connectors (workspace_id, created_at, id);
alter table read_models.connectors enable row level security;
alter table read_models.connectors force row level security;
create policy tenant on read_models.connectors for select to apiq_api
  using (workspace_id = nullif(current_setting('apiq.workspace_id', true), '')::uuid);
create policy projector on read_models.connectors to apiq_projector using (true) with check (true);
create policy auditor on read_models.connectors for select to apiq_auditor using (true);
grant select on read_models.connectors to apiq_api, apiq_auditor;
grant select, insert, update, delete on read_models.connectors to apiq_projector;
