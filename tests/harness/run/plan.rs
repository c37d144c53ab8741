use std::fmt;
use std::time::Duration;

use contract::Role;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::fault::{Fault, Link, Mood, Trouble};

/// The remotes of a run, by what they can do: a sink with conditional create, a sink without, a directory.
pub const REMOTES: [&str; 3] = ["once", "plain", "folder"];

/// The latest beginning of a fault after the first request, in milliseconds.
const FAULTS_WITHIN: u64 = 2_500;

/// The time over which files are sent, in milliseconds.
const FILES_WITHIN: u64 = 3_000;

/// What happens in a run: all of it follows from the seed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// How many of each worker.
    pub workers: [(Role, u8); 3],
    /// Whether the sink without conditional create says what it has.
    pub plain_tells: bool,
    /// The files.
    pub files: Vec<PlannedFile>,
    /// The faults.
    pub faults: Vec<PlannedFault>,
}

/// A file to send.
#[derive(Debug, Clone)]
pub struct PlannedFile {
    /// Its name, which is unique.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// The remote.
    pub remote: &'static str,
    /// When it is sent.
    pub at: Duration,
    /// Whether it is finalised at once, or when it is stored.
    pub early: bool,
    /// Whether each request is made twice.
    pub twice: bool,
    /// What is done to it alone.
    pub fault: Option<Fault>,
}

/// A fault to inject.
#[derive(Debug, Clone, Copy)]
pub struct PlannedFault {
    /// Which.
    pub fault: Fault,
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// A number that decides where there is a choice: which process, after how many passes.
    pub choice: u8,
}

impl Plan {
    /// The plan of a seed. It always has the fault `first`, and may have one or two others.
    pub fn new(seed: u64, first: Option<Fault>) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let all = Fault::all();
        let any = |random: &mut SmallRng| all[random.random_range(0..all.len())];
        let mut faults = vec![first.unwrap_or_else(|| any(&mut random))];
        for _ in 0..[0, 1, 1, 2][random.random_range(0..4)] {
            faults.push(any(&mut random));
        }
        Self::of(seed, random, faults)
    }

    /// A plan with exactly these faults, and files chosen by the seed.
    pub fn with(seed: u64, faults: &[Fault]) -> Self {
        Self::of(seed, SmallRng::seed_from_u64(seed), faults.to_vec())
    }

    fn of(seed: u64, mut random: SmallRng, mut faults: Vec<Fault>) -> Self {
        needs(&mut faults);
        let mut count = |_| random.random_range(1..=2);
        let workers = [Role::Chunker, Role::Store, Role::Finaliser].map(|role| (role, count(role)));
        let mut plan = Self {
            seed,
            chunk_size: [64, 256, 1024][random.random_range(0..3)] * 1024,
            workers,
            plain_tells: random.random_bool(0.5),
            files: (0..random.random_range(6..=12)).map(|number| file(number, &mut random)).collect(),
            faults: faults.into_iter().map(|fault| planned(fault, &mut random)).collect(),
        };
        plan.assign();
        plan
    }

    /// Assigns each fault of one file to a file, and adapts the files to the faults.
    fn assign(&mut self) {
        let hasty = self.faults.iter().any(|planned| planned.fault == Fault::Hasty);
        let of_one = self.faults.iter().map(|planned| planned.fault).filter(|fault| fault.is_of_one_file());
        for (file, fault) in self.files.iter_mut().zip(of_one) {
            file.fault = Some(fault);
            match fault {
                // Large, and read as soon as it is prepared: there must be time to meddle.
                Fault::Source(_) => (file.size, file.early) = (20 << 20, true),
                _ => file.remote = REMOTES[0],
            }
        }
        // A file must go where the fault strikes.
        for wanted in self.faults.iter().filter_map(|planned| remote_of(planned.fault)) {
            for file in self.files.iter_mut().filter(|file| file.fault.is_none()).take(3) {
                (file.remote, file.size) = (wanted, file.size.max(100_000));
            }
        }
        if self.has(|fault| matches!(fault, Fault::Crash(point) if point.name == "content-half-removed")) {
            // It is removed in more than one piece if it has more than 256 chunks.
            self.chunk_size = 64 * 1024;
            self.files.iter_mut().take(1).for_each(|file| file.size = 20 << 20);
        }
        self.files.iter_mut().filter(|_| hasty).for_each(|file| (file.early, file.twice) = (true, true));
    }

    /// The same with one worker of each, which dies at a crash point as soon as it comes there.
    pub fn alone(mut self) -> Self {
        self.workers.iter_mut().for_each(|(_, count)| *count = 1);
        self.faults.iter_mut().for_each(|planned| planned.choice = 0);
        self
    }

    /// How long the planned part lasts; after it everything is repaired.
    pub fn length(&self) -> Duration {
        let ends = self.faults.iter().map(|planned| planned.at + planned.lasts);
        ends.max().unwrap_or_default().max(Duration::from_millis(FILES_WITHIN))
    }

    /// Whether this fault is in it.
    pub fn has(&self, wanted: impl Fn(Fault) -> bool) -> bool {
        self.faults.iter().any(|planned| wanted(planned.fault))
    }
}

