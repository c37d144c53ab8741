//! The judge of a run: it reads what MongoDB, NATS and the remotes have, and says which rules are broken. It reads the raw
//! documents and messages, with none of the code that it judges.

mod content;
mod delivery;
mod doctor;
mod events;
mod records;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use contract::{FileId, State};

use crate::{Content, Sink, System};

pub use records::Found;

/// What must hold after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// No process ends except by what was done to it.
    Alive,
    /// Every accepted file is delivered with an equal SHA-256, or terminal for a reason that the run gives, or at rest in
    /// `stored` after a wrong expectation.
    Accounted,
    /// No remote with conditional create takes a file twice, and no other remote takes it with other bytes.
    Once,
    /// Nothing at a remote differs from its source, nothing incomplete has a final name, no staged file is left.
    Equal,
    /// Nothing is stuck past the deadline.
    Moving,
    /// No content outlives its retention or the current generation.
    Forgotten,
    /// One event for each change of state, in order; the last one is the record's state; no outbox is left over.
    Told,
    /// `waybill doctor` finds nothing.
    Sound,
}

impl Rule {
    /// Its number in docs/reliability.md.
    pub const fn number(self) -> &'static str {
        match self {
            Self::Alive => "R0",
            Self::Accounted => "R1",
            Self::Once => "R2",
            Self::Equal => "R3",
            Self::Moving => "R4",
            Self::Forgotten => "R5",
            Self::Told => "R6",
            Self::Sound => "R7",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

/// A rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// What was expected and what was found.
    pub what: String,
    /// Whether waiting may still repair it, until the deadline.
    pub may_pass: bool,
}

impl Violation {
    /// A rule that is broken for good.
    pub fn new(rule: Rule, what: impl Into<String>) -> Self {
        Self { rule, what: what.into(), may_pass: false }
    }

    /// A rule that is not kept yet.
    pub fn not_yet(rule: Rule, what: impl Into<String>) -> Self {
        Self { may_pass: true, ..Self::new(rule, what) }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// A file that the gateway accepted from a client, and what the client asked for.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The file.
    pub id: FileId,
    /// Its name, at the source and at the remote.
    pub name: String,
    /// The remote it should go to.
    pub remote: String,
    /// Its content when the client read it.
    pub content: Content,
    /// Whether it may rest in `stored` because its finalise request expected something else.
    pub may_rest: bool,
    /// Why the gateway refused the finalise request, if it did: `digest-mismatch`.
    pub refused: Option<String>,
    /// The kinds of problems with which the file may end as `failed`: those that the run's faults cause.
    pub excuses: Vec<&'static str>,
}

/// What is judged.
#[derive(Debug)]
pub struct Case<'a> {
    /// The system, with all of its services running.
    pub system: &'a System,
    /// The files that the gateway accepted.
    pub sent: &'a [Sent],
    /// The sinks, by the name of their remote.
    pub sinks: &'a [(String, Sink)],
    /// The last loss of NATS' data: events from before are gone.
    pub nats_lost: Option<&'a NatsLost>,
    /// Whether the content of terminal files must be gone.
    pub forgets: bool,
}

/// A loss of NATS' data.
#[derive(Debug, Clone)]
pub struct NatsLost {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The states of the files then, as far as MongoDB answered. A file that is in another state now has later events.
    pub states: BTreeMap<FileId, State>,
}

impl NatsLost {
    /// A loss that happens now: NATS is down.
    pub async fn now(system: &System) -> Self {
        let at = mongodb::bson::DateTime::now().timestamp_millis();
        let reading = async { records::read(&system.database().await).await };
        let records = tokio::time::timeout(Duration::from_secs(1), reading).await;
        let records = records.ok().and_then(Result::ok).unwrap_or_default();
        Self { at, states: records.into_iter().map(|(file, found)| (file, found.state)).collect() }
    }
}

/// All rules that are broken now.
///
/// # Errors
///
/// MongoDB or NATS cannot be asked.
pub async fn check(case: &Case<'_>) -> anyhow::Result<Vec<Violation>> {
    let database = case.system.database().await;
    let records = records::read(&database).await?;
    let mut broken = delivery::accounted(case, &records);
    broken.extend(delivery::once(case));
    broken.extend(delivery::equal(case));
    broken.extend(delivery::moving(&records));
    broken.extend(content::forgotten(case, &database, &records).await?);
    broken.extend(events::told(case, &records).await?);
    Ok(broken)
}

/// What `waybill doctor` finds in a system that has come to rest.
pub use doctor::sound;
