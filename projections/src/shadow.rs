//! The shadow schema of an online rebuild: the live schema's tables once more, under the same names in another schema.
//!
//! Everything is copied from the live catalogue, not from the migrations: columns, constraints, row-level security,
//! policies, grants, owners, indexes. `describe` says it all in lines, so that the two can be compared before the swap.
//!
//! No step holds a transaction id for long: tables are made one by one, indexes concurrently, and whatever must wait for
//! a lock gives up after a moment and tries again (a waiting transaction would keep all readers of the log waiting).

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};

/// The live schema.
pub(crate) const LIVE: &str = "read_models";
/// The one that is filled.
pub(crate) const NEXT: &str = "read_models_next";
/// The live one of before, after the swap.
pub(crate) const OLD: &str = "read_models_old";

/// Longest wait for a lock that a reader holds.
const LOCK_WAIT: &str = "50ms";
const RETRY: Duration = Duration::from_millis(100);
/// How often to try while those who hold a table end soon: after a swap, or an interrupted rebuild.
pub(crate) const MANY: u32 = 300;
/// How often to try when they have held it since an earlier rebuild.
pub(crate) const FEW: u32 = 20;

/// All that makes up a schema's tables, a fact a line, sorted; the schema's own name reads `_`.
pub(crate) async fn describe(db: &mut PgConnection, schema: &str) -> Result<Vec<String>, sqlx::Error> {
    let lines: Vec<String> = sqlx::query_scalar(
        "with own as (select c.*, n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
                       where n.nspname = $1 and c.relkind in ('r', 'p'))
         select fact from (
           select format('column %s %s %s %s null:%s default:%s storage:%s compression:%s', relname, attnum, attname,
                         format_type(atttypid, atttypmod), not attnotnull,
                         (select pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = own.oid and adnum = attnum),
                         attstorage, attcompression) as fact
             from own join pg_attribute on attrelid = own.oid and attnum > 0 and not attisdropped
           union all
           select format('constraint %s %s %s', relname, conname, pg_get_constraintdef(pg_constraint.oid))
             from own join pg_constraint on conrelid = own.oid
           union all
           select format('index %s valid:%s', replace(pg_get_indexdef(indexrelid), ' ON ' || nspname || '.', ' ON _.'),
                         indisvalid)
             from own join pg_index on indrelid = own.oid
           union all
           select format('security %s enabled:%s forced:%s', relname, relrowsecurity, relforcerowsecurity) from own
           union all
           select format('owner %s %s', relname, relowner::regrole) from own
           union all
           select format('owner of schema %s', nspowner::regrole) from pg_namespace where nspname = $1
           union all
           select format('options %s %s', relname, reloptions) from own where reloptions is not null
           union all
           select format('policy %s %s %s %s to %s using (%s) check (%s)', tablename, policyname, permissive, cmd,
                         (select string_agg(r::text, ',' order by r::text) from unnest(roles) r), qual, with_check)
             from pg_policies where schemaname = $1
           union all
           select format('grant %s on %s to %s', privilege_type, relname, grantee::regrole)
             from own, aclexplode(relacl) where grantee <> relowner and grantee <> 0
           union all
           select format('grant %s on schema to %s', privilege_type, grantee::regrole)
             from pg_namespace, aclexplode(nspacl) where nspname = $1 and grantee <> nspowner and grantee <> 0
         ) as facts order by fact",
    )
    .bind(schema)
    .fetch_all(db)
    .await?;
    Ok(lines)
}

/// What the live schema holds that cannot be copied, or that would be left pointing at the old tables: a sentence each.
pub(crate) async fn strange(db: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select format('%s.%s is no plain table', nspname, relname) from pg_class c
           join pg_namespace n on n.oid = c.relnamespace
          where nspname = $1 and relkind not in ('r', 'i', 't')
         union all
         select format('%s.%s is a function', nspname, proname) from pg_proc p
           join pg_namespace n on n.oid = p.pronamespace where nspname = $1
         union all
         select format('trigger %s on %s.%s', tgname, nspname, relname) from pg_trigger t
           join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
          where nspname = $1 and not tgisinternal
         union all
         select format('foreign key %s of %s', conname, conrelid::regclass) from pg_constraint
           join pg_class c on c.oid in (conrelid, confrelid) join pg_namespace n on n.oid = c.relnamespace
          where nspname = $1 and contype = 'f'
         union all
         select distinct format('view %s reads %s.%s', r.ev_class::regclass, nspname, relname) from pg_depend d
           join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
           join pg_class c on c.oid = d.refobjid and d.refclassid = 'pg_class'::regclass
           join pg_namespace n on n.oid = c.relnamespace where nspname = $1",
    )
    .bind(LIVE)
    .fetch_all(db)
    .await
}

/// Does this login own the live schema and every table in it?
pub(crate) async fn is_owner(db: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(bool_and(pg_has_role(current_user, owner, 'usage')), false) from (
           select nspowner as owner from pg_namespace where nspname = $1
           union select relowner from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where nspname = $1 and relkind = 'r') as owners",
    )
    .bind(LIVE)
    .fetch_one(db)
    .await
}

/// Makes the shadow's tables, with constraints, policies and grants. The other indexes come when the rows are there:
/// sorting them in is twice as fast.
pub(crate) async fn create(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut statements = vec![format!("create schema {NEXT}")];
    statements.extend(ddl(db, SCHEMA_DDL).await?);
    execute(db, &statements).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where nspname = $1 and relkind = 'r' order by relname",
    )
    .bind(LIVE)
    .fetch_all(&mut *db)
    .await?;
    for table in tables {
        let mut statements =
            vec![format!("create table {NEXT}.\"{table}\" (like {LIVE}.\"{table}\" including all excluding indexes)")];
        statements.extend(table_ddl(db, &table).await?);
        execute(db, &statements).await?;
    }
    Ok(())
}

