//! What must be asked for, every five seconds: lag of each consumer of the log, quarantine, the oldest transaction,
//! pools, the process. One function a subject: a new source is one more function and a line in `Sampler::sample`.

use std::time::Duration;

use event_store::{ConsumerLag, EventStore, OldestTransaction};
use integrations::egress::Egress;
use metrics::{counter, describe_counter, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use projections::SystemReads;
use sqlx::PgPool;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
/// The pools of this node, by name.
pub struct Pools {
    pub writer: PgPool,
    pub projector: PgPool,
    pub api: PgPool,
}

/// Asks and sets gauges; without a recorder the gauges go nowhere, and the warning remains.
pub struct Sampler {
    pub pools: Pools,
    pub store: EventStore,
    pub reads: SystemReads,
    pub egress: Egress,
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
        self.log();
        self.outgoing();
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
        let health = self.store.health().await?;
        let age = health.oldest_transaction.as_ref().map_or(0.0, |t| t.age.as_secs_f64());
        gauge!("apiq_log_oldest_transaction_seconds").set(age);
        long.seen(health.held_too_long());
        for ConsumerLag { name, behind_events, behind_age, .. } in health.consumers {
            gauge!("apiq_log_lag_events", "consumer" => name.clone()).set(behind_events as f64);
            gauge!("apiq_log_lag_seconds", "consumer" => name).set(behind_age.as_secs_f64());
        }
        gauge!("apiq_log_quarantined").set(self.reads.quarantined().await? as f64);
        Ok(())
    }

    /// What group append and the cache of streams tell of themselves.
    fn log(&self) {
        let append = self.store.append_stats();
        gauge!("apiq_append_waiting_commands").set(append.waiting as f64);
        gauge!("apiq_append_waiting_bytes").set(append.waiting_bytes as f64);
        counter!("apiq_append_commands_total").absolute(append.commands);
        counter!("apiq_append_events_total").absolute(append.events);
        counter!("apiq_append_batches_total").absolute(append.batches);
        counter!("apiq_append_copies_total").absolute(append.copies);
        counter!("apiq_append_fallbacks_total").absolute(append.fallbacks);
        counter!("apiq_append_conflicts_total").absolute(append.conflicts);
        counter!("apiq_append_overloaded_total").absolute(append.overloaded);
        counter!("apiq_append_interruptions_total").absolute(append.interruptions);
        let cache = self.store.cache_stats();
        gauge!("apiq_cache_bytes").set(cache.bytes as f64);
        gauge!("apiq_cache_entries").set(cache.entries as f64);
        counter!("apiq_cache_hits_total").absolute(cache.hits);
        counter!("apiq_cache_misses_total").absolute(cache.misses);
    }

    /// What the HTTP client tells of itself.
    fn outgoing(&self) {
        let stats = self.egress.stats();
        for (outcome, count) in stats.requests {
            counter!("apiq_egress_requests_total", "outcome" => outcome).absolute(count);
        }
        counter!("apiq_egress_waited_total").absolute(stats.waited);
        counter!("apiq_egress_waited_seconds_total").absolute(stats.waited_for.as_secs());
        counter!("apiq_egress_retries_total").absolute(stats.retries);
        gauge!("apiq_egress_under_way").set(stats.under_way as f64);
        gauge!("apiq_egress_waiting").set(stats.waiting as f64);
        gauge!("apiq_egress_open_breakers").set(stats.open_breakers as f64);
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

/// Warns once when it begins and once when it is over.
#[derive(Default)]
struct LongTransaction {
    warned: bool,
}

impl LongTransaction {
    fn seen(&mut self, held: Option<&OldestTransaction>) {
        match (held, self.warned) {
            (Some(transaction), false) => tracing::warn!("{transaction}; nothing appended since is shown or delivered"),
            (None, true) => tracing::warn!("the long transaction is over; what it held back is delivered now"),
            _ => {}
        }
        self.warned = held.is_some();
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
    describe_gauge!("apiq_append_waiting_commands", "Commands that wait for their append now.");
    describe_gauge!("apiq_append_waiting_bytes", "Their bytes.");
    describe_counter!("apiq_append_commands_total", "Commands appended.");
    describe_counter!("apiq_append_events_total", "Events appended.");
    describe_counter!("apiq_append_batches_total", "Transactions that appended them.");
    describe_counter!("apiq_append_copies_total", "Transactions that were a COPY.");
    describe_counter!("apiq_append_fallbacks_total", "Batches done again because something in them was refused.");
    describe_counter!("apiq_append_conflicts_total", "Commands that lost a race and were decided again.");
    describe_counter!("apiq_append_overloaded_total", "Commands turned away because too many waited.");
    describe_counter!("apiq_append_interruptions_total", "Connections lost in the middle of an append.");
    describe_gauge!("apiq_cache_bytes", "Folded streams kept in memory, in bytes, about.");
    describe_gauge!("apiq_cache_entries", "Folded streams kept in memory.");
    describe_counter!("apiq_cache_hits_total", "Loads that began at a cached state.");
    describe_counter!("apiq_cache_misses_total", "Loads that did not.");
    describe_counter!("apiq_egress_requests_total", "Outgoing requests by outcome.");
    describe_counter!("apiq_egress_waited_total", "Outgoing requests that waited for a turn or for an API's limit.");
    describe_counter!("apiq_egress_waited_seconds_total", "How long they waited together.");
    describe_counter!("apiq_egress_retries_total", "Repetitions by the client itself.");
    describe_gauge!("apiq_egress_under_way", "Outgoing requests under way.");
    describe_gauge!("apiq_egress_waiting", "Outgoing requests that wait for a turn at their host now.");
    describe_gauge!("apiq_egress_open_breakers", "Hosts that a workspace's calls are kept from now.");
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
        let held = OldestTransaction {
            age: Duration::from_secs(6),
            pid: Some(7),
            application: "psql".into(),
            database: Some("other".into()),
        };
        let states = [None, Some(&held), Some(&held), None, Some(&held)].map(|held| {
            long.seen(held);
            long.warned
        });
        assert_eq!(states, [false, true, true, false, true]);
    }

    #[test]
    fn processor_time_is_read_behind_an_odd_name() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 250 150 7 8 20 0 1 0";
        assert_eq!(cpu_seconds(stat), Some(4));
        assert_eq!(cpu_seconds("nonsense"), None);
    }
}
