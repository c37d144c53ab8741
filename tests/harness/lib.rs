//! The system as a user meets it: the real binaries on real servers, each test with a prefix, a database and folders of its own.
//!
//! Nothing here sleeps to let something happen: [`until`] waits for a condition, and fails loudly at a generous deadline.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a harness fails by panicking, with what it found")]

mod api;
mod binaries;
pub mod checker;
mod history;
pub mod plain_http;
mod proxy;
pub mod run;
mod sink;
mod source;
mod system;

use std::time::{Duration, Instant};

pub use api::{Answer, Api};
pub use binaries::{Process, binary, without_failpoints};
pub use history::{Entry, History, Outcome};
pub use proxy::{NetFault, Proxy, Way};
pub use sink::{Behaviour, ClosedSink, Manners, Put, Sink};
pub use source::{Content, write_source};
pub use system::{Options, System, Variable, gather};

/// How long a condition may take on a busy machine. Nothing is slow enough to need it; it only ends what hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Asks again and again until `condition` gives something. Panics at the deadline, naming what was waited for.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