/// The remote at which a fault strikes, if it does at one.
fn remote_of(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::Remote(mood) if mood != Mood::Unauthorised => Some(REMOTES[0]),
        Fault::Net(Link::Remote, _) => Some(REMOTES[0]),
        Fault::DiskFull => Some(REMOTES[2]),
        Fault::Crash(point) if point.name.starts_with("aside-") => Some(REMOTES[2]),
        _ => None,
    }
}

/// Adds what a fault needs to strike at all.
fn needs(faults: &mut Vec<Fault>) {
    let crashes_at = |name: &str| faults.iter().any(|fault| matches!(fault, Fault::Crash(point) if point.name == name));
    // Nothing is retried unless a remote fails, and nothing is overdue unless hints are lost.
    let mut more = Vec::new();
    if crashes_at("retry-after-commit") {
        more.push(Fault::Remote(Mood::Fails));
    }
    if crashes_at("sweep-after-push") {
        more.push(Fault::LoseNats);
    }
    for fault in more {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
}

fn file(number: usize, random: &mut SmallRng) -> PlannedFile {
    const KIB: u64 = 1024;
    let size = match random.random_range(0..10) {
        0 => 0,
        1 => random.random_range(1..1000),
        2 | 3 => random.random_range(1000..64 * KIB),
        4..=6 => random.random_range(64 * KIB..2048 * KIB),
        7 | 8 => random.random_range(2048 * KIB..6144 * KIB),
        _ => {
            if random.random_bool(0.3) {
                20 << 20
            } else {
                2048 * KIB + 1
            }
        }
    };
    PlannedFile {
        name: format!("file-{number}"),
        size,
        remote: REMOTES[random.random_range(0..REMOTES.len())],
        at: Duration::from_millis(random.random_range(0..FILES_WITHIN)),
        early: random.random_bool(0.6),
        twice: random.random_bool(0.2),
        fault: None,
    }
}

fn planned(fault: Fault, random: &mut SmallRng) -> PlannedFault {
    let mut millis = |from: u64, to: u64| Duration::from_millis(random.random_range(from..=to));
    let at = millis(100, FAULTS_WITHIN);
    let (at, lasts) = match fault {
        // From the beginning.
        Fault::Crash(_) | Fault::Clock(..) | Fault::Remote(Mood::Unauthorised) => (Duration::ZERO, Duration::ZERO),
        // Past a lease of 3 s, of which up to a quarter was over.
        Fault::Freeze(_) => (at, millis(3_200, 4_500)),
        // It flips only one byte, so it must last until one passes.
        Fault::Net(_, Trouble::Flip) => (millis(0, 500), millis(2_500, 4_000)),
        Fault::Net(_, Trouble::Delay | Trouble::Throttle | Trouble::Truncate) => (at, millis(1_500, 3_000)),
        Fault::Net(..) => (at, millis(300, 4_000)),
        Fault::DiskFull => (millis(0, 500), millis(2_000, 4_000)),
        Fault::Remote(_) => (millis(0, 500), millis(2_500, 4_000)),
        _ => (at, millis(100, 2_000)),
    };
    PlannedFault { fault, at, lasts, choice: random.random_range(0..=u8::MAX) }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, chunk_size, workers, plain_tells, files, faults } = self;
        let workers: Vec<_> = workers.iter().map(|(role, count)| format!("{count} {role}")).collect();
        writeln!(f, "seed {seed}: chunks of {chunk_size} bytes, {}", workers.join(", "))?;
        writeln!(f, "the remote \"plain\" {} what it has", if *plain_tells { "says" } else { "does not say" })?;
        for PlannedFile { name, size, remote, at, early, twice, fault } in files {
            write!(f, "  at {:5} ms {name}, {size} bytes, to {remote}", at.as_millis())?;
            write!(f, "{}", if *early { ", finalised at once" } else { "" })?;
            write!(f, "{}", if *twice { ", each request twice" } else { "" })?;
            match fault {
                Some(fault) => writeln!(f, "; {fault}")?,
                None => writeln!(f)?,
            }
        }
        for PlannedFault { fault, at, lasts, choice } in faults {
            writeln!(f, "  at {:5} ms {fault}, for {} ms (choice {choice})", at.as_millis(), lasts.as_millis())?;
        }
        Ok(())
    }
}
