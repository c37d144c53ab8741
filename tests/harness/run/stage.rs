use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use contract::Role;

use super::disk::SmallDisk;
use super::fault::{CrashPoint, Fault, Link, Server};
use super::pair::Pair;
use super::plan::{Plan, PlannedFault, REMOTES};
use crate::system::process_name;
use crate::{Manners, Options, Proxy, Sink, System, Variable};

/// The size of the remote's disk where a fault fills it, in MiB: all files of a run fit, with room to spare.
const DISK_MIB: u32 = 160;

/// The lease of all runs, in milliseconds. A frozen worker must be frozen longer.
pub const LEASE_MS: u32 = 3_000;

/// How long the content of terminal files is kept in a run, in seconds.
const RETENTION: u32 = 1;

/// The pace of chunkers that send and finalisers that read, in bytes a second and connection, until all is repaired.
const PACE: u64 = 3 << 20;

/// The library that makes a process see another wall clock (Debian's package libfaketime).
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];

/// A system whose every connection leads through a proxy.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) system: System,
    pub(super) sinks: Vec<(String, Sink)>,
    /// By the name of the process.
    nats: BTreeMap<String, Proxy>,
    mongo: BTreeMap<String, Proxy>,
    remotes: Vec<Proxy>,
    pub(super) disk: Option<SmallDisk>,
    /// What this machine does not allow of the planned faults.
    pub(super) missing: Vec<String>,
}

impl Stage {
    /// Starts everything at once, and waits until all of it is ready.
    pub(super) async fn start(pair: &Pair, plan: &Plan, more: &[Variable]) -> Self {
        let (sinks, remotes) = sinks(plan.plain_tells).await;
        let options = options(pair, plan, &remotes);
        let mut stage = Self {
            system: System::prepare(&options).await,
            sinks,
            nats: BTreeMap::new(),
            mongo: BTreeMap::new(),
            remotes,
            disk: None,
            missing: Vec::new(),
        };
        let mut names = vec![(Role::Gateway, process_name(Role::Gateway, 0))];
        for (role, count) in plan.workers {
            names.extend((0..count).map(|number| (role, process_name(role, number))));
        }
        for (_, name) in &names {
            stage.connect(pair, name);
        }
        stage.system.environment.extend_from_slice(more);
        for planned in &plan.faults {
            stage.make_ready(planned, &names);
        }
        stage.system.start_services(&options).await;
        // A restarted gateway must be where clients look for it.
        let address = stage.system.api.gateway().trim_start_matches("http://").to_owned();
        stage.system.environment.push(Variable::new("gateway", "WAYBILL__GATEWAY__LISTEN", address));
        stage
    }

    /// Puts proxies of its own before a process.
    fn connect(&mut self, pair: &Pair, name: &str) {
        let (nats, mongo) = (Proxy::start(pair.address(Server::Nats)), Proxy::start(pair.address(Server::Mongo)));
        let url = format!("nats://{}", nats.address());
        let uri = format!("mongodb://{}/?directConnection=true", mongo.address());
        self.system.environment.push(Variable::new(name, "WAYBILL__NATS__URL", url));
        self.system.environment.push(Variable::new(name, "WAYBILL__MONGODB__URI", uri));
        // Reading and storing are slowed down, so that faults meet work in progress.
        let slow = if name.starts_with(Role::Chunker.as_str()) { Some(&nats) } else { None };
        let slow = if name.starts_with(Role::Finaliser.as_str()) { Some(&mongo) } else { slow };
        slow.into_iter().for_each(|proxy| proxy.pace(Some(PACE)));
        self.nats.insert(name.to_owned(), nats);
        self.mongo.insert(name.to_owned(), mongo);
    }

