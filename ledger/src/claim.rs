use std::time::{Duration, Instant};

use contract::{Epoch, EventKind, FileId, State, Step, Timestamp};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReturnDocument;
use uuid::Uuid;

use crate::bson_form::{by_id, literal, now_plus};
use crate::transition::Transition;
use crate::{FileRecord, Ledger, LedgerError};

/// How often a claim is tried again when the record changes between the try and the look at why it failed.
const TRIES: u32 = 4;

/// Who wants to claim a file, what for, and for how long.
#[derive(Debug, Clone)]
pub struct ClaimRequest<'a> {
    /// The file.
    pub file: FileId,
    /// The name of the worker, for people.
    pub worker: &'a str,
    /// How long the claim lasts unless renewed.
    pub lease: Duration,
}

/// How a file is cut and kept if it was not claimed before. A generation that has begun keeps what it has.
#[derive(Debug, Clone, Copy)]
pub struct GenerationOptions {
    /// Bytes of a chunk.
    pub chunk_size: u32,
    /// Up to how many bytes all chunks go into one document.
    pub embed_limit: u64,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    /// The file is ours for the length of the lease.
    Taken(Box<ClaimedFile>),
    /// Another holds it.
    HeldByAnother {
        /// For how long at most.
        remaining: Duration,
    },
    /// There is nothing to do: this step is done, or not due yet, or the file is terminal or unknown.
    NothingToDo,
}

/// The right to work on a file, for a time.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The file.
    pub file: FileId,
    /// Which claim of it.
    pub epoch: Epoch,
    /// When it was claimed, by MongoDB's clock.
    pub claimed_at: Timestamp,
    /// A moment of this process' own clock that lies before `claimed_at`.
    pub taken: Instant,
    /// How long it lasts from its claim or last renewal.
    pub length: Duration,
    pub(crate) owner: String,
}

/// A file with the lease on it.
#[derive(Debug)]
pub struct ClaimedFile {
    /// The right.
    pub lease: Lease,
    /// The record as the claim left it.
    pub file: FileRecord,
}

impl Lease {
    /// Now by MongoDB's clock, as far as this process can tell: never earlier than it is there, later by one round trip at most.
    pub fn now(&self) -> Timestamp {
        self.claimed_at.after(self.taken.elapsed())
    }

    /// The filter that only the record passes which this lease holds now. Whoever wakes after its lease has run out
    /// changes nothing, even if nobody has claimed the file since.
    pub(crate) fn filter(&self) -> Document {
        let mut filter = self.owned();
        filter.insert("$expr", doc! { "$gt": ["$lease.until", "$$NOW"] });
        filter
    }

    /// The filter that the record passes while nobody has claimed it after this lease, run out or not.
    pub(crate) fn owned(&self) -> Document {
        doc! { "_id": crate::bson_form::id(self.file), "epoch": self.epoch.0, "lease.owner": &self.owner }
    }
}

impl Ledger {
    /// Claims a file to be read and stored.
    pub async fn claim_chunking(
        &self,
        request: &ClaimRequest<'_>,
        options: GenerationOptions,
    ) -> Result<Claim, LedgerError> {
        let embed_limit = i64::try_from(options.embed_limit).unwrap_or(i64::MAX);
        let layout = doc! { "$cond": [{ "$lte": ["$source.size", embed_limit] }, "embedded", "children"] };
        let transition = Transition::to(State::Chunking)
            .set("attempts.chunking", doc! { "$add": [{ "$ifNull": ["$attempts.chunking", 0] }, 1] })
            .set("chunk_size", doc! { "$ifNull": ["$chunk_size", i64::from(options.chunk_size)] })
            .set("layout", doc! { "$ifNull": ["$layout", layout] })
            .event(EventKind::Chunking, State::Chunking, None)
            .events_if(doc! { "$eq": ["$state", State::Prepared.as_str()] });
        let due = doc! { "state": { "$in": [State::Prepared.as_str(), State::Chunking.as_str()] } };
        self.claim(request, Step::Prepare, due, transition).await
    }

    /// Claims a file to be delivered. `delivery.resumed` then tells whether it was claimed for that before.
    pub async fn claim_delivering(&self, request: &ClaimRequest<'_>) -> Result<Claim, LedgerError> {
        let begun = doc! { "$ne": [{ "$type": "$delivery.begun_at" }, "missing"] };
        let transition = Transition::to(State::Delivering)
            .set("attempts.delivering", doc! { "$add": [{ "$ifNull": ["$attempts.delivering", 0] }, 1] })
            .set("delivery.begun_at", doc! { "$ifNull": ["$delivery.begun_at", "$$NOW"] })
            .set("delivery.resumed", begun)
            .set("progress.bytes_delivered", 0_i64)
            .event(EventKind::Delivering, State::Delivering, None)
            .events_if(doc! { "$eq": ["$state", State::Stored.as_str()] });
        let due = doc! {
            "state": { "$in": [State::Stored.as_str(), State::Delivering.as_str()] },
            "expectation": { "$exists": true },
        };
        self.claim(request, Step::Finalise, due, transition).await
    }

