-- Has the log been told that this version was destroyed?
alter table vault.credential_values add column recorded boolean not null default false;
create index credential_values_untold on vault.credential_values (destroyed_at)
  where destroyed_at is not null and not recorded;
