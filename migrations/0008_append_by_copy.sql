-- Group append goes by COPY. A volatile default would make COPY insert row by row: `clock_timestamp()` is one,
-- `statement_timestamp()` is not. Both are the database's clock; the order of the log is never taken from it.
alter table log.events alter column recorded_at set default statement_timestamp();
comment on column log.events.recorded_at is
  'The database''s clock when the append''s statement arrived; order is by position, never by time.';
