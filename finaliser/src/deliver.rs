//! One attempt to deliver: compare, send, and compare again after an unknown outcome.

use std::time::Duration;

use bytes::Bytes;
use contract::one_line;
use ledger::Ledger;
use runtime::work::{Fence, LeaseLost};
use settings::OnClash;
use tokio::sync::mpsc;

use crate::plan::Plan;
use crate::prove::ProofError;
use crate::remote::{Comparison, Evidence, Object, Precondition, Remote, RemoteError, Source, UploadLog};
use crate::sabotage;

/// Quick tries within one attempt. After them the record waits for the next attempt, and the slot is free.
const QUICK_TRIES: u32 = 3;

/// The pause before the second quick try; before the third it is doubled. Both have jitter.
const QUICK_PAUSE: Duration = Duration::from_millis(200);

/// Maximum characters of an address in an error.
const ADDRESS: usize = 1000;

/// A delivery that succeeded.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) evidence: Evidence,
    /// Whether the remote may have received the file more than once, because it could not tell what it had.
    pub(crate) at_least_once: bool,
}

/// Why a delivery did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// Something has the path at the remote, and `on_clash` does not let the file replace it.
    #[error("{0}")]
    Conflict(String),
    /// The remote will not accept it.
    #[error("{0}")]
    Refused(String),
    /// The remote may accept it later.
    #[error("{detail}")]
    Later { detail: String, after: Option<Duration> },
    /// The content in MongoDB is wrong, or MongoDB does not answer.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The lease was lost.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
    /// A caller asks to cancel the file, and the remote does not have it.
    #[error("the file is to be cancelled")]
    Cancelled,
    /// Other deliveries take all that may run to the remote.
    #[error("no place was free at the remote")]
    Crowded,
}

impl From<RemoteError> for DeliveryError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Refused(detail) => Self::Refused(detail),
            RemoteError::Later { detail, after } => Self::Later { detail, after },
            // The next try compares.
            RemoteError::Conflict(detail) => Self::Later { detail, after: None },
            RemoteError::Ledger(error) => Self::Proof(ProofError::Ledger(error)),
            RemoteError::Stopped => Self::Lost(LeaseLost),
        }
    }
}

/// A delivery in progress.
pub(crate) struct Delivery<'a> {
    plan: &'a Plan<'a>,
    object: Object,
    /// The progress of an upload in parts, if the remote takes the file in parts.
    log: UploadLog,
    fence: Fence,
    /// Whether this claim or an earlier one may have sent the file. Then an equal object at the remote is ours.
    may_be_there: bool,
    /// Whether a cancel request still counts. It is ignored once the remote may have the file and cannot tell whether
    /// it does: a file that is visible at the remote must end as delivered.
    is_cancellable: bool,
}

impl<'a> Delivery<'a> {
    /// A delivery according to the plan, under the lease of `fence`.
    pub(crate) fn new(plan: &'a Plan<'a>, ledger: &Ledger, fence: &Fence) -> Self {
        let (file, proven, still_ours) = (&plan.claimed.file, plan.content.proven(), fence.clone());
        let upload = file.delivery.as_ref().and_then(|delivery| delivery.upload.clone());
        Self {
            plan,
            object: Object {
                file_id: file.id,
                epoch: file.epoch,
                path: plan.path.clone(),
                precondition: Precondition::NameIsFree,
                may_replace: plan.on_clash == OnClash::Replace,
                size: proven.split.size(),
                sha256: proven.sha256,
                still_ours: Box::new(move || still_ours.check().is_ok()),
            },
            log: UploadLog::recorded(ledger.clone(), plan.claimed.lease.clone(), upload),
            fence: fence.clone(),
            may_be_there: plan.may_be_there,
            is_cancellable: true,
        }
    }

    /// Delivers the file, with a few tries in quick succession.
    pub(crate) async fn run(mut self) -> Result<Delivered, DeliveryError> {
        let ended = self.try_quickly().await;
        let is_over = match &ended {
            Ok(_) | Err(DeliveryError::Conflict(_) | DeliveryError::Refused(_) | DeliveryError::Cancelled) => true,
            // The remote may have parts that were sent before the content was known to be wrong.
            Err(DeliveryError::Proof(error)) => matches!(error, ProofError::Wrong(_)),
            Err(DeliveryError::Later { .. } | DeliveryError::Lost(_) | DeliveryError::Crowded) => false,
        };
        if is_over && let Err(error) = self.log.give_up(self.remote()).await {
            tracing::warn!(file = %self.object.file_id, "an upload was not aborted: {error}");
        }
        ended
    }

