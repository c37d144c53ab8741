use std::fmt;

use crate::{EventKind, FileId};

/// The four services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes requests over HTTP.
    Gateway,
    /// Reads and splits files.
    Chunker,
    /// Persists chunks.
    Store,
    /// Proves and delivers files.
    Finaliser,
}

impl Role {
    /// All roles, in the order in which a file passes through them.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Chunker, Self::Store, Self::Finaliser];

    /// The word for it in names and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Chunker => "chunker",
            Self::Store => "store",
            Self::Finaliser => "finaliser",
        }
    }

    /// One sentence about it, shown by the NATS services API.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Gateway => "Takes prepare and finalise requests over HTTP, records them and announces them",
            Self::Chunker => {
                "Reads files from shared storage, splits and hashes them and sends the chunks to the store"
            }
            Self::Store => "Checks chunks and persists them in MongoDB",
            Self::Finaliser => "Proves that stored files are whole and streams them to their remote",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A step that a worker is asked to take with a file: the kind of hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read, split and store it.
    Prepare,
    /// Prove and deliver it.
    Finalise,
}

impl Step {
    /// The word for it in subjects.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Finalise => "finalise",
        }
    }

    /// Who takes the step; the durable consumer has the same name.
    pub const fn role(self) -> Role {
        match self {
            Self::Prepare => Role::Chunker,
            Self::Finalise => Role::Finaliser,
        }
    }
}

/// Every name that Waybill uses on NATS, under one prefix. Two systems with different prefixes can share a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

/// A prefix that cannot begin subjects, streams and service names alike.
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected a prefix of 1 to 32 characters a-z, 0-9 and '-', beginning with a letter, found {found:?}")]
pub struct PrefixError {
    found: String,
}

impl Names {
    /// The names under `prefix` (`waybill` by default).
    pub fn new(prefix: &str) -> Result<Self, PrefixError> {
        let valid = (1..=32).contains(&prefix.len())
            && prefix.starts_with(|c: char| c.is_ascii_lowercase())
            && prefix.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !valid {
            return Err(PrefixError { found: prefix.chars().take(64).collect() });
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    fn stream(&self, suffix: &str) -> String {
        format!("{}_{suffix}", self.prefix.to_ascii_uppercase().replace('-', "_"))
    }

    /// The stream of hints.
    pub fn work_stream(&self) -> String {
        self.stream("WORK")
    }

    /// The stream of events.
    pub fn events_stream(&self) -> String {
        self.stream("EVENTS")
    }

    /// The stream of dead letters.
    pub fn dead_stream(&self) -> String {
        self.stream("DEAD")
    }

    /// The subject of the hint to take `step` with a file.
    pub fn hint(&self, step: Step, file: FileId) -> String {
        format!("{}.{}.{file}", self.prefix, step.as_str())
    }

    /// All hints to take `step`.
    pub fn hints(&self, step: Step) -> String {
        format!("{}.{}.>", self.prefix, step.as_str())
    }

    /// The subject of an event of a file.
    pub fn event(&self, file: FileId, kind: EventKind) -> String {
        format!("{}.event.{file}.{kind}", self.prefix)
    }

    /// All events.
    pub fn events(&self) -> String {
        format!("{}.event.>", self.prefix)
    }

    /// The subject of a worker's dead letters: messages that it cannot read.
    pub fn dead(&self, role: Role) -> String {
        format!("{}.dead.{role}", self.prefix)
    }

    /// All dead letters.
    pub fn all_dead(&self) -> String {
        format!("{}.dead.>", self.prefix)
    }

    /// The subject on which stores take chunks. Outside the prefix, so that a subscriber to `waybill.>` gets no copy of
    /// the bytes.
    pub fn chunk_put(&self) -> String {
        format!("{}-data.chunk.put", self.prefix)
    }

    /// The subject on which services report their status.
    pub fn status(&self, role: Role) -> String {
        format!("{}.status.{role}", self.prefix)
    }

    /// The name of a service in the NATS services API.
    pub fn service(&self, role: Role) -> String {
        format!("{}-{role}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_documented() {
        let names = Names::new("waybill").unwrap();
        let id: FileId = "0190f3c2-7b1e-7a10-9f2e-5d1c0c9f6b11".parse().unwrap();
        assert_eq!(names.work_stream(), "WAYBILL_WORK");
        assert_eq!(names.hint(Step::Prepare, id), format!("waybill.prepare.{id}"));
        assert_eq!(names.event(id, EventKind::Stored), format!("waybill.event.{id}.stored"));
        assert_eq!(names.chunk_put(), "waybill-data.chunk.put");
        assert_eq!(Names::new("test-7").unwrap().events_stream(), "TEST_7_EVENTS");
    }

    #[test]
    fn a_prefix_cannot_widen_a_subject() {
        for prefix in ["", "a.b", "a>", "*", "A", "-a", "a b", &"a".repeat(33)] {
            assert!(Names::new(prefix).is_err(), "{prefix:?} was accepted");
        }
    }
}
