//! The system as a user meets it: the real binaries on real servers, each test with a prefix, a database and folders of its own.
//!
//! Nothing here sleeps to let something happen: [`until`] waits for a condition, and fails loudly at a generous deadline.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a harness fails by panicking, with what it found")]

mod binaries;
pub mod checker;
mod history;
pub mod run;
mod sink;
mod source;
mod system;

pub use binaries::{Process, binary, without_failpoints};
pub use history::{Entry, History, Outcome};
pub use sink::{Behaviour, ClosedSink, Manners, Put, Sink};
pub use source::{Content, write_source};
pub use system::{Options, System, Variable, gather};
pub use testing::{Answer, Api, DEADLINE, NetFault, Proxy, Way, until};
