use std::sync::Arc;
use std::time::Duration;

use bus::{Announcer, Counters, Hints, Nats};
use contract::{Names, Role, Step};
use ledger::{Ledger, LedgerError};
use settings::Settings;

use crate::Lifecycle;

/// A running service: its settings, its connections, its lifecycle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    /// Which of the four services it is.
    pub role: Role,
    /// The name of this instance, unlike any other.
    pub worker: String,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The names on NATS.
    pub names: Names,
    /// The truth.
    pub ledger: Ledger,
    /// The control connection.
    pub nats: Nats,
    /// Announces hints and events.
    pub announcer: Announcer,
    /// When to stop.
    pub life: Lifecycle,
    /// How much was done.
    pub counters: Counters,
}

impl Service {
    /// What keeps this service from working; nothing if it is ready.
    pub async fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.life.is_stopping() {
            problems.push("stopping".to_owned());
        }
        problems.extend(self.nats.problem(self.settings.files.chunk_size));
        match self.ledger.ping().await {
            Ok(()) => {}
            Err(error @ LedgerError::NotPrimary) => problems.push(error.to_string()),
            Err(error) => {
                // The error names hosts, and anybody may ask without a token.
                tracing::warn!("MongoDB is not ready: {error}");
                problems.push("MongoDB does not answer; the log of the service says why".to_owned());
            }
        }
        problems
    }

    /// Waits until nothing keeps this service from working.
    pub async fn wait_until_ready(&self) {
        let mut connects = self.nats.connects();
        while !self.problems().await.is_empty() {
            tokio::select! {
                _ = connects.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    /// The hints of `step`, for this service to take up to `concurrency` of them at once.
    pub fn hints(&self, step: Step, concurrency: usize) -> Hints {
        Hints {
            step,
            concurrency,
            role: self.role,
            nats: self.nats.clone(),
            ledger: self.ledger.clone(),
            lease: self.settings.work.lease(),
            chunk_size: self.settings.files.chunk_size,
            counters: self.counters.clone(),
            stopping: self.life.stopping_token().clone(),
        }
    }
}
