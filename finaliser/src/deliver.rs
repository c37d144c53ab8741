//! One attempt to deliver: ask the remote, send, ask again where the outcome is not known.

use std::time::Duration;

use bytes::Bytes;
use contract::ObjectPath;
use runtime::work::{Fence, LeaseLost};
use settings::OnClash;
use tokio::sync::mpsc;

use crate::prove::{Content, ProofError};
use crate::remote::{Evidence, Look, Onto, Parcel, Remote, RemoteError, Source, UploadLog};
use crate::sabotage;

/// Quick tries within one attempt; after them the record waits for the next one, and the slot is free.
const QUICK_TRIES: u32 = 3;

/// The pause before the second quick try; before the third it is doubled, both with jitter.
const QUICK_PAUSE: Duration = Duration::from_millis(200);

/// What a delivery came to.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) evidence: Evidence,
    pub(crate) object: ObjectPath,
    /// Whether the bytes may have reached the remote more than once, because it could not tell what it had.
    pub(crate) at_least_once: bool,
}

/// Why a delivery did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliveryError {
    /// The remote has something else under that name.
    #[error("{0}")]
    Clash(String),
    /// The remote will not take it.
    #[error("{0}")]
    Refused(String),
    /// The remote may take it later.
    #[error("{detail}")]
    Later { detail: String, after: Option<Duration> },
    /// MongoDB's content is not right, or MongoDB does not answer.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The lease was lost.
    #[error(transparent)]
    Lost(#[from] LeaseLost),
    /// Somebody wants the file cancelled, and the remote does not have it.
    #[error("the file is to be cancelled")]
    Cancelled,
}

impl From<RemoteError> for DeliveryError {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Refused(detail) => Self::Refused(detail),
            RemoteError::Later { detail, after } => Self::Later { detail, after },
            RemoteError::Clash(detail) => Self::Later { detail, after: None },
            RemoteError::Unrecorded(error) => Self::Proof(ProofError::Ledger(error)),
            RemoteError::Stopped => Self::Lost(LeaseLost),
        }
    }
}

/// A delivery under way.
pub(crate) struct Delivery<'a> {
    pub(crate) remote: &'a dyn Remote,
    pub(crate) parcel: Parcel,
    /// How far an upload in parts is, where the remote takes the file in parts.
    pub(crate) log: UploadLog,
    pub(crate) content: Content,
    pub(crate) fence: Fence,
    pub(crate) on_clash: OnClash,
    /// Whether we, or a holder before us, may have sent it: then an equal file at the remote is ours.
    pub(crate) may_be_there: bool,
    /// Whether a wish to cancel still counts. Not any more where the remote may have the file and cannot tell: what is visible
    /// there always ends as delivered.
    pub(crate) heeds_cancel: bool,
}

