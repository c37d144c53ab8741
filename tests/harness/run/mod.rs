//! A run: a system under faults that a seed has chosen, and its judgement.

mod client;
mod disk;
mod fault;
mod pair;
mod plan;
mod stage;
mod strike;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use disk::SmallDisk;
pub use fault::{CRASH_POINTS, CrashPoint, Fault, Hints, Link, Meddling, Mood, Server, Trouble};
pub use pair::Pair;
pub use plan::{Plan, PlannedFault, PlannedFile, REMOTES};
pub use stage::LEASE_MS;

use crate::Variable;
use crate::checker::{self, Case, Rule, Sent, Violation};
use crate::history::History;
use client::Client;
use stage::Stage;
use strike::Striker;

/// How often processes and the end of the run are checked.
const TICK: Duration = Duration::from_millis(50);

/// How a run is made.
#[derive(Debug, Clone)]
pub struct Manner {
    /// How long everything may take from the first request on.
    pub deadline: Duration,
    /// More variables for the services: sabotage.
    pub environment: Vec<Variable>,
    /// Whether `waybill doctor` examines the system at the end.
    pub doctor: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(90), environment: Vec::new(), doctor: true }
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// What was planned.
    pub plan: Plan,
    /// How long it took, from the start of the services on.
    pub took: Duration,
    /// The rules that were broken.
    pub broken: Vec<Violation>,
    /// The planned faults that struck. A crash point may not be reached, and a machine may not allow every fault.
    pub struck: Vec<Fault>,
    /// What this machine does not allow.
    pub missing: Vec<String>,
    /// The history.
    pub history: Arc<History>,
    /// Where the logs are, if a rule was broken.
    pub kept: Option<PathBuf>,
}

/// Runs a plan on servers that are up, and leaves them up.
///
/// # Errors
///
/// The run is impossible: a server does not start, or does not answer.
pub async fn run(pair: &mut Pair, plan: Plan, manner: &Manner) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let mut stage = Stage::start(pair, &plan, &manner.environment).await;
    let history = Arc::new(History::default());
    let deadline = Instant::now() + manner.deadline;
    let clients = start_clients(&stage, &plan, &history, deadline);
    let mut striker = Striker::new(pair, &mut stage, &history);
    strike(&mut striker, &plan).await?;
    let (sent, mut broken) = finish(&mut striker, clients).await;
    broken.extend(settle(&mut striker, &sent, deadline).await?);
    broken.extend(striker.fallen.drain(..).map(|what| Violation::new(Rule::Alive, what)));
    let crashed = std::mem::take(&mut striker.crashed);
    if manner.doctor && broken.is_empty() {
        broken = checker::sound(&stage.system);
    }
    let struck = plan.faults.iter().map(|planned| planned.fault).filter(|fault| struck(*fault, &stage, &crashed));
    let struck = struck.collect();
    let kept = (!broken.is_empty()).then(|| stage.keep_folder());
    remove_streams(&stage).await;
    let missing = std::mem::take(&mut stage.missing);
    drop(stage);
    Ok(Report { plan, took: begun.elapsed(), broken, struck, missing, history, kept })
}

/// A client for each file, all at once.
fn start_clients(
    stage: &Stage,
    plan: &Plan,
    history: &Arc<History>,
    deadline: Instant,
) -> Vec<JoinHandle<Result<Sent, Violation>>> {
    let of_all = plan.faults.iter().map(|planned| planned.fault).filter(|fault| !fault.is_of_one_file());
    let of_all: Vec<_> = of_all.flat_map(|fault| fault.excuses().iter().copied()).collect();
    let start = |file: &PlannedFile| {
        let own = file.fault.map_or(&[][..], Fault::excuses);
        if let Some(fault @ Fault::Remote(mood)) = file.fault.filter(|fault| fault.is_of_one_file()) {
            history.event(format!("{fault}, for {}", file.name));
            stage.sinks.iter().for_each(|(_, sink)| sink.plan(&file.name, &[mood.behaviour()]));
        }
        let client = Client {
            api: stage.system.api.clone(),
            history: history.clone(),
            sources: stage.system.source(),
            file: file.clone(),
            excuses: of_all.iter().chain(own).copied().collect(),
            deadline,
        };
        tokio::spawn(client.send())
    };
    plan.files.iter().map(start).collect()
}

