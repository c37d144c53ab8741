use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Step;

/// Where a file is on its way. The record in MongoDB holds it; nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Recorded; no chunker has claimed it yet.
    Prepared,
    /// Claimed by a chunker, or waiting for the next one to claim it.
    Chunking,
    /// All chunks are in MongoDB and proved against the source. The file rests here until an expectation is accepted.
    Stored,
    /// Claimed by a finaliser, or waiting for the next one to claim it.
    Delivering,
    /// At the remote, with a receipt. Terminal.
    Delivered,
    /// Given up, with a reason. Terminal.
    Failed,
    /// Cancelled by a caller. Terminal.
    Cancelled,
}

impl State {
    /// All states, in the order in which a file passes through them.
    pub const ALL: [Self; 7] = [
        Self::Prepared,
        Self::Chunking,
        Self::Stored,
        Self::Delivering,
        Self::Delivered,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word for it in records, answers and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Chunking => "chunking",
            Self::Stored => "stored",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The step that takes a file on from here; `None` where nothing further happens to it by itself.
    pub const fn next_step(self) -> Option<Step> {
        match self {
            Self::Prepared | Self::Chunking => Some(Step::Prepare),
            Self::Stored | Self::Delivering => Some(Step::Finalise),
            Self::Delivered | Self::Failed | Self::Cancelled => None,
        }
    }

    /// Whether nothing further happens to the file by itself.
    pub const fn is_terminal(self) -> bool {
        self.next_step().is_none()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|state| state.as_str()).collect();
            format!("expected a state ({}), found {text:?}", known.join(", "))
        })
    }
}

/// What an event says has happened; the last token of its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A file was recorded.
    Prepared,
    /// A chunker began to read it.
    Chunking,
    /// All its chunks are stored and proved.
    Stored,
    /// What is stored is not what a finalise request expected; the file rests in `stored`.
    Mismatch,
    /// A finaliser began to deliver it.
    Delivering,
    /// It is at the remote.
    Delivered,
    /// It was given up.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It had failed, or its content was wrong, and is taken up again.
    Requeued,
}

impl EventKind {
    /// The word for it in subjects and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Chunking => "chunking",
            Self::Stored => "stored",
            Self::Mismatch => "mismatch",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Requeued => "requeued",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
