use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context;
use contract::{Cause, FileId, Hint, Role, Step};
use rustix::process::Signal;
use tokio::time::Instant;

use super::fault::{Fault, Hints, Link, Server, Trouble};
use super::pair::Pair;
use super::plan::PlannedFault;
use super::stage::Stage;
use crate::Behaviour;
use crate::checker::NatsLost;
use crate::history::History;

/// How long a process that ended stays away.
const AWAY: Duration = Duration::from_millis(300);

/// Causes faults and repairs them.
pub(super) struct Striker<'a> {
    pub(super) pair: &'a mut Pair,
    pub(super) stage: &'a mut Stage,
    pub(super) history: &'a History,
    /// The last loss of NATS' data.
    pub(super) nats_lost: Option<NatsLost>,
    /// Processes that have ended, and when they are restarted; `None`: never.
    down: BTreeMap<String, Option<Instant>>,
    /// Processes that may end: they were killed or told to stop, or they have a crash point.
    may_end: BTreeSet<String>,
    /// Processes that ended without a reason.
    pub(super) fallen: Vec<String>,
    /// Crash points that were reached, by the process that died there.
    pub(super) crashed: Vec<String>,
}

impl<'a> Striker<'a> {
    pub(super) fn new(pair: &'a mut Pair, stage: &'a mut Stage, history: &'a History) -> Self {
        let (down, may_end) = (BTreeMap::new(), BTreeSet::new());
        let (fallen, crashed) = (Vec::new(), Vec::new());
        Self { pair, stage, history, nats_lost: None, down, may_end, fallen, crashed }
    }

    /// Begins a fault.
    pub(super) async fn begin(&mut self, planned: &PlannedFault) -> anyhow::Result<()> {
        let fault = planned.fault;
        if planned.lasts > Duration::ZERO {
            self.history.event(format!("begins: {fault}"));
        }
        match fault {
            Fault::Kill(role) => {
                let name = self.signal(role, planned.choice, Signal::KILL);
                // Half of the killed processes stay dead as long as another of their kind lives.
                let mut others = self.stage.processes_of(role).into_iter().filter(|other| *other != name);
                let stays = planned.choice.is_multiple_of(2) && others.any(|other| !self.down.contains_key(&other));
                let again = (!stays).then(|| Instant::now() + planned.lasts);
                self.down.insert(name, again);
            }
            Fault::Terminate(role) => drop(self.signal(role, planned.choice, Signal::TERM)),
            Fault::Freeze(role) => drop(self.signal(role, planned.choice, Signal::STOP)),
            Fault::KillServer(server) => self.pair.kill(server).await?,
            Fault::FreezeServer(server) => self.pair.freeze(server)?,
            Fault::LoseNats => {
                self.pair.kill(Server::Nats).await?;
                self.pair.lose_nats()?;
                self.nats_lost = Some(NatsLost::now(&self.stage.system).await);
            }
            Fault::Net(link, trouble) => self.trouble(link, trouble),
            Fault::Hints(hints) => self.hint(hints).await?,
            Fault::Remote(mood) if !fault.is_of_one_file() => {
                self.stage.sinks.iter().for_each(|(_, sink)| sink.behave(mood.behaviour()));
            }
            Fault::DiskFull => self.stage.disk.as_ref().map_or(Ok(()), |disk| disk.fill())?,
            _ => {}
        }
        Ok(())
    }

    /// Ends a fault.
    pub(super) async fn end(&mut self, planned: &PlannedFault) -> anyhow::Result<()> {
        if planned.lasts > Duration::ZERO {
            self.history.event(format!("ends: {}", planned.fault));
        }
        match planned.fault {
            Fault::Freeze(role) => drop(self.signal(role, planned.choice, Signal::CONT)),
            Fault::KillServer(server) => self.pair.start_again(server).await?,
            Fault::FreezeServer(server) => self.pair.wake(server)?,
            Fault::LoseNats => self.pair.start_again(Server::Nats).await?,
            Fault::Net(link, _) => self.stage.proxies(link).into_iter().for_each(|proxy| proxy.heal()),
            Fault::Hints(hints) => self.hint(hints).await?,
            Fault::Remote(_) => self.stage.sinks.iter().for_each(|(_, sink)| sink.behave(Behaviour::Take)),
            Fault::DiskFull => self.stage.disk.iter().for_each(|disk| disk.clear()),
            _ => {}
        }
        Ok(())
    }

