//! Commands at 1, 8, 64 and 256 callers: with all roles beside them, and on the log alone.

use std::{sync::Arc, time::Duration};

use super::{
    SUITE,
    commands::{self, Measured, Workload},
    cpu, database, memory,
    pgbench::{self, pgbench},
    stock,
    store::Log,
};
use crate::{
    Plan,
    report::{Figure, Report},
    server::Server,
};

/// Callers, and the promised ratio to pgbench.
const LEVELS: [(usize, f64); 4] = [(1, 0.9), (8, 0.95), (64, 2.5), (256, 3.0)];
/// pgbench has no more clients than this.
const MOST_CLIENTS: usize = 64;
/// Streams of 20 events that the second workload changes.
const STREAMS: usize = 2_000;
/// The level that is compared with the stock framework and looked at closely.
const CLOSE: usize = 64;
/// Milliseconds at that level, 99 of 100 commands.
const P99: f64 = 5.0;

/// What is measured at every level, and how it is called.
pub struct Setting {
    /// Of the rows: `commands` or `append_only`.
    pub prefix: &'static str,
    pub all_roles: bool,
}

impl Setting {
    pub fn is_wanted(&self, plan: &Plan) -> bool {
        LEVELS.iter().any(|(callers, _)| self.wants(plan, *callers))
    }

    fn wants(&self, plan: &Plan, callers: usize) -> bool {
        let kinds = SERIES.into_iter().chain(["_drained"]);
        let mut names = kinds.map(|kind| format!("{}{kind}_{callers}_vs_{}", self.prefix, peer(callers)));
        names.any(|name| plan.wants(&name)) || self.wants_stock(plan, callers)
    }

    fn wants_stock(&self, plan: &Plan, callers: usize) -> bool {
        self.all_roles && callers == CLOSE && plan.wants("commands_64_vs_stock")
    }
}

/// As rows name it.
fn peer(callers: usize) -> &'static str {
    if callers > MOST_CLIENTS { "pgbench64" } else { "pgbench" }
}

pub async fn run(report: &mut Report, plan: &Plan, server: &Server, setting: &Setting) -> Result<(), String> {
    database::run(&server.database_url, pgbench::TABLE).await?;
    let mut columns = Vec::new();
    for (callers, target) in LEVELS {
        if !setting.wants(plan, callers) {
            continue;
        }
        let with_stock = setting.wants_stock(plan, callers);
        let level = Level { plan, server, setting, callers, with_stock };
        let mut rounds = Rounds::default();
        for _ in 0..if plan.quick { 1 } else { 3 } {
            level.round(&mut rounds, &mut columns).await?;
        }
        level.tell(report, &rounds, target);
    }
    if !columns.is_empty() {
        let beside = if setting.all_roles { "all roles beside" } else { "the log alone" };
        let title = format!("Processor time of a command, µs, at {CLOSE} callers, {beside}:");
        report.note(SUITE, format!("{title}\n\n{}", cpu::table(&columns)));
    }
    Ok(())
}

struct Level<'a> {
    plan: &'a Plan,
    server: &'a Server,
    setting: &'a Setting,
    callers: usize,
    with_stock: bool,
}

