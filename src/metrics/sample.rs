//! What must be asked for, every five seconds: lag of each consumer of the log, quarantine, the oldest transaction,
//! pools, the process. One function a subject: a new source is one more function and a line in `Sampler::sample`.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::SystemReads;
use sqlx::PgPool;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
/// A transaction that is open for longer holds every reader of the log back.
const LONG: Duration = Duration::from_secs(5);

/// The pools of this node, by name.
pub struct Pools {
    pub writer: PgPool,
    pub projector: PgPool,
    pub api: PgPool,
}

/// Asks and sets gauges; without a recorder the gauges go nowhere, and the warning remains.
pub struct Sampler {
    pub pools: Pools,
    pub reads: SystemReads,
    /// Of the recorder, when one is installed.
    pub handle: Option<PrometheusHandle>,
}

impl Sampler {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        describe();
        let mut long = LongTransaction::default();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.sample(&mut long) => {}
            }
        }
    }

    async fn sample(&self, long: &mut LongTransaction) {
        self.pool_sizes();
        process();
        let asked = self.database(long).await;
        // Gauges keep their last value: this one says whether to believe those that come from the database.
        gauge!("apiq_database_up").set(f64::from(u8::from(asked.is_ok())));
        if let Err(error) = asked {
            tracing::debug!(%error, "the database cannot be sampled");
        }
        if let Some(handle) = &self.handle {
            handle.run_upkeep();
        }
    }

    async fn database(&self, long: &mut LongTransaction) -> Result<(), sqlx::Error> {
        let age = self.oldest_transaction().await?;
        gauge!("apiq_log_oldest_transaction_seconds").set(age.as_secs_f64());
        long.seen(age);
        self.lags().await?;
        gauge!("apiq_log_quarantined").set(self.reads.quarantined().await? as f64);
        Ok(())
    }

    /// Of the read models, and of every other checkpoint.
    async fn lags(&self) -> Result<(), sqlx::Error> {
        let lag = self.reads.lag().await?;
        set_lag(projections::CHECKPOINT.to_owned(), lag.events, lag.age_ms as f64 / 1e3);
        let others: Vec<(String, i64, f64)> = sqlx::query_as(
            "select c.name, behind.events, greatest(behind.age, 0) from log.checkpoints c,
                    lateral (select count(*) as events,
                                    coalesce(extract(epoch from clock_timestamp() - min(recorded_at)), 0)::float8 as age
                               from (select e.recorded_at from log.events e
                                      where (e.generation, e.transaction_id, e.position)
                                            > (c.generation, c.transaction_id, c.position)
                                      order by e.generation, e.transaction_id, e.position limit 10000) as waiting) as behind
              where c.name <> $1",
        )
        .bind(projections::CHECKPOINT)
        .fetch_all(&self.pools.projector)
        .await?;
        others.into_iter().for_each(|(name, events, seconds)| set_lag(name, events, seconds));
        Ok(())
    }

    /// Age of the oldest transaction that has an id, anywhere on the server; zero when there is none.
    ///
    /// The role a pool has taken must not see other sessions: the login asks, who sees its own, and all of them as a
    /// superuser or a member of `pg_monitor`.
    async fn oldest_transaction(&self) -> Result<Duration, sqlx::Error> {
        let mut tx = self.pools.projector.begin_with("begin read only; set local role none").await?;
        let seconds: f64 = sqlx::query_scalar(
            "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8
               from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()",
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.rollback().await?;
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }

    fn pool_sizes(&self) {
        let Pools { writer, projector, api } = &self.pools;
        for (name, pool) in [("writer", writer), ("projector", projector), ("api", api)] {
            gauge!("apiq_database_connections", "pool" => name).set(f64::from(pool.size()));
            gauge!("apiq_database_connections_idle", "pool" => name).set(pool.num_idle() as f64);
            let limit = pool.options().get_max_connections();
            gauge!("apiq_database_connections_limit", "pool" => name).set(f64::from(limit));
        }
    }
}

fn set_lag(consumer: String, events: i64, seconds: f64) {
    gauge!("apiq_log_lag_events", "consumer" => consumer.clone()).set(events as f64);
    gauge!("apiq_log_lag_seconds", "consumer" => consumer).set(seconds);
}

/// Warns once when it begins and once when it is over.
#[derive(Default)]
struct LongTransaction {
    warned: bool,
}

impl LongTransaction {
    fn seen(&mut self, age: Duration) {
        match (age > LONG, self.warned) {
            (true, false) => tracing::warn!(
                age_seconds = age.as_secs(),
                "a transaction is open for long: until it ends, nothing that was appended since is shown or delivered"
            ),
            (false, true) => tracing::warn!("the long transaction is over; what it held back is delivered now"),
            _ => {}
        }
        self.warned = age > LONG;
    }
}

/// Memory and processor time of this process; on Linux, where the system tells.
fn process() {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let status = read("status");
    let kilobytes = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse().ok()
    };
    if let Some(rss) = kilobytes("VmRSS") {
        gauge!("process_resident_memory_bytes").set(rss * 1024.0);
    }
    if let Some(threads) = kilobytes("Threads") {
        gauge!("process_threads").set(threads);
    }
    if let Some(seconds) = cpu_seconds(&read("stat")) {
        counter!("process_cpu_seconds_total").absolute(seconds);
    }
}

/// Whole seconds of user and system time. The kernel counts them in hundredths on every platform it offers.
fn cpu_seconds(stat: &str) -> Option<u64> {
    // The program's name may hold spaces; what follows its closing bracket does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100)
}

fn describe() {
    describe_gauge!("apiq_build_info", "Always 1; the label says which version runs.");
    gauge!("apiq_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    describe_gauge!("apiq_database_up", "1 when the last sample could ask the database, every 5 seconds.");
    describe_gauge!("apiq_log_lag_events", "Events behind the log's end, counted up to 10,000.");
    describe_gauge!("apiq_log_lag_seconds", "Age of the oldest event that the consumer has not taken.");
    describe_gauge!("apiq_log_quarantined", "Events set aside because a view could not take them.");
    describe_gauge!(
        "apiq_log_oldest_transaction_seconds",
        "Age of the oldest writing transaction on the server; readers of the log wait for it."
    );
    describe_gauge!("apiq_database_connections", "Open connections of a pool.");
    describe_gauge!("apiq_database_connections_idle", "Open connections that nobody uses.");
    describe_gauge!("apiq_database_connections_limit", "Most connections a pool may open.");
    describe_gauge!("process_resident_memory_bytes", "Memory of this process.");
    describe_gauge!("process_threads", "Threads of this process.");
    describe_counter!("process_cpu_seconds_total", "User and system time of this process.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_transaction_is_told_once() {
        let mut long = LongTransaction::default();
        let states: Vec<bool> = [0, 5, 6, 60, 3, 4, 6]
            .map(|seconds| {
                long.seen(Duration::from_secs(seconds));
                long.warned
            })
            .to_vec();
        assert_eq!(states, [false, false, true, true, false, false, true]);
    }

    #[test]
    fn processor_time_is_read_behind_an_odd_name() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 250 150 7 8 20 0 1 0";
        assert_eq!(cpu_seconds(stat), Some(4));
        assert_eq!(cpu_seconds("nonsense"), None);
    }
}
