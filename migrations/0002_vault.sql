-- The vault's own tables: wrapped data keys, credential ciphertexts, token signing keys.

-- One data key per subject (a workspace, a person) and version, wrapped by the master key. Destroying the rows of a
-- subject erases everything sealed for it.
create table vault.data_keys (
  workspace_id uuid not null,
  subject text not null,
  version integer not null,
  -- Which master key wraps it: the first 8 bytes of its SHA-256, hex.
  master_key_id text not null,
  wrapped bytea not null,
  created_at timestamptz not null default now(),
  destroyed_at timestamptz,
  primary key (workspace_id, subject, version)
);
grant select, insert, update on vault.data_keys to apiq_writer;

create table vault.credential_values (
  credential_id uuid not null,
  version integer not null,
  workspace_id uuid not null,
  key_version integer not null,
  nonce bytea not null,
  ciphertext bytea not null,
  created_at timestamptz not null default now(),
  primary key (credential_id, version)
);
grant select, insert, delete on vault.credential_values to apiq_writer;

-- Ed25519 seeds that sign access tokens, wrapped by the master key.
create table vault.signing_keys (
  kid text primary key,
  master_key_id text not null,
  wrapped bytea not null,
  created_at timestamptz not null default now()
);
grant select, insert on vault.signing_keys to apiq_writer;
