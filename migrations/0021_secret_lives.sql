-- Secrets' lives: versions, expiry, deletion that can be taken back, and who used what where.

alter table read_models.credentials add column status text not null default 'active';
alter table read_models.credentials add column expires_at timestamptz;
-- The last warning that was told: days before the expiry.
alter table read_models.credentials add column warned integer;
alter table read_models.credentials add column destroy_at timestamptz;
-- When something is to be done about it: a warning, the expiry, the destruction.
alter table read_models.credentials add column due_at timestamptz;
create index credentials_due on read_models.credentials (due_at) where due_at is not null;

create table read_models.credential_versions (
  credential_id uuid not null,
  version integer not null,
  workspace_id uuid not null,
  -- Of the workspace's key that wrapped it when it was stored.
  key_version integer not null,
  created_by text not null,
  created_at timestamptz not null,
  destroyed_at timestamptz,
  primary key (credential_id, version)
);
create index credential_versions_by_key on read_models.credential_versions (workspace_id, key_version);
alter table read_models.credential_versions enable row level security;
alter table read_models.credential_versions force row level security;
create policy tenant on read_models.credential_versions for select to apiq_api
  using (workspace_id = nullif(current_setting('apiq.workspace_id', true), '')::uuid);
create policy projector on read_models.credential_versions to apiq_projector using (true) with check (true);
create policy auditor on read_models.credential_versions for select to apiq_auditor using (true);
grant select on read_models.credential_versions to apiq_api, apiq_auditor;
grant select, insert, update, delete on read_models.credential_versions to apiq_projector;

alter table read_models.credential_reads add column connection_id uuid;
-- Where the credential went.
alter table read_models.credential_reads add column host text;
create index credential_reads_by_reader on read_models.credential_reads (workspace_id, reader_id);
