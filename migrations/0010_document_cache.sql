-- Fetched API documents by workspace and URL. No part of the log and no read model: it may be emptied at any time.
create schema cache;
grant usage on schema cache to apiq_api, apiq_writer;

create table cache.documents (
  workspace_id uuid not null,
  url text not null,
  -- Where the document came from in the end: relative references start there.
  final_url text not null,
  etag text,
  last_modified text,
  content_type text,
  -- SHA-256 of the document, hex.
  hash text not null,
  size bigint not null,
  stored_size bigint not null,
  -- Compressed by zstd.
  content bytea not null,
  fetched_at timestamptz not null default now(),
  -- When the server last said that this is its document.
  validated_at timestamptz not null default now(),
  used_at timestamptz not null default now(),
  uses bigint not null default 1,
  primary key (workspace_id, url)
);
alter table cache.documents alter column content set storage external;

alter table cache.documents enable row level security;
alter table cache.documents force row level security;
create policy tenant on cache.documents for select to apiq_api
  using (workspace_id = nullif(current_setting('apiq.workspace_id', true), '')::uuid);
create policy writer on cache.documents to apiq_writer using (true) with check (true);
grant select on cache.documents to apiq_api;
grant select, insert, update, delete on cache.documents to apiq_writer;
