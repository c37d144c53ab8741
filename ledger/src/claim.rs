use std::time::{Duration, Instant};

use contract::{EventKind, FileId, State, Step};
use futures_util::TryStreamExt;
use mongodb::bson::{Bson, doc};
use uuid::Uuid;

use crate::attempt::given_back;
use crate::bson_form::{incremented, literal, now_plus};
use crate::contention::Tries;
use crate::filter::{by_id, states_before};
use crate::lease::free_to_claim;
use crate::transition::Transition;
use crate::{FileRecord, GenerationOptions, Layout, Lease, Ledger, LedgerError};

/// Which worker wants to claim which file, and for how long.
#[derive(Debug, Clone)]
pub struct ClaimRequest<'a> {
    /// The file.
    pub file: FileId,
    /// The name of the worker, for people.
    pub worker: &'a str,
    /// How long the claim lasts unless renewed.
    pub lease: Duration,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    /// The caller holds the file for the length of the lease.
    Taken(Box<ClaimedFile>),
    /// Another worker holds it.
    HeldByAnother {
        /// For how long at most.
        remaining: Duration,
    },
    /// There is nothing to do: this step is done, or not due yet, or the file has ended or is unknown.
    NothingToDo,
}

/// A file that was claimed.
#[derive(Debug)]
pub struct ClaimedFile {
    /// The lease on it.
    pub lease: Lease,
    /// The record as the claim left it.
    pub file: FileRecord,
}

impl Ledger {
    /// Claims a file to read and store it.
    pub async fn claim_chunking(
        &self,
        request: &ClaimRequest<'_>,
        options: GenerationOptions,
    ) -> Result<Claim, LedgerError> {
        let embed_limit = i64::try_from(options.embed_limit).unwrap_or(i64::MAX);
        let layout = doc! { "$cond": [{ "$lte": ["$source.size", embed_limit] }, Layout::Embedded.as_str(), Layout::Children.as_str()] };
        let transition = Transition::to(State::Chunking)
            .set("attempts.chunking", incremented("$attempts.chunking"))
            .set("chunk_size", doc! { "$ifNull": ["$chunk_size", i64::from(options.chunk_size)] })
            .set("layout", doc! { "$ifNull": ["$layout", layout] })
            .event(EventKind::Chunking, State::Chunking, None)
            .events_if(doc! { "$eq": ["$state", State::Prepared.as_str()] });
        self.claim(request, Step::Prepare, transition).await
    }

    /// Claims a file to deliver it. `delivery.resumed` then tells whether it was claimed for delivery before.
    pub async fn claim_delivering(&self, request: &ClaimRequest<'_>) -> Result<Claim, LedgerError> {
        let begun = doc! { "$ne": [{ "$type": "$delivery.begun_at" }, "missing"] };
        let transition = Transition::to(State::Delivering)
            .set("attempts.delivering", incremented("$attempts.delivering"))
            .set("delivery.begun_at", doc! { "$ifNull": ["$delivery.begun_at", "$$NOW"] })
            .set("delivery.resumed", begun)
            .set("progress.bytes_delivered", 0_i64)
            .event(EventKind::Delivering, State::Delivering, None)
            .events_if(doc! { "$eq": ["$state", State::Stored.as_str()] });
        self.claim(request, Step::Finalise, transition).await
    }

    async fn claim(
        &self,
        request: &ClaimRequest<'_>,
        step: Step,
        transition: Transition,
    ) -> Result<Claim, LedgerError> {
        let operation = "claiming a file";
        let owner = Uuid::new_v4().simple().to_string();
        let lease = doc! {
            "owner": &owner,
            "worker": literal(request.worker),
            "until": now_plus(request.lease),
        };
        let transition = transition
            .set("epoch", doc! { "$add": ["$epoch", 1] })
            .set("lease", lease)
            .set("due_at", now_plus(request.lease))
            .unset(&["not_before", "hint_refusals", "deferrals"]);
        let mut filter = by_id(request.file);
        filter.extend(doc! { "state": states_before(step), "$expr": free_to_claim() });
        if step == Step::Finalise {
            filter.insert("expectation", doc! { "$exists": true });
        }

        let mut tries = Tries::of(operation);
        loop {
            tries.begin()?;
            let taken = Instant::now();
            let claimed =
                |file| Ok(Claim::Taken(Box::new(ClaimedFile::new(file, taken, owner.clone(), request.lease))));
            match transition.clone().commit(self, operation, filter.clone()).await {
                Ok(Some(file)) => return claimed(file),
                Ok(None) => {}
                Err(error) => {
                    self.give_back_claim(request.file, step, &owner).await;
                    return Err(error);
                }
            }
            match self.why_not_claimed(request.file, step, &owner).await? {
                Refusal::Ours(file) => return claimed(*file),
                Refusal::Held(remaining) => {
                    return Ok(Claim::HeldByAnother { remaining: remaining.min(request.lease) });
                }
                Refusal::NothingToDo => return Ok(Claim::NothingToDo),
                Refusal::FreeAgain => {}
            }
        }
    }

    /// Gives back a claim whose write failed or was not answered, if it took effect: the primary may have it without a
    /// majority. Nobody holds the file then, and nobody is to blame for the attempt. `due_at` stays at the lease's end.
    ///
    /// Written with `w: 1`: if a failover takes this back, it takes back the claim as well.
    async fn give_back_claim(&self, file: FileId, step: Step, owner: &str) {
        let attempts = match step {
            Step::Prepare => "attempts.chunking",
            Step::Finalise => "attempts.delivering",
        };
        let mut filter = by_id(file);
        filter.insert("lease.owner", owner);
        let update =
            vec![doc! { "$set": { attempts: given_back(&format!("${attempts}")) } }, doc! { "$unset": "lease" }];
        let files = self.relaxed_files();
        let given = self.run("giving back a claim", async move { files.update_one(filter, update).await }).await;
        if let Err(error) = given {
            tracing::debug!(%file, "a claim was not given back; its lease ends by itself: {error}");
        }
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
            .run("finding out why a claim failed", async move { files.aggregate(look).await?.try_next().await })
            .await?;
        let Some(document) = found else { return Ok(Refusal::NothingToDo) };
        if document.get_document("lease").is_ok_and(|lease| lease.get_str("owner").is_ok_and(|known| known == owner)) {
            return Ok(Refusal::Ours(Box::new(FileRecord::from_document(document)?)));
        }
        let state = document.get_str("state").unwrap_or_default().parse::<State>();
        let in_step = state.is_ok_and(|state| state.next_step() == Some(step))
            && (step == Step::Prepare || document.contains_key("expectation"));
        if !in_step || positive(document.get("wait_ms")).is_some() {
            return Ok(Refusal::NothingToDo);
        }
        Ok(positive(document.get("held_ms")).map_or(Refusal::FreeAgain, Refusal::Held))
    }
}

impl ClaimedFile {
    fn new(file: FileRecord, taken: Instant, owner: String, length: Duration) -> Self {
        // `updated_at` is the `$$NOW` of the claim.
        let claimed_at = file.updated_at;
        Self { lease: Lease { file: file.id, epoch: file.epoch, claimed_at, taken, length, owner }, file }
    }
}

/// Why the write of a claim found no record that it may change.
enum Refusal {
    /// The claim was made earlier; only its reply was lost.
    Ours(Box<FileRecord>),
    Held(Duration),
    NothingToDo,
    FreeAgain,
}

fn positive(millis: Option<&Bson>) -> Option<Duration> {
    let millis = u64::try_from(millis?.as_i64()?).ok()?;
    (millis > 0).then(|| Duration::from_millis(millis))
}
