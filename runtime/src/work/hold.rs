use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bus::Job;
use ledger::{ClaimedFile, Lease, Progress, Renewal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::Service;

/// Renews a lease until it is dropped.
#[derive(Debug)]
pub struct Holding {
    fence: Fence,
    _keeper: AbortOnDropHandle<()>,
}

/// Tells whether a lease still holds. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fence(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Until when the lease certainly holds, by this process' own clock.
    safe_until: Mutex<Instant>,
    /// An eighth of the lease, from `safe_until` to its end.
    margin: Duration,
    lost: CancellationToken,
    /// Another worker has claimed the file, or the file left the phase.
    displaced: AtomicBool,
    cancel: CancellationToken,
    progress: Mutex<Progress>,
}

/// The lease was lost: stop at once, change nothing, acknowledge nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lease on the file was lost")]
pub struct LeaseLost;

/// How work under a lease ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// It came to its end.
    Finished(T),
    /// The lease was lost on the way.
    Lost,
    /// The file must be handed back: the process stops, or MongoDB did not answer for so long that the lease could not
    /// be renewed.
    HandBack,
}

impl Fence {
    /// Whether the lease holds now. Asked before every chunk, and before the act that makes a file visible.
    pub fn check(&self) -> Result<(), LeaseLost> {
        if self.0.lost.is_cancelled() || Instant::now() >= self.safe_until() {
            self.0.lost.cancel();
            return Err(LeaseLost);
        }
        Ok(())
    }

    /// Waits until a caller asks to cancel the file. A renewal brings the request.
    pub async fn cancel_requested(&self) {
        self.0.cancel.cancelled().await;
    }

    /// Whether a caller has asked to cancel the file.
    pub fn is_cancel_requested(&self) -> bool {
        self.0.cancel.is_cancelled()
    }

    /// How work ends after its lease was lost. A holder that noticed MongoDB's silence before the lease ended may hand
    /// the file back, if it still holds the file once MongoDB answers. A displaced holder, or one that stood still past
    /// the end of the lease, changes nothing.
    fn end_of_loss<T>(&self) -> Ended<T> {
        let in_time = Instant::now() < self.safe_until() + self.0.margin;
        if in_time && !self.0.displaced.load(Ordering::Acquire) { Ended::HandBack } else { Ended::Lost }
    }

    fn safe_until(&self) -> Instant {
        *self.0.safe_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the progress; the next renewal writes it.
    pub fn note_progress(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.0.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn progress(&self) -> Progress {
        *self.0.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holding {
    /// Keeps the lease alive, and the message of `job` with it.
    pub fn start(service: &Service, held: &ClaimedFile, job: &Job) -> Self {
        let lease = &held.lease;
        let cancel = CancellationToken::new();
        if held.file.cancel_requested {
            cancel.cancel();
        }
        let fence = Fence(Arc::new(Shared {
            safe_until: Mutex::new(safe_until(lease.taken, lease.length)),
            margin: lease.length / 8,
            lost: CancellationToken::new(),
            displaced: AtomicBool::new(false),
            cancel,
            progress: Mutex::new(held.file.progress),
        }));
        let keeper = tokio::spawn(keep(service.clone(), lease.clone(), fence.clone(), job.clone()));
        Self { fence, _keeper: AbortOnDropHandle::new(keeper) }
    }

    /// The fence of this lease.
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Runs `work` until it ends, the lease is lost, or the process must hand its work back. In the last two cases it
    /// drops `work`, which must tolerate that at any await.
    ///
    /// Then nobody renews the lease any more: a renewal would meet the write that ends the attempt and frees the lease,
    /// and find the lease lost.
    pub async fn run<T>(self, service: &Service, work: impl Future<Output = T>) -> Ended<T> {
        tokio::select! {
            biased;
            () = self.fence.0.lost.cancelled() => self.fence.end_of_loss(),
            () = service.life.handing_back() => Ended::HandBack,
            // The work may have noticed the loss itself; whatever it returns then must not be written.
            ended = work => match self.fence.check() {
                Ok(()) => Ended::Finished(ended),
                Err(LeaseLost) => self.fence.end_of_loss(),
            },
        }
    }
}

/// A holder stops an eighth of the lease before its end: MongoDB's clock starts at the write, ours before we sent it.
fn safe_until(sent: Instant, length: Duration) -> Instant {
    sent + length.mul_f64(0.875)
}

/// Renews until the lease is lost: because MongoDB says so, or by our own clock while MongoDB says nothing.
async fn keep(service: Service, lease: Lease, fence: Fence, job: Job) {
    loop {
        let renewal = async {
            tokio::time::sleep(lease.length / 4).await;
            let sent = Instant::now();
            (sent, service.ledger.renew(&lease, Some(fence.progress())).await)
        };
        // An operation may take longer than the lease lasts; that must not keep the holder from stopping.
        match tokio::time::timeout_at(fence.safe_until().into(), renewal).await {
            Ok((sent, Ok(renewal @ (Renewal::Kept | Renewal::CancelRequested)))) => {
                if renewal == Renewal::CancelRequested {
                    fence.0.cancel.cancel();
                }
                *fence.0.safe_until.lock().unwrap_or_else(PoisonError::into_inner) = safe_until(sent, lease.length);
                job.still_alive().await;
            }
            Ok((_, Ok(Renewal::Lost))) => {
                tracing::warn!(file = %lease.file, epoch = %lease.epoch, "another worker holds the file; stopping");
                fence.0.displaced.store(true, Ordering::Release);
                fence.0.lost.cancel();
            }
            // The next renewal may succeed while the lease lasts. Once the lease is over, the check below ends the
            // loop.
            Ok((_, Err(error))) => tracing::warn!(file = %lease.file, "a lease was not renewed: {error}"),
            Err(_) => tracing::warn!(file = %lease.file, "a lease was not renewed in time; stopping"),
        }
        if fence.check().is_err() {
            return;
        }
    }
}