    fn remote(&self) -> &'a dyn Remote {
        self.plan.destination.remote.as_ref()
    }

    async fn try_quickly(&mut self) -> Result<Delivered, DeliveryError> {
        // A small file is proved before any connection is opened.
        let small = match self.plan.content.is_small() {
            true => Some(self.plan.content.read_small(&self.fence).await?),
            false => None,
        };
        let mut tries = 1;
        loop {
            let failure = match self.compare_and_send(small.as_deref()).await {
                Err(DeliveryError::Later { detail, after: None }) if tries < QUICK_TRIES => detail,
                ended => return ended,
            };
            tracing::debug!(file = %self.object.file_id, tries, "{failure}; trying again at once");
            tokio::time::sleep(QUICK_PAUSE.mul_f64(f64::from(tries) * rand::random::<f64>())).await;
            self.fence.check()?;
            tries += 1;
        }
    }

    async fn compare_and_send(&mut self, small: Option<&[Bytes]>) -> Result<Delivered, DeliveryError> {
        let mut at_least_once = false;
        fail::fail_point!("finaliser-before-look", |_| std::process::abort());
        let found = match sabotage::is_broken("break-ask") {
            true => Comparison::Absent,
            false => self.remote().compare(&self.object).await?,
        };
        match found {
            Comparison::Equal(evidence) if self.may_be_there => return Ok(Delivered { evidence, at_least_once }),
            Comparison::Unknown(_) if self.may_be_there => {}
            // Nothing of ours is visible there.
            _ if self.fence.is_cancel_requested() => return Err(DeliveryError::Cancelled),
            _ => {}
        }
        let on_clash = self.plan.on_clash;
        self.object.precondition = match found {
            Comparison::Absent => Precondition::NameIsFree,
            Comparison::Equal(evidence) if on_clash != OnClash::Refuse => {
                return Ok(Delivered { evidence, at_least_once });
            }
            // An object that existed before our first attempt is not ours, even if it is equal.
            Comparison::Equal(_) => return Err(self.conflict("the same bytes, which were there before")),
            // Only this object is replaced. If another appears after the comparison, it is compared first.
            Comparison::Different(found) if on_clash == OnClash::Replace => Precondition::Replace(found.etag),
            Comparison::Different(found) => return Err(self.conflict(&found.what)),
            Comparison::Unknown(why) => {
                tracing::debug!(file = %self.object.file_id, "the remote cannot tell what it has: {why}");
                at_least_once = self.may_be_there;
                self.is_cancellable &= !at_least_once;
                match on_clash {
                    OnClash::Replace => Precondition::Replace(None),
                    OnClash::Refuse | OnClash::Skip => Precondition::NameIsFree,
                }
            }
        };
        self.may_be_there = true;
        fail::fail_point!("finaliser-before-send", |_| std::process::abort());
        let evidence = self.send(small).await?;
        fail::fail_point!("finaliser-after-send", |_| std::process::abort());
        Ok(Delivered { evidence, at_least_once })
    }

    /// Sends the whole file. A small file has been proved already; a large file is proved while it is sent.
    async fn send(&self, small: Option<&[Bytes]>) -> Result<Evidence, DeliveryError> {
        if small.is_some() {
            self.check_small()?;
        }
        let content = &self.plan.content;
        let (source, mut opened) = Source::new(self.object.size, content.pieces_waiting());
        let feeding = async move {
            while let Some(pieces) = opened.recv().await {
                self.fence.note_progress(|progress| progress.bytes_delivered = 0);
                match small {
                    Some(proved) => self.feed_small(proved, &pieces).await?,
                    None => content.stream(&self.fence, &pieces, self.is_cancellable).await?,
                }
            }
            Ok::<_, DeliveryError>(())
        };
        let sending = self.remote().send_resumable(&self.object, source, &self.log);
        // If either side stops, the other notices by the channel. The reason of the feeding side takes precedence. But
        // a file that the remote took is delivered: an empty one needs no piece, so a cancel while it is fed stops
        // nothing.
        let evidence = match tokio::join!(feeding, sending) {
            (_, Ok(evidence)) => evidence,
            (Err(error), Err(_)) => return Err(error),
            (Ok(()), Err(error)) => return Err(error.into()),
        };
        self.fence.note_progress(|progress| progress.bytes_delivered = self.object.size);
        Ok(evidence)
    }

    async fn feed_small(&self, proved: &[Bytes], pieces: &mpsc::Sender<Bytes>) -> Result<(), DeliveryError> {
        self.check_small()?;
        for piece in proved {
            if pieces.send(piece.clone()).await.is_err() {
                // The remote has stopped, and reports why.
                break;
            }
        }
        Ok(())
    }

    /// Whether a small file may still be sent. For a large one, `stream` checks that.
    fn check_small(&self) -> Result<(), DeliveryError> {
        self.fence.check()?;
        if self.is_cancellable && self.fence.is_cancel_requested() {
            return Err(DeliveryError::Cancelled);
        }
        Ok(())
    }

    fn conflict(&self, found: &str) -> DeliveryError {
        let address = one_line(&self.remote().address(&self.object.path), ADDRESS);
        DeliveryError::Conflict(format!("expected nothing at {address}, found {found}"))
    }
}
