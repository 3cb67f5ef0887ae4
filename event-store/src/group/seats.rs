//! What a member of a group holds in Postgres: a session with advisory locks, one for each partition it processes, and
//! one shared by all members, by which they count each other. Checkpoints are written by the same session: who has lost
//! it has lost the partitions, and cannot write.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use domain::event::LogPosition;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection, PgPool, Row};

use super::GroupError;
use crate::checkpoint::stored;

/// A session that does not answer for this long is given up, by its own member first and by the server after that.
const SILENCE: Duration = Duration::from_secs(5);
const SERVER_SILENCE: &str = "15s";

pub(super) struct Seats {
    session: PgConnection,
    me: i32,
    group: String,
    partitions: u32,
    /// Partition by lock key.
    keys: BTreeMap<i64, u32>,
    members: i64,
}

/// Who is there, as one look at the locks shows it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Standing {
    /// Partitions held, by member.
    pub held: BTreeMap<i32, usize>,
    pub taken: BTreeSet<u32>,
}

impl Standing {
    /// How many partitions `me` should hold: all members as many, and who holds more already keeps the odd ones.
    pub(super) fn share(&self, me: i32, partitions: u32) -> usize {
        let mut members: Vec<_> = self.held.iter().map(|(member, held)| (std::cmp::Reverse(*held), *member)).collect();
        members.sort();
        let partitions = partitions as usize;
        let rank = members.iter().position(|(_, member)| *member == me).unwrap_or(members.len());
        let count = members.len().max(1);
        partitions / count + usize::from(rank < partitions % count)
    }
}

impl Seats {
    pub(super) async fn open(pool: &PgPool, group: &str, partitions: u32) -> Result<Self, sqlx::Error> {
        answered(async {
            // Out of the pool, which may open another one in its place.
            let mut session = pool.acquire().await?.detach();
            let members = key(group, None);
            let me: i32 = sqlx::query_scalar(
                "select pg_backend_pid() from set_config('idle_session_timeout', $2, false), pg_advisory_lock_shared($1)",
            )
            .bind(members)
            .bind(SERVER_SILENCE)
            .fetch_one(&mut session)
            .await?;
            let keys = (0..partitions).map(|p| (key(group, Some(p)), p)).collect();
            Ok(Self { session, me, group: group.to_owned(), partitions, keys, members })
        })
        .await
    }

    pub(super) async fn close(self) {
        // The locks go with the session, however it ends.
        let _ = answered(self.session.close()).await;
    }

    pub(super) fn me(&self) -> i32 {
        self.me
    }

    pub(super) fn partitions(&self) -> u32 {
        self.partitions
    }

    pub(super) async fn standing(&mut self) -> Result<Standing, sqlx::Error> {
        let mut keys: Vec<i64> = self.keys.keys().copied().collect();
        keys.push(self.members);
        let rows: Vec<(i64, i32)> = answered(
            sqlx::query_as(
                "select key, pid from (
                   select ((l.classid::int8 << 32) | l.objid::int8) as key, l.pid from pg_locks l
                    where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
                      and l.database = (select d.oid from pg_database d where d.datname = current_database())) k
                  where key = any($1)",
            )
            .bind(keys)
            .fetch_all(&mut self.session),
        )
        .await?;
        let mut standing = Standing::default();
        for (key, pid) in rows {
            let held = standing.held.entry(pid).or_default();
            if let Some(partition) = self.keys.get(&key) {
                *held += 1;
                standing.taken.insert(*partition);
            }
        }
        Ok(standing)
    }

    /// The partition's checkpoint, if nobody else processes it.
    pub(super) async fn take(&mut self, partition: u32) -> Result<Option<LogPosition>, sqlx::Error> {
        answered(async {
            let taken: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
                .bind(key(&self.group, Some(partition)))
                .fetch_one(&mut self.session)
                .await?;
            if !taken {
                return Ok(None);
            }
            // Read behind the lock: the last holder has written by now, or never will.
            let at = stored(&mut self.session, &row_name(&self.group, partition)).await?;
            at.ok_or(sqlx::Error::RowNotFound).map(Some)
        })
        .await
    }

    pub(super) async fn give_back(&mut self, partition: u32) -> Result<(), sqlx::Error> {
        let unlock = sqlx::query("select pg_advisory_unlock($1)").bind(key(&self.group, Some(partition)));
        answered(unlock.execute(&mut self.session)).await.map(|_| ())
    }

    /// Moves checkpoints by compare-and-set, all in one statement; gives the partitions that moved.
    pub(super) async fn save(
        &mut self,
        moves: &[(u32, LogPosition, LogPosition)],
    ) -> Result<BTreeSet<u32>, sqlx::Error> {
        let column = |pick: fn(&(u32, LogPosition, LogPosition)) -> LogPosition| {
            let places: Vec<_> = moves.iter().map(pick).collect();
            (
                places.iter().map(|p| p.generation).collect::<Vec<_>>(),
                places.iter().map(|p| p.transaction_id.to_string()).collect::<Vec<_>>(),
                places.iter().map(|p| p.position).collect::<Vec<_>>(),
            )
        };
        let names: Vec<String> = moves.iter().map(|(partition, ..)| row_name(&self.group, *partition)).collect();
        let (from, to) = (column(|m| m.1), column(|m| m.2));
        let rows = answered(
            sqlx::query(
                "update log.checkpoints c
                    set generation = n.to_g, transaction_id = n.to_x::xid8, position = n.to_p, updated_at = now()
                   from unnest($1::text[], $2::int4[], $3::text[], $4::int8[], $5::int4[], $6::text[], $7::int8[])
                          as n (name, g, x, p, to_g, to_x, to_p)
                  where c.name = n.name and (c.generation, c.transaction_id, c.position) = (n.g, n.x::xid8, n.p)
                 returning c.name",
            )
            .bind(&names)
            .bind(from.0)
            .bind(from.1)
            .bind(from.2)
            .bind(to.0)
            .bind(to.1)
            .bind(to.2)
            .fetch_all(&mut self.session),
        )
        .await?;
        rows.iter()
            .map(|row| Ok(partition_of_row(&self.group, row.try_get("name")?).unwrap_or(self.partitions)))
            .collect()
    }
}