/// Makes the indexes that no constraint owns. Waits for transactions that run already, and holds up nobody.
pub(crate) async fn create_indexes(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    let indexes: Vec<String> = sqlx::query_scalar(
        "select pg_get_indexdef(indexrelid) from pg_index join pg_class c on c.oid = indrelid
           join pg_namespace n on n.oid = relnamespace
          where nspname = $1 and not exists (select from pg_constraint where conindid = indexrelid) order by 1",
    )
    .bind(LIVE)
    .fetch_all(&mut *db)
    .await?;
    for index in indexes {
        let sql = index.replacen(" INDEX ", " INDEX CONCURRENTLY ", 1).replacen(
            &format!(" ON {LIVE}."),
            &format!(" ON {NEXT}."),
            1,
        );
        db.execute(sql.as_str()).await?;
    }
    Ok(())
}

/// What the planner must know of the new tables before anybody asks them.
pub(crate) async fn analyze(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    let tables: Vec<String> = sqlx::query_scalar("select tablename::text from pg_tables where schemaname = $1")
        .bind(NEXT)
        .fetch_all(&mut *db)
        .await?;
    for table in tables {
        db.execute(format!("analyze {NEXT}.\"{table}\"").as_str()).await?;
    }
    Ok(())
}

/// Takes the live tables away and puts the shadow in their place; both are there or neither, once the transaction ends.
pub(crate) async fn rename(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    let sql = format!("alter schema {LIVE} rename to {OLD}; alter schema {NEXT} rename to {LIVE}");
    tx.execute(sql.as_str()).await?;
    Ok(())
}

/// Drops a schema that is not live, if it is there, table by table. `false`: a reader would not let go of one.
pub(crate) async fn drop_schema(db: &mut PgConnection, schema: &str, tries: u32) -> Result<bool, sqlx::Error> {
    db.execute(format!("set lock_timeout = '{LOCK_WAIT}'").as_str()).await?;
    let dropped = drop_patiently(db, schema, tries).await;
    db.execute("reset lock_timeout").await?;
    dropped
}

async fn drop_patiently(db: &mut PgConnection, schema: &str, most: u32) -> Result<bool, sqlx::Error> {
    let tables: Vec<String> = sqlx::query_scalar("select tablename::text from pg_tables where schemaname = $1")
        .bind(schema)
        .fetch_all(&mut *db)
        .await?;
    let tables = tables.iter().map(|table| format!("drop table if exists {schema}.\"{table}\""));
    for statement in tables.chain([format!("drop schema if exists {schema}")]) {
        let mut tries = 0;
        while let Err(error) = db.execute(statement.as_str()).await {
            // 55P03: somebody reads it still.
            let held = matches!(&error, sqlx::Error::Database(e) if e.code().as_deref() == Some("55P03"));
            tries += 1;
            match held {
                true if tries < most => tokio::time::sleep(RETRY).await,
                true => return Ok(false),
                false => return Err(error),
            }
        }
    }
    Ok(true)
}

async fn execute(db: &mut PgConnection, statements: &[String]) -> Result<(), sqlx::Error> {
    let mut tx = db.begin().await?;
    tx.execute(statements.join(";\n").as_str()).await?;
    tx.commit().await
}

/// Statements that a query over the live catalogue (`$1` live, `$2` next) writes.
async fn ddl(db: &mut PgConnection, query: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(query).bind(LIVE).bind(NEXT).fetch_all(db).await
}

async fn table_ddl(db: &mut PgConnection, table: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(TABLE_DDL).bind(LIVE).bind(NEXT).bind(table).fetch_all(db).await
}

const SCHEMA_DDL: &str = "select format('grant %s on schema %I to %s', privilege_type, $2, grantee::regrole)
      from pg_namespace, aclexplode(nspacl) where nspname = $1 and grantee <> nspowner and grantee <> 0
    union all
    select format('alter schema %I owner to %s', $2, nspowner::regrole) from pg_namespace
     where nspname = $1 and nspowner <> current_user::regrole";

const TABLE_DDL: &str = "with own as (select c.* from pg_class c join pg_namespace n on n.oid = c.relnamespace
                     where nspname = $1 and relname = $3)
    select statement from (
      select 1 as step, format('alter table %I.%I set (%s)', $2, relname, array_to_string(reloptions, ', ')) as statement
        from own where reloptions is not null
      union all
      select 2, format('alter table %I.%I add constraint %I %s', $2, relname, conname, pg_get_constraintdef(k.oid))
        from own join pg_constraint k on conrelid = own.oid where contype in ('p', 'u', 'x')
      union all
      select 3, format('alter table %I.%I enable row level security', $2, relname) from own where relrowsecurity
      union all
      select 3, format('alter table %I.%I force row level security', $2, relname) from own where relforcerowsecurity
      union all
      select 4, format('create policy %I on %I.%I as %s for %s to %s', policyname, $2, tablename, permissive, cmd,
                       (select string_agg(case r when 'public' then 'public' else quote_ident(r) end, ', ')
                          from unnest(roles) r))
                || coalesce(' using (' || qual || ')', '') || coalesce(' with check (' || with_check || ')', '')
        from pg_policies where schemaname = $1 and tablename = $3
      union all
      select 5, format('grant %s on %I.%I to %s', privilege_type, $2, relname, grantee::regrole)
        from own, aclexplode(relacl) where grantee <> relowner and grantee <> 0
      union all
      select 6, format('alter table %I.%I owner to %s', $2, relname, relowner::regrole) from own
       where relowner <> current_user::regrole
    ) as all_steps order by step, statement";