impl Level<'_> {
    fn time(&self) -> Duration {
        Duration::from_secs(if self.plan.quick { 2 } else { 3 })
    }

    async fn round(&self, rounds: &mut Rounds, columns: &mut Vec<(String, cpu::Split)>) -> Result<(), String> {
        let url = &self.server.database_url;
        let mut db = database::connect(url).await?;
        memory::forget(self.server)?;
        let streams = Arc::new(database::streams(&mut db, STREAMS).await?);
        let (both, lag) = self.ours(&mut db, Workload::Both(streams), columns).await?;
        let (new, _) = self.ours(&mut db, Workload::New, columns).await?;
        let streams = Arc::new(database::streams(&mut db, STREAMS).await?);
        let (existing, _) = self.ours(&mut db, Workload::Existing(streams), columns).await?;
        let (loaded, _) = self.ours(&mut db, Workload::Loaded, columns).await?;
        rounds.peaks.push(memory::peaks(self.server)?);

        database::checkpoint(&mut db).await?;
        let peer = pgbench(url, self.callers.min(MOST_CLIENTS), self.time().as_secs())?;
        rounds.drained.push((both.commands as f64 / (both.elapsed + lag).as_secs_f64(), peer));
        for (series, measured) in rounds.series.iter_mut().zip([&both, &new, &existing, &loaded]) {
            series.push((*measured, peer));
        }
        if self.with_stock {
            let stock_new = stock::measure(url, self.callers, self.time(), 0).await?;
            let stock_existing = stock::measure(url, self.callers, self.time(), STREAMS).await?;
            rounds.stock_new.push((new.rate, stock_new.rate));
            rounds.stock_existing.push((existing.rate, stock_existing.rate));
            rounds.stock_failed.push(stock_existing.failed);
        }
        Ok(())
    }

    /// Commands a second, and how long the roles took to catch up afterwards.
    async fn ours(
        &self,
        db: &mut sqlx::PgConnection,
        workload: Workload,
        columns: &mut Vec<(String, cpu::Split)>,
    ) -> Result<(Measured, Duration), String> {
        let log = Log::open(&self.server.database_url).await?;
        commands::warm_up(&log, self.callers, &workload).await?;
        self.drain(db).await?;
        database::checkpoint(db).await?;
        let before = cpu::times(db, self.server).await?;
        let measured = commands::measure_on(&log, db, self.callers, self.time(), &workload).await?;
        let acknowledged = cpu::times(db, self.server).await?;
        let lag = self.drain(db).await?;
        let drained = cpu::times(db, self.server).await?;
        log.close().await;
        if self.callers == CLOSE {
            let mut column = |what: &str, after: &cpu::Times| {
                let name = format!("{what}{}", workload.name());
                // The first round tells enough.
                if !columns.iter().any(|(known, _)| *known == name) {
                    columns.push((name, cpu::split(&before, after, measured.commands)));
                }
            };
            column("", &acknowledged);
            if self.setting.all_roles {
                column("until drained: ", &drained);
            }
        }
        Ok((measured, lag))
    }

    async fn drain(&self, db: &mut sqlx::PgConnection) -> Result<Duration, String> {
        if self.setting.all_roles { database::drain(db).await } else { Ok(Duration::ZERO) }
    }

    fn tell(&self, report: &mut Report, rounds: &Rounds, target: f64) {
        let Level { callers, setting, .. } = self;
        let prefix = setting.prefix;
        let peer = peer(*callers);
        let against = format!("pgbench, {} clients", callers.min(&MOST_CLIENTS));
        let paired = |report: &mut Report, name: &str, against: &str, target, pairs: &[(f64, f64)]| {
            let figure = Figure { suite: SUITE, name, unit: "commands/s", against, less_is_better: false, target };
            report.paired(figure, pairs);
        };
        let promised = setting.all_roles.then_some(target);
        let conflicts = |m: &Measured| 100.0 * m.conflicts as f64 / m.commands as f64;
        for (kind, series) in SERIES.into_iter().zip(&rounds.series) {
            let rates: Vec<_> = series.iter().map(|(measured, peer)| (measured.rate, *peer)).collect();
            let values = |of: fn(&Measured) -> f64| series.iter().map(|(measured, _)| of(measured)).collect::<Vec<_>>();
            paired(report, &format!("{prefix}{kind}_{callers}_vs_{peer}"), &against, promised, &rates);
            report.plain(SUITE, &format!("{prefix}{kind}_{callers}_p50"), "ms", &values(|m| m.p50));
            let name = format!("{prefix}{kind}_{callers}_p99");
            match *callers == CLOSE && setting.all_roles {
                true => report.promised(SUITE, &name, "ms", P99, &values(|m| m.p99)),
                false => report.plain(SUITE, &name, "ms", &values(|m| m.p99)),
            }
        }
        let lost: Vec<f64> = rounds.series[EXISTING].iter().map(|(measured, _)| conflicts(measured)).collect();
        report.plain(SUITE, &format!("{prefix}{}_{callers}_conflicts", SERIES[EXISTING]), "% run again", &lost);
        if setting.all_roles {
            paired(report, &format!("{prefix}_drained_{callers}_vs_{peer}"), &against, None, &rounds.drained);
        }
        if self.with_stock {
            let stock = "cqrs-es + postgres-es";
            paired(report, "commands_64_vs_stock_new", stock, None, &rounds.stock_new);
            paired(report, "commands_64_vs_stock_existing", stock, Some(18.0), &rounds.stock_existing);
            report.plain(SUITE, "stock_existing_conflicts", "% failed", &rounds.stock_failed);
        }
        if *callers == CLOSE && setting.all_roles {
            let (apiq, nats): (Vec<f64>, Vec<f64>) = rounds.peaks.iter().copied().unzip();
            report.plain(SUITE, "memory_peak_apiq_64", "MB", &apiq);
            report.plain(SUITE, "memory_peak_nats_64", "MB", &nats);
        }
    }
}

/// The workloads in the order of `Rounds::series`, as the rows call them.
const SERIES: [&str; 4] = ["", "_new", "_existing", "_loaded"];
const EXISTING: usize = 2;

/// The rounds of one level.
#[derive(Default)]
struct Rounds {
    /// Ours, and pgbench's transactions a second.
    series: [Vec<(Measured, f64)>; 4],
    /// As if the roles' work after the last acknowledgement belonged to the commands.
    drained: Vec<(f64, f64)>,
    stock_new: Vec<(f64, f64)>,
    stock_existing: Vec<(f64, f64)>,
    stock_failed: Vec<f64>,
    /// Memory of server and nats-server, MB.
    peaks: Vec<(f64, f64)>,
}
