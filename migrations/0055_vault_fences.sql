-- Who stores a credential's value and who destroys the credential take turns at this row: nothing comes to a destroyed one.
create table vault.credentials (
  credential_id uuid primary key,
  workspace_id uuid not null,
  destroyed_at timestamptz
);
grant select, insert, update on vault.credentials to apiq_writer;

-- Does the log name this version? A process that dies between storing and appending leaves one that nobody names: the
-- keeper asks the log and destroys it. Older rows are asked about once.
alter table vault.credential_values add column named boolean not null default false;
alter table vault.credential_values add column looked_at timestamptz;
create index credential_values_unnamed on vault.credential_values (looked_at nulls first)
  where not named and destroyed_at is null;

-- When the keeper looked at this row last: the one that waits longest is next.
alter table vault.workspace_keys add column looked_at timestamptz;
