-- What the store looks at beside the log: which schema this is, and what holds the log's readers back.

-- A binary refuses a schema that it does not know.
grant select on _sqlx_migrations to apiq_api, apiq_writer, apiq_projector, apiq_auditor;

-- The transaction with the oldest id on the whole server: readers wait for it. By its owner's rights, because Postgres
-- shows the begin of a transaction only to the role that made it (or to a monitoring role); the age is null for others.
create function log.oldest_transaction(
  out transaction_id text, out age_seconds double precision, out pid integer, out application text, out database text
) returns setof record
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select t.id::text, extract(epoch from clock_timestamp() - t.begun)::float8, t.pid, t.application, t.database
    from (
      select a.backend_xid as id, a.xact_start as begun, a.pid, a.application_name as application,
             a.datname::text as database
        from pg_stat_activity a where a.backend_xid is not null
      union all
      select p.transaction, p.prepared, null, 'prepared: ' || p.gid, p.database::text from pg_prepared_xacts p
    ) t
   order by age(t.id) desc limit 1
$$;
revoke execute on function log.oldest_transaction() from public;
grant execute on function log.oldest_transaction() to apiq_api, apiq_writer, apiq_projector, apiq_auditor;
