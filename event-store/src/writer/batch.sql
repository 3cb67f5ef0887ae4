-- One batch: conflicting commands are left out, every other one is inserted whole, in one statement.
with input as (
  select * from unnest($1::int4[], $2::text[], $3::uuid[], $4::int8[], $5::text[], $6::text[], $7::text[], $8::text[],
                       $9::uuid[], $10::uuid[])
    as t (command, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id,
          workspace_id)
),
-- Where each command begins in each of its streams, and which event it was decided on (null: not told).
heads as (
  select * from unnest($16::int4[], $17::text[], $18::uuid[], $19::int8[], $20::uuid[])
    as t (command, aggregate_type, aggregate_id, first, predecessor)
),
-- The predecessor must be committed and the place free; this is seen before the transaction takes its id.
conflicts as (
  select distinct h.command from heads h
   -- Counted, so that the planner looks each one up: a join's plan would stay when the table has grown.
   where 0 < (select count(*) from log.events e where e.aggregate_type = h.aggregate_type
                 and e.aggregate_id = h.aggregate_id and e.sequence = h.first)
      or (h.first > 1 and 0 = (select count(*) from log.events e where e.aggregate_type = h.aggregate_type
                 and e.aggregate_id = h.aggregate_id and e.sequence = h.first - 1
                 and (h.predecessor is null or e.event_id = h.predecessor)))
),
claims as (
  select * from unnest($12::int4[], $13::uuid[], $14::text[], $15::text[]) as t (command, workspace_id, key, request_hash)
),
claimed as (
  insert into log.idempotency_keys (workspace_id, key, request_hash)
  select workspace_id, key, request_hash from claims
   where command not in (select command from conflicts)
   order by workspace_id, key
  on conflict (workspace_id, key) do nothing
  returning workspace_id, key
),
refused as (
  select c.command from claims c
   where not exists (select from claimed d where d.workspace_id = c.workspace_id and d.key = c.key)
      -- Two commands of one batch with the same key: the first that does not conflict has it.
      or c.command > (select min(d.command) from claims d where d.workspace_id = c.workspace_id and d.key = c.key
                         and d.command not in (select command from conflicts))
),
inserted as (
  insert into log.events (generation, workspace_id, aggregate_type, aggregate_id, sequence, event_type, event_version,
                          payload, metadata, event_id)
  select $11, workspace_id, aggregate_type, aggregate_id, sequence, event_type, event_version, payload::json,
         metadata::json, event_id
    from input
   where command not in (select command from conflicts) and command not in (select command from refused)
   order by aggregate_type, aggregate_id, sequence
  on conflict on constraint events_stream do nothing
  returning event_id, transaction_id, position
)
select i.command,
       exists (select from conflicts c where c.command = i.command) as conflict,
       exists (select from refused r where r.command = i.command) as key_taken,
       max(n.transaction_id::text) as xid,
       max(n.position) as position,
       -- A command of which not everything could be inserted (a writer on another connection was faster) fails the
       -- statement, and nothing of it stays, its key's claim included: the caller then appends each command alone.
       1 / (case when count(n.event_id) = count(*)
                   or exists (select from conflicts c where c.command = i.command)
                   or exists (select from refused r where r.command = i.command) then 1 else 0 end) as whole
  from input i left join inserted n on n.event_id = i.event_id
 group by i.command
