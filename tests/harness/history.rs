//! What clients did and how it ended, as in Jepsen: a call without an answer may have been done.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use contract::FileId;

/// What is known of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok(String),
    /// It was not done, with the reason.
    Failed(String),
    /// Nobody knows: the call broke off, or the server could not say.
    Unknown(String),
}

/// One line of the history.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When it ended, from the beginning of the history.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// What was done.
    pub what: String,
    /// To which file, if that is known.
    pub file: Option<FileId>,
    /// How it ended.
    pub outcome: Outcome,
}

/// Everything that clients and faults did in a run, in the order in which it ended.
#[derive(Debug)]
pub struct History {
    begun: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl Default for History {
    fn default() -> Self {
        Self { begun: Instant::now(), entries: Mutex::default() }
    }
}

impl History {
    /// The time since its beginning.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Notes an operation that began at `from`, by the time of this history.
    pub fn note(&self, from: Duration, what: impl Into<String>, file: Option<FileId>, outcome: Outcome) {
        let at = self.elapsed();
        let entry = Entry { at, took: at.saturating_sub(from), what: what.into(), file, outcome };
        self.entries.lock().unwrap().push(entry);
    }

    /// Notes something that was done to the system, not by a client.
    pub fn event(&self, what: impl Into<String>) {
        self.note(self.elapsed(), what, None, Outcome::Ok(String::new()));
    }

    /// What was noted so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap().clone()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, detail) = match &self.outcome {
            Outcome::Ok(detail) => ("ok", detail),
            Outcome::Failed(detail) => ("failed", detail),
            Outcome::Unknown(detail) => ("unknown", detail),
        };
        write!(f, "{:7.3} s {word:7} {}", self.at.as_secs_f64(), self.what)?;
        if let Some(file) = self.file {
            write!(f, " [{file}]")?;
        }
        if !detail.is_empty() {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries().iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}