/// Carries out the plan, and repairs everything at its end.
async fn strike(striker: &mut Striker<'_>, plan: &Plan) -> anyhow::Result<()> {
    /// How often connections are cut while they are.
    const CUTS: u32 = 3;
    let mut actions: Vec<(Duration, bool, &PlannedFault)> = Vec::new();
    for planned in &plan.faults {
        actions.push((planned.at, true, planned));
        if matches!(planned.fault, Fault::Net(_, Trouble::Cut)) {
            actions.extend((1..CUTS).map(|time| (planned.at + planned.lasts * time / CUTS, true, planned)));
        }
        actions.push((planned.at + planned.lasts, false, planned));
    }
    actions.sort_by_key(|(at, begins, _)| (*at, !begins));
    for (at, begins, planned) in actions {
        until_time(striker, at).await;
        match begins {
            true => striker.begin(planned).await?,
            false => striker.end(planned).await?,
        }
    }
    until_time(striker, plan.length()).await;
    striker.heal().await
}

async fn until_time(striker: &mut Striker<'_>, at: Duration) {
    loop {
        striker.look_after();
        let left = at.saturating_sub(striker.history.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(TICK)).await;
    }
}

/// Waits for the clients.
async fn finish(
    striker: &mut Striker<'_>,
    clients: Vec<JoinHandle<Result<Sent, Violation>>>,
) -> (Vec<Sent>, Vec<Violation>) {
    while !clients.iter().all(JoinHandle::is_finished) {
        striker.look_after();
        tokio::time::sleep(TICK).await;
    }
    let (mut sent, mut broken) = (Vec::new(), Vec::new());
    for client in clients {
        match client.await {
            Ok(Ok(file)) => sent.push(file),
            Ok(Err(violation)) => broken.push(violation),
            Err(error) => broken.push(Violation::new(Rule::Accounted, format!("a client broke down: {error}"))),
        }
    }
    (sent, broken)
}

/// Waits until no rule is broken, one is broken for good, or the deadline passes.
async fn settle(striker: &mut Striker<'_>, sent: &[Sent], deadline: Instant) -> anyhow::Result<Vec<Violation>> {
    loop {
        striker.look_after();
        let (system, sinks) = (&striker.stage.system, striker.stage.sinks.as_slice());
        let case = Case { system, sent, sinks, nats_lost: striker.nats_lost.as_ref(), forgets: true };
        let broken = checker::check(&case).await;
        let late = Instant::now() > deadline;
        match broken {
            Ok(broken) if broken.is_empty() || late || broken.iter().any(|found| !found.may_pass) => return Ok(broken),
            // A stream is made again moments after NATS has returned.
            Err(error) if late => return Err(error),
            _ => tokio::time::sleep(4 * TICK).await,
        }
    }
}

/// Whether a planned fault struck.
fn struck(fault: Fault, stage: &Stage, crashed: &[String]) -> bool {
    match fault {
        Fault::Crash(point) => crashed.iter().any(|name| point.role.is_none_or(|role| name.starts_with(role.as_str()))),
        Fault::Net(link, Trouble::Flip) => stage.proxies(link).iter().any(|proxy| proxy.flipped() > 0),
        Fault::DiskFull => stage.disk.is_some(),
        Fault::Clock(..) => stage.missing.is_empty(),
        _ => true,
    }
}

/// Removes what the run leaves on NATS, for the next run.
async fn remove_streams(stage: &Stage) {
    let jetstream = async_nats::jetstream::new(stage.system.nats().await);
    for spec in contract::StreamSpec::all(&stage.system.names) {
        // A system whose rules are broken may have none.
        let _gone = jetstream.delete_stream(&spec.name).await;
    }
}

impl fmt::Display for Report {
    /// The plan, the history and the rules that were broken: all that is needed to look into a failure.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.plan, self.history)?;
        self.missing.iter().try_for_each(|what| writeln!(f, "not on this machine: {what}"))?;
        self.broken.iter().try_for_each(|violation| writeln!(f, "BROKEN {violation}"))?;
        match &self.kept {
            Some(kept) => writeln!(f, "logs, settings and sources: {}", kept.display()),
            None => Ok(()),
        }
    }
}
