-- What an OAuth provider has granted to a connection, and when its access token is to be renewed.
alter table read_models.connections
  add column oauth_grant json,
  add column oauth_due_at timestamptz;
create index connections_oauth_due on read_models.connections (oauth_due_at) where oauth_due_at is not null;