    async fn claim(
        &self,
        request: &ClaimRequest<'_>,
        step: Step,
        due: Document,
        transition: Transition,
    ) -> Result<Claim, LedgerError> {
        let operation = "claiming a file";
        let owner = Uuid::new_v4().simple().to_string();
        let lease = doc! {
            "owner": &owner,
            "worker": literal(request.worker),
            "until": now_plus(request.lease),
        };
        let pipeline = transition
            .set("epoch", doc! { "$add": ["$epoch", 1] })
            .set("lease", lease)
            .set("due_at", now_plus(request.lease))
            .unset(&["not_before", "hint_refusals", "deferrals"])
            .into_pipeline();
        let mut filter = by_id(request.file);
        filter.extend(due);
        // A missing field is less than every date, so no lease is a lease that has run out.
        filter.insert(
            "$expr",
            doc! { "$and": [{ "$lte": ["$lease.until", "$$NOW"] }, { "$lte": ["$not_before", "$$NOW"] }] },
        );

        for _ in 0..TRIES {
            let taken = Instant::now();
            let (files, filter, pipeline) = (self.files.clone(), filter.clone(), pipeline.clone());
            let found = self
                .run(operation, async move {
                    files.find_one_and_update(filter, pipeline).return_document(ReturnDocument::After).await
                })
                .await?;
            if let Some(document) = found {
                return Ok(Claim::Taken(Box::new(held(document, taken, owner, request.lease)?)));
            }
            match self.why_not_claimed(request.file, step, &owner).await? {
                Refusal::Ours(document) => {
                    return Ok(Claim::Taken(Box::new(held(*document, taken, owner, request.lease)?)));
                }
                Refusal::Held(remaining) => {
                    return Ok(Claim::HeldByAnother { remaining: remaining.min(request.lease) });
                }
                Refusal::NothingToDo => return Ok(Claim::NothingToDo),
                Refusal::FreeAgain => {}
            }
        }
        Err(LedgerError::Contended { operation, tries: TRIES })
    }

    async fn why_not_claimed(&self, file: FileId, step: Step, owner: &str) -> Result<Refusal, LedgerError> {
        let files = self.files.clone();
        let look = vec![
            doc! { "$match": by_id(file) },
            doc! { "$set": {
                "held_ms": { "$subtract": ["$lease.until", "$$NOW"] },
                "wait_ms": { "$subtract": ["$not_before", "$$NOW"] },
            } },
        ];
        let found = self
            .run("looking why a claim failed", async move {
                let mut cursor = files.aggregate(look).await?;
                if cursor.advance().await? { cursor.deserialize_current().map(Some) } else { Ok(None) }
            })
            .await?;
        let Some(document) = found else { return Ok(Refusal::NothingToDo) };
        if document.get_document("lease").is_ok_and(|lease| lease.get_str("owner").is_ok_and(|known| known == owner)) {
            return Ok(Refusal::Ours(Box::new(document)));
        }
        let in_step = match document.get_str("state").unwrap_or_default().parse::<State>() {
            Ok(State::Prepared | State::Chunking) => step == Step::Prepare,
            Ok(State::Stored | State::Delivering) => step == Step::Finalise && document.contains_key("expectation"),
            _ => false,
        };
        if !in_step || positive(document.get("wait_ms")).is_some() {
            return Ok(Refusal::NothingToDo);
        }
        Ok(positive(document.get("held_ms")).map_or(Refusal::FreeAgain, Refusal::Held))
    }
}

enum Refusal {
    /// The claim was made, only its reply was lost.
    Ours(Box<Document>),
    Held(Duration),
    NothingToDo,
    FreeAgain,
}

fn positive(millis: Option<&Bson>) -> Option<Duration> {
    let millis = u64::try_from(millis?.as_i64()?).ok()?;
    (millis > 0).then(|| Duration::from_millis(millis))
}

fn held(document: Document, taken: Instant, owner: String, length: Duration) -> Result<ClaimedFile, LedgerError> {
    let file = FileRecord::from_document(document)?;
    // `updated_at` is the `$$NOW` of the claim.
    let claimed_at = file.updated_at;
    Ok(ClaimedFile { lease: Lease { file: file.id, epoch: file.epoch, claimed_at, taken, length, owner }, file })
}