/// Makes the group's checkpoints, or checks that it has as many as are asked for.
pub(super) async fn prepare(pool: &PgPool, group: &str, asked: u32, from: LogPosition) -> Result<(), GroupError> {
    let mut transaction = pool.begin().await?;
    // Members that start together make them once.
    sqlx::query("select pg_advisory_xact_lock($1)").bind(key(group, Some(u32::MAX))).execute(&mut *transaction).await?;
    let names: Vec<String> = sqlx::query_scalar("select name from log.checkpoints where starts_with(name, $1)")
        .bind(format!("{group}/"))
        .fetch_all(&mut *transaction)
        .await?;
    let there = names.iter().filter_map(|name| partition_of_row(group, name)).count();
    if there == 0 {
        let names: Vec<String> = (0..asked).map(|partition| row_name(group, partition)).collect();
        sqlx::query(
            "insert into log.checkpoints (name, generation, transaction_id, position)
             select name, $2, $3::text::xid8, $4 from unnest($1::text[]) as n (name)",
        )
        .bind(names)
        .bind(from.generation)
        .bind(from.transaction_id.to_string())
        .bind(from.position)
        .execute(&mut *transaction)
        .await?;
    } else if there != asked as usize {
        return Err(GroupError::Partitions { group: group.to_owned(), there, asked });
    }
    Ok(transaction.commit().await?)
}

pub(super) fn row_name(group: &str, partition: u32) -> String {
    format!("{group}/{partition}")
}

fn partition_of_row(group: &str, name: &str) -> Option<u32> {
    name.strip_prefix(group)?.strip_prefix('/')?.parse().ok()
}

/// An advisory lock's key. Long enough that two groups never meet.
fn key(group: &str, partition: Option<u32>) -> i64 {
    let text = partition.map_or_else(|| format!("members of {group}"), |p| format!("partition {p} of {group}"));
    let hash = Sha256::digest(text.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}

/// A server that says nothing counts as lost: another member may have the partitions soon.
async fn answered<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(SILENCE, work).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(held: &[usize], partitions: u32) -> Vec<usize> {
        let held: BTreeMap<i32, usize> = (1..).zip(held.iter().copied()).collect();
        let standing = Standing { held, taken: BTreeSet::new() };
        standing.held.keys().map(|me| standing.share(*me, partitions)).collect()
    }

    #[test]
    fn shares_are_even_and_whole() {
        assert_eq!(shares(&[0], 8), [8]);
        assert_eq!(shares(&[8, 0], 8), [4, 4]);
        assert_eq!(shares(&[2, 2, 0], 4), [2, 1, 1]);
        assert_eq!(shares(&[1, 2, 1], 4), [1, 2, 1], "who has more keeps it");
        assert_eq!(shares(&[1, 0, 0], 1), [1, 0, 0], "a single active member, others stand by");
        assert_eq!(shares(&[0, 0, 0, 0, 0], 3).iter().sum::<usize>(), 3);
    }

    #[test]
    fn rows_of_other_groups_are_told_apart() {
        assert_eq!(partition_of_row("mail", "mail/12"), Some(12));
        assert_eq!(partition_of_row("mail", "mail/in/12"), None);
        assert_eq!(partition_of_row("mail", "mailer/1"), None);
        assert_ne!(key("mail", Some(1)), key("mail", Some(2)));
    }
}
