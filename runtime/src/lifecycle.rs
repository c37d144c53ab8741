//! How a process ends: when asked to stop, it finishes or hands back its work; after its grace period it is cut off.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The lifecycle of a process, shared by all its tasks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    stopping: CancellationToken,
    handing_back: CancellationToken,
    tasks: TaskTracker,
    failure: Arc<OnceLock<String>>,
    grace: Duration,
}

/// Why a process ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum EndedBadly {
    /// A task that the process needs has ended.
    #[error("{0}")]
    Task(String),
    /// Something did not end within the grace period.
    #[error("tasks were still running after the grace period of {0:?} and were aborted")]
    Cut(Duration),
}

impl Lifecycle {
    /// A lifecycle that takes at most `grace` to end.
    pub fn new(grace: Duration) -> Self {
        Self {
            stopping: CancellationToken::new(),
            handing_back: CancellationToken::new(),
            tasks: TaskTracker::new(),
            failure: Arc::default(),
            grace,
        }
    }

    /// Asks everything to stop. Work that is not finished after half of the grace period is handed back.
    pub fn stop(&self) {
        if self.stopping.is_cancelled() {
            return;
        }
        self.stopping.cancel();
        let (handing_back, half) = (self.handing_back.clone(), self.grace / 2);
        tokio::spawn(async move {
            tokio::time::sleep(half).await;
            handing_back.cancel();
        });
    }

    /// Whether the process was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// The token that is cancelled when the process is asked to stop.
    pub const fn stopping_token(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Waits until the process is asked to stop: take nothing new from then on.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Waits until work that is not finished must be handed back.
    pub async fn handing_back(&self) {
        self.handing_back.cancelled().await;
    }

    /// Runs a task that lasts as long as the process. If it ends before the process is asked to stop, the process ends with an
    /// error.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let life = self.clone();
        self.tasks.spawn(async move {
            let ended = tokio::spawn(task).await;
            if let Err(panic) = ended {
                life.fail(format!("the task {name} broke down: {panic}"));
            } else if !life.is_stopping() {
                life.fail(format!("the task {name} ended by itself"));
            }
        });
    }

    /// Ends the process with an error. The first reason counts.
    pub fn fail(&self, reason: String) {
        if self.failure.set(reason).is_ok() {
            self.stop();
        }
    }

    /// Waits until the process was asked to stop and all its tasks have ended, at most for the grace period.
    pub async fn ended(&self) -> Result<(), EndedBadly> {
        self.stopping().await;
        self.tasks.close();
        let in_time = tokio::time::timeout(self.grace, self.tasks.wait()).await;
        match (self.failure.get(), in_time) {
            (Some(reason), _) => Err(EndedBadly::Task(reason.clone())),
            (None, Ok(())) => Ok(()),
            (None, Err(_)) => Err(EndedBadly::Cut(self.grace)),
        }
    }

    /// Stops at the first SIGTERM, SIGINT or SIGHUP (the terminal was closed). The second ends the process at once with status 130, as shells do.
    #[expect(clippy::disallowed_methods, reason = "the second signal means: at once")]
    pub fn stop_on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let life = self.clone();
        tokio::spawn(async move {
            for first in [true, false] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {}
                }
                if first {
                    tracing::info!(grace = ?life.grace, "stopping; a second signal cuts");
                    life.stop();
                }
            }
            std::process::exit(130);
        });
        Ok(())
    }
}