impl Delivery<'_> {
    /// Delivers the file, trying a few times in quick succession.
    pub(crate) async fn run(mut self) -> Result<Delivered, DeliveryError> {
        let ended = self.try_quickly().await;
        let over = match &ended {
            Ok(_) | Err(DeliveryError::Clash(_) | DeliveryError::Refused(_) | DeliveryError::Cancelled) => true,
            // Parts that were sent before the whole was known to be wrong.
            Err(DeliveryError::Proof(error)) => matches!(error, ProofError::Wrong(_)),
            Err(DeliveryError::Later { .. } | DeliveryError::Lost(_)) => false,
        };
        // What was put together is no upload any more; then the remote only says so.
        if over && let Err(error) = self.log.give_up(self.remote).await {
            tracing::warn!(file = %self.parcel.file_id, "an upload was not aborted: {error}");
        }
        ended
    }

    async fn try_quickly(&mut self) -> Result<Delivered, DeliveryError> {
        // A small file is proved before any connection is opened.
        let small = match self.content.is_small() {
            true => Some(self.content.read_small(&self.fence).await?),
            false => None,
        };
        let mut tries = 1;
        loop {
            let failure = match self.ask_and_send(small.as_deref()).await {
                Err(DeliveryError::Later { detail, after: None }) if tries < QUICK_TRIES => detail,
                ended => return ended,
            };
            tracing::debug!(file = %self.parcel.file_id, tries, "{failure}; trying again at once");
            tokio::time::sleep(QUICK_PAUSE.mul_f64(f64::from(tries) * rand::random::<f64>())).await;
            self.fence.check()?;
            tries += 1;
        }
    }

    async fn ask_and_send(&mut self, small: Option<&[Bytes]>) -> Result<Delivered, DeliveryError> {
        let mut at_least_once = false;
        fail::fail_point!("finaliser-before-look", |_| std::process::abort());
        let found = match sabotage::is_broken("break-ask") {
            true => Look::Absent,
            false => self.remote.look(&self.parcel).await?,
        };
        match found {
            Look::Equal(evidence) if self.may_be_there => {
                return Ok(Delivered { evidence, object: self.parcel.object.clone(), at_least_once });
            }
            Look::Unknown(_) if self.may_be_there => {}
            // Nothing of ours is visible there.
            _ if self.fence.is_cancel_requested() => return Err(DeliveryError::Cancelled),
            _ => {}
        }
        match found {
            Look::Absent => self.parcel.onto = Onto::Nothing,
            Look::Equal(evidence) if self.on_clash != OnClash::Refuse => {
                return Ok(Delivered { evidence, object: self.parcel.object.clone(), at_least_once });
            }
            // What was there before our first attempt is not ours, whatever it is.
            Look::Equal(_) => return Err(self.clash("the same bytes, which were there before")),
            // Only what was seen: what comes there after this look is another's, and is looked at first.
            Look::Other(found) if self.on_clash == OnClash::Replace => self.parcel.onto = Onto::Replacing(found.etag),
            Look::Other(found) => return Err(self.clash(&found.what)),
            Look::Unknown(why) => {
                tracing::debug!(file = %self.parcel.file_id, "the remote cannot tell what it has: {why}");
                at_least_once = self.may_be_there;
                self.heeds_cancel &= !at_least_once;
                self.parcel.onto = match self.on_clash {
                    OnClash::Replace => Onto::Replacing(None),
                    OnClash::Refuse | OnClash::Skip => Onto::Nothing,
                };
            }
        }
        self.may_be_there = true;
        fail::fail_point!("finaliser-before-send", |_| std::process::abort());
        let evidence = self.send(small).await?;
        fail::fail_point!("finaliser-after-send", |_| std::process::abort());
        Ok(Delivered { evidence, object: self.parcel.object.clone(), at_least_once })
    }

    /// Sends the whole: a small file that is proved, or a large one that is proved meanwhile.
    async fn send(&self, small: Option<&[Bytes]>) -> Result<Evidence, DeliveryError> {
        if small.is_some() {
            self.check()?;
        }
        let (source, mut opened) = Source::new(self.parcel.size, self.content.queue());
        let giving = async move {
            while let Some(pieces) = opened.recv().await {
                self.fence.note_progress(|progress| progress.bytes_delivered = 0);
                match small {
                    Some(proved) => self.give(proved, &pieces).await?,
                    None => self.content.stream(&self.fence, &pieces, self.heeds_cancel).await?,
                }
            }
            Ok::<_, DeliveryError>(())
        };
        let sending = self.remote.send_resumable(&self.parcel, source, &self.log);
        // Whichever of the two stops, the other notices by the channel; the prover's reason comes first.
        let (given, sent) = tokio::join!(giving, sending);
        given?;
        let evidence = sent?;
        self.fence.note_progress(|progress| progress.bytes_delivered = self.parcel.size);
        Ok(evidence)
    }

    async fn give(&self, proved: &[Bytes], pieces: &mpsc::Sender<Bytes>) -> Result<(), DeliveryError> {
        self.check()?;
        for piece in proved {
            if pieces.send(piece.clone()).await.is_err() {
                // The remote has stopped, and says why.
                break;
            }
        }
        Ok(())
    }

    /// Whether a file that is proved may still be sent.
    fn check(&self) -> Result<(), DeliveryError> {
        self.fence.check()?;
        if self.heeds_cancel && self.fence.is_cancel_requested() {
            return Err(DeliveryError::Cancelled);
        }
        Ok(())
    }

    fn clash(&self, found: &str) -> DeliveryError {
        let address = self.remote.address(&self.parcel.object);
        DeliveryError::Clash(format!("expected nothing at {address}, found {found}"))
    }
}