    /// Repairs everything, whatever was planned.
    pub(super) async fn heal(&mut self) -> anyhow::Result<()> {
        for proxy in self.stage.all_proxies() {
            proxy.heal();
            proxy.pace(None);
        }
        self.stage.sinks.iter().for_each(|(_, sink)| sink.behave(Behaviour::Take));
        self.stage.disk.iter().for_each(|disk| disk.clear());
        for server in [Server::Nats, Server::Mongo] {
            self.pair.start_again(server).await?;
        }
        self.down.values_mut().flatten().for_each(|again| *again = Instant::now());
        self.look_after();
        self.history.event("all is healed");
        Ok(())
    }

    /// Notices processes that have ended, and restarts those whose time has come.
    pub(super) fn look_after(&mut self) {
        for (name, process) in &mut self.stage.system.processes {
            let Some(status) = process.ended().filter(|_| !self.down.contains_key(name)) else { continue };
            let environment = &mut self.stage.system.environment;
            let armed = environment.iter().any(|known| known.process == *name && known.name == "FAILPOINTS");
            self.history.event(format!("{name} ended: {status}"));
            if armed && !status.success() {
                // It died at its crash point, and will not again.
                environment.retain(|known| known.process != *name || known.name != "FAILPOINTS");
                self.crashed.push(name.clone());
            } else if !self.may_end.contains(name) {
                self.fallen.push(format!("{name} ended by itself: {status}"));
            }
            self.down.insert(name.clone(), Some(Instant::now() + AWAY));
        }
        let now = Instant::now();
        let ready: Vec<_> = self.down.iter().filter(|(_, again)| again.is_some_and(|again| again <= now)).collect();
        let ready: Vec<String> = ready.into_iter().map(|(name, _)| name.clone()).collect();
        for name in ready {
            self.down.remove(&name);
            self.history.event(format!("{name} is started again"));
            let (role, number) = name.split_once('-').unwrap_or((&name, "0"));
            let role = Role::ALL.into_iter().find(|known| known.as_str() == role);
            if let (Some(role), Ok(number)) = (role, number.parse()) {
                self.stage.system.start_service(role, number);
            }
        }
    }

    /// Sends a signal to one of a service's processes.
    fn signal(&mut self, role: Role, choice: u8, signal: Signal) -> String {
        let names = self.stage.processes_of(role);
        let name = names[usize::from(choice / 2) % names.len()].clone();
        self.may_end.insert(name.clone());
        let process = self.stage.system.process(&name);
        // Another fault may have ended it already.
        if process.is_running() {
            process.signal(signal);
        }
        name
    }

    fn trouble(&self, link: Link, trouble: Trouble) {
        for proxy in self.stage.proxies(link) {
            match trouble.of(link) {
                Some(fault) => proxy.begin(fault),
                None => proxy.cut(),
            }
        }
    }

    /// Publishes unwanted hints.
    async fn hint(&self, hints: Hints) -> anyhow::Result<()> {
        let system = &self.stage.system;
        // Either server may be away; then there is nothing to publish, or nowhere to publish it.
        let Ok(Ok(files)) = tokio::time::timeout(Duration::from_secs(1), self.known_files()).await else {
            return Ok(());
        };
        let connecting = tokio::time::timeout(Duration::from_secs(1), async_nats::connect(system.nats_url())).await;
        let Ok(Ok(nats)) = connecting else { return Ok(()) };
        let files = files.into_iter().rev().chain([FileId::generate()]);
        for (number, file) in files.cycle().take(60).enumerate() {
            let step = if number % 2 == 0 { Step::Finalise } else { Step::Prepare };
            let payload = match hints {
                Hints::Repeated => Hint::new(file, Cause::Sweep).to_json(),
                Hints::Unreadable => b"{\"v\":1,\"file".to_vec(),
            };
            nats.publish(system.names.hint(step, file), payload.into()).await.context("publishing hints")?;
        }
        let _away = tokio::time::timeout(Duration::from_secs(1), nats.flush()).await;
        Ok(())
    }

    async fn known_files(&self) -> anyhow::Result<Vec<FileId>> {
        let files = self.stage.system.database().await.collection::<mongodb::bson::Document>("files");
        let ids = files.distinct("_id", mongodb::bson::doc! {}).await?;
        let id = |id: &mongodb::bson::Bson| match id {
            mongodb::bson::Bson::Binary(id) => id.bytes.as_slice().try_into().ok().map(FileId::from_bytes),
            _ => None,
        };
        Ok(ids.iter().filter_map(id).collect())
    }
}
