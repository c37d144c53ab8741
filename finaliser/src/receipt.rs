//! The receipt of a delivery.

use contract::{FailedAttempt, Receipt, ReceiptRemote, ReceiptSource, SigningKey, State};
use ledger::Failure;

use crate::deliver::Delivered;
use crate::plan::Plan;

/// Writes the receipt of a delivery, and signs it if there is a key.
pub(crate) fn write(plan: &Plan<'_>, delivered: Delivered, key: Option<&SigningKey>) -> Receipt {
    let (file, lease, proven) = (&plan.claimed.file, &plan.claimed.lease, plan.content.proven());
    let (delivered_at, evidence) = (lease.now(), delivered.evidence);
    let mut receipt = Receipt {
        file_id: file.id,
        prepared_by: Some(file.user.clone()),
        finalised_by: file.finalised_by.clone(),
        source: ReceiptSource {
            path: file.source.path.clone(),
            name: file.name.to_string(),
            generation: plan.content.generation(),
        },
        sha256: proven.sha256,
        size: proven.split.size(),
        chunks: proven.split.count(),
        chunk_size: proven.split.chunk_size(),
        remote: ReceiptRemote {
            name: plan.expectation.remote.clone(),
            kind: plan.destination.settings.kind().to_owned(),
            address: plan.destination.remote.address(&plan.path),
            object: plan.path.clone(),
            status: evidence.status,
            etag: evidence.etag,
            version: evidence.version,
            checksum: evidence.checksum,
            proof: evidence.proof.as_str().to_owned(),
            proves: Some(evidence.proof.sentence().to_owned()),
        },
        bytes_sent: evidence.sent,
        attempts: file.attempts.delivering,
        failures: file.failures.iter().filter(|failure| failure.phase == State::Delivering).map(attempt).collect(),
        guarantee: if delivered.at_least_once { "at-least-once" } else { "exactly-once" }.to_owned(),
        begun_at: file.delivery.as_ref().map_or(delivered_at, |delivery| delivery.begun_at),
        delivered_at,
        signature: None,
    };
    if let Some(key) = key
        && let Err(error) = receipt.sign(key)
    {
        // Only a file of 2^53 bytes or more has a number without a canonical form. Its delivery is recorded without a
        // signature.
        tracing::error!(file = %file.id, "the receipt is not signed: {error}");
    }
    receipt
}

fn attempt(failure: &Failure) -> FailedAttempt {
    let Failure { phase: _, attempt, at, uri, detail } = failure.clone();
    FailedAttempt { attempt, at, kind: uri, detail }
}
