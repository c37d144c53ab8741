//! Publishes what MongoDB holds: hints and events. Nobody waits for an announcement, and a sweep makes those that fail.

use std::sync::Arc;

use contract::{Cause, FileId, Step};
use ledger::{FileRecord, Ledger, Outbox};
use tokio::sync::{Semaphore, mpsc};

use crate::{BusError, Hinted, Nats};

/// The most announcements that wait; the sweep makes any beyond these.
const QUEUE: usize = 4096;

/// The most announcements in flight. Each is a round trip or two.
const AT_ONCE: usize = 64;

/// Takes announcements. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Announcer {
    queue: mpsc::Sender<Announcement>,
    at_once: Arc<Semaphore>,
    nats: Nats,
}

#[derive(Debug)]
struct Announcement {
    outbox: Outbox,
    hint: Option<Step>,
}

impl Announcer {
    /// An announcer that works as long as a clone of it exists. `cause` says why its hints are published.
    pub fn start(nats: Nats, ledger: Ledger, cause: Cause) -> Self {
        let (queue, mut announcements) = mpsc::channel::<Announcement>(QUEUE);
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let (permits, connection) = (at_once.clone(), nats.clone());
        // This is not a task of the lifecycle: it makes the workers' last announcements, so it must outlive them.
        tokio::spawn(async move {
            while let Some(announcement) = announcements.recv().await {
                let Ok(permit) = permits.clone().acquire_owned().await else { return };
                let (nats, ledger) = (nats.clone(), ledger.clone());
                tokio::spawn(async move {
                    announce(&nats, &ledger, announcement, cause).await;
                    drop(permit);
                });
            }
        });
        Self { queue, at_once, nats: connection }
    }

    /// Announces a transition of a file: its events, and the hint for the next step if there is one.
    pub fn announce(&self, record: &FileRecord, hint: Option<Step>) {
        self.send(Announcement { outbox: record.outbox(), hint });
    }

    fn send(&self, announcement: Announcement) {
        if self.queue.try_send(announcement).is_err() {
            tracing::debug!("too many announcements wait; the sweep will make this one");
        }
    }

    /// Waits until no announcement is queued or in flight, or NATS is away: then the sweep of another service makes
    /// them.
    pub async fn drain(&self) {
        let drained = async {
            while self.queue.capacity() < QUEUE {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let all = u32::try_from(AT_ONCE).unwrap_or(u32::MAX);
            drop(self.at_once.acquire_many(all).await);
        };
        tokio::select! {
            () = drained => {}
            () = self.nats.lost() => tracing::debug!("NATS is away; a sweep makes the last announcements"),
        }
    }
}

async fn announce(nats: &Nats, ledger: &Ledger, announcement: Announcement, cause: Cause) {
    let Announcement { outbox, hint } = announcement;
    let file = outbox.file;
    if let Some(step) = hint {
        hint_once(nats, ledger, step, file, cause).await.unwrap_or_else(|error| {
            tracing::debug!(%file, "a hint was not published; the sweep will: {error}");
        });
    }
    if let Err(error) = publish(nats, ledger, &outbox).await {
        tracing::debug!(%file, "events were not published; the sweep will: {error}");
    }
}

/// Publishes a hint. If the stream has one for the file already, pushes `due_at` on instead.
pub async fn hint_once(nats: &Nats, ledger: &Ledger, step: Step, file: FileId, cause: Cause) -> Result<(), BusError> {
    fail::fail_point!("break-hints", |_| Ok(()));
    fail::fail_point!("hint-before-publish", |_| std::process::abort());
    if nats.hint(step, file, cause).await? == Hinted::Refused {
        ledger.record_refused_hint(file).await?;
    }
    Ok(())
}

/// Publishes events one by one, each after JetStream has acknowledged the one before, then removes them from the
/// record.
pub async fn publish(nats: &Nats, ledger: &Ledger, outbox: &Outbox) -> Result<(), BusError> {
    for event in &outbox.events {
        fail::fail_point!("event-before-publish", |_| std::process::abort());
        nats.event(event).await?;
    }
    fail::fail_point!("event-before-pop", |_| std::process::abort());
    match outbox.events.last() {
        Some(last) => Ok(ledger.pop_outbox(outbox.file, last.version).await?),
        None => Ok(()),
    }
}