    /// Prepares what must be there before the processes start.
    fn make_ready(&mut self, planned: &PlannedFault, names: &[(Role, String)]) {
        match planned.fault {
            Fault::Crash(CrashPoint { name, role, passes }) => {
                let skip = u16::from(planned.choice) % (u16::from(passes) + 1);
                let action = if skip == 0 { "1*return".to_owned() } else { format!("{skip}*off->1*return") };
                let there = names.iter().filter(|(its, _)| role.is_none_or(|role| role == *its));
                // All processes if any service has the point, else one of its kind: the other must go on.
                let count = if role.is_none() { names.len() } else { 1 };
                for (_, process) in there.take(count) {
                    add_failpoint(&mut self.system.environment, process, &format!("{name}={action}"));
                }
            }
            Fault::Clock(role, seconds) => match FAKETIME.iter().find(|path| Path::new(path).exists()) {
                Some(library) => self.system.environment.extend([
                    Variable::new(role.as_str(), "LD_PRELOAD", *library),
                    Variable::new(role.as_str(), "FAKETIME", format!("{seconds:+}s")),
                    // A process counts its lease by the monotonic clock, which no administrator sets.
                    Variable::new(role.as_str(), "FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ]),
                None => self.missing.push("libfaketime is not installed: no clock is wrong".into()),
            },
            Fault::DiskFull if self.disk.is_none() => match SmallDisk::mount(&self.system.remote(), DISK_MIB) {
                Ok(disk) => self.disk = Some(disk),
                Err(error) => self.missing.push(format!("no disk is full: {error}")),
            },
            _ => {}
        }
    }

    /// The proxies on a link.
    pub(super) fn proxies(&self, link: Link) -> Vec<&Proxy> {
        let of = |proxies: &'static str, role: Role| {
            let all = if proxies == "nats" { &self.nats } else { &self.mongo };
            all.iter().filter(move |(name, _)| name.starts_with(role.as_str())).map(|(_, proxy)| proxy).collect()
        };
        match link {
            Link::Nats(role) => of("nats", role),
            Link::Mongo(role) => of("mongo", role),
            Link::Remote => self.remotes.iter().collect(),
        }
    }

    /// All proxies.
    pub(super) fn all_proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.nats.values().chain(self.mongo.values()).chain(&self.remotes)
    }

    /// The processes of a service, those that are down included.
    pub(super) fn processes_of(&self, role: Role) -> Vec<String> {
        let names = self.system.processes.iter().map(|(name, _)| name);
        let mut names: Vec<_> = names.filter(|name| name.starts_with(role.as_str())).cloned().collect();
        names.sort();
        names
    }

    /// Ends everything; the folder with the logs stays.
    pub(super) fn keep_folder(&mut self) -> PathBuf {
        self.system.keep_folder()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // No process may use the small disk when it is unmounted.
        self.system.processes.clear();
        self.disk = None;
    }
}

/// Two sinks and the proxies before them.
async fn sinks(plain_tells: bool) -> (Vec<(String, Sink)>, Vec<Proxy>) {
    let once = Sink::start().await;
    let plain = Sink::start_with(Manners { conditional: false, tells: plain_tells, checks: true }).await;
    let proxies = [&once, &plain].map(|sink| Proxy::start(sink.address()));
    (vec![(REMOTES[0].to_owned(), once), (REMOTES[1].to_owned(), plain)], proxies.into())
}

fn options(pair: &Pair, plan: &Plan, remotes: &[Proxy]) -> Options {
    let at = |number: usize| -> SocketAddr { remotes[number].address() };
    let remote = |name: &str, address: SocketAddr| {
        format!("[remotes.{name}]\nkind = \"http\"\nurl = \"http://{address}/in/\"\nidle_timeout_ms = 2000\n")
    };
    let toml = [
        "[chunker]\nchunk_timeout_ms = 2000\n".to_owned(),
        format!(
            "[retention]\ndelivered_seconds = {RETENTION}\nfailed_seconds = {RETENTION}\ncancelled_seconds = {RETENTION}\n"
        ),
        remote(REMOTES[0], at(0)),
        remote(REMOTES[1], at(1)),
    ];
    Options {
        workers: plan.workers,
        toml: toml.concat(),
        files: format!("chunk_size = {}", plan.chunk_size),
        work: format!("lease_ms = {LEASE_MS}"),
        // A remote that fails for seconds must not exhaust the attempts: a file may fail only for the planned reason.
        attempts: 1_000,
        nats_url: Some(pair.nats_url()),
        mongodb_uri: Some(pair.mongodb_uri()),
        environment: vec![
            Variable::new("", "WAYBILL__MONGODB__OPERATION_TIMEOUT_MS", "2000"),
            Variable::new("", "WAYBILL__MONGODB__SERVER_SELECTION_TIMEOUT_MS", "1000"),
        ],
    }
}

/// Adds to a process' variable for failpoints.
fn add_failpoint(environment: &mut Vec<Variable>, process: &str, action: &str) {
    match environment.iter_mut().find(|variable| variable.process == process && variable.name == "FAILPOINTS") {
        Some(variable) => {
            variable.value.push(';');
            variable.value.push_str(action);
        }
        None => environment.push(Variable::new(process, "FAILPOINTS", action)),
    }
}
