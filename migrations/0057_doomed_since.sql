-- Since when nothing new is sealed under a version that will be erased; nodes have heard of it a second later.
alter table vault.workspace_keys add column doomed_at timestamptz;
update vault.workspace_keys set doomed_at = now() where doomed;
