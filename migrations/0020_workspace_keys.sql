-- Master key -> workspace's key, in versions -> data key of each subject and of each credential's version.

-- One row a version. Who wraps something new adds to `uses` of the active one in the same statement, so that nothing is
-- wrapped by a version that was retired meanwhile.
create table vault.workspace_keys (
  workspace_id uuid not null,
  version integer not null,
  -- The first 16 bytes of the key's SHA-256, hex: names it, and proves later which one was destroyed.
  key_id text not null,
  master_key_id text not null,
  wrapped bytea not null,
  status text not null check (status in ('pending', 'active', 'retired', 'destroyed')),
  -- What it has wrapped in its life, and how much of that was erased with it.
  uses bigint not null default 0,
  erased bigint not null default 0,
  created_at timestamptz not null default now(),
  retired_at timestamptz,
  destroyed_at timestamptz,
  -- To be erased with what it wraps: nothing is moved away from it.
  doomed boolean not null default false,
  -- Does the log tell what this row says?
  settled boolean not null default false,
  primary key (workspace_id, version)
);
create unique index workspace_keys_active on vault.workspace_keys (workspace_id) where status = 'active';
create index workspace_keys_unsettled on vault.workspace_keys (workspace_id)
  where not settled or status in ('pending', 'retired');
create index workspace_keys_by_master on vault.workspace_keys (master_key_id) where status <> 'destroyed';
grant select, insert, update on vault.workspace_keys to apiq_writer;

-- Raised when a key is destroyed: nodes forget then what they have opened.
create table vault.epoch (only_row boolean primary key default true check (only_row), epoch bigint not null default 0);
insert into vault.epoch default values;
grant select, update on vault.epoch to apiq_writer;

-- Without a version: wrapped by the master key itself, as it was before. A rotation moves them.
alter table vault.data_keys add column workspace_key_version integer;
alter table vault.data_keys alter column master_key_id drop not null;
create index data_keys_by_workspace_key on vault.data_keys (workspace_id, workspace_key_version)
  where destroyed_at is null;
create index data_keys_old on vault.data_keys (workspace_id) where workspace_key_version is null and destroyed_at is null;

-- A version's own data key. Without one: encrypted with the workspace's data key, as it was before.
alter table vault.credential_values add column wrapped_key bytea;
alter table vault.credential_values add column workspace_key_version integer;
alter table vault.credential_values add column destroyed_at timestamptz;
create index credential_values_by_workspace_key on vault.credential_values (workspace_id, workspace_key_version)
  where destroyed_at is null;
grant update on vault.credential_values to apiq_writer;
grant update on vault.signing_keys to apiq_writer;

-- Which values can never be opened again: for tools that read the log and must not read keys.
create view log.erased_keys as
  select workspace_id, subject, version from vault.data_keys where destroyed_at is not null;
grant select on log.erased_keys to apiq_auditor;
create view log.tenant_erased_keys with (security_barrier) as
  select workspace_id, subject, version from vault.data_keys
   where destroyed_at is not null
     and workspace_id = nullif(current_setting('apiq.workspace_id', true), '')::uuid;
grant select on log.tenant_erased_keys to apiq_api;
