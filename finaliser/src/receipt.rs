//! The receipt of a delivery.

use contract::{Expectation, FailedAttempt, Receipt, ReceiptRemote, ReceiptSource, State};
use ledger::{ClaimedFile, Failure};

use crate::Finaliser;
use crate::deliver::Delivered;
use crate::prove::Content;

/// Writes the receipt of a delivery that came to its end, and signs it where a key is configured.
pub(crate) fn written(
    finaliser: &Finaliser,
    held: &ClaimedFile,
    expectation: &Expectation,
    content: &Content,
    done: Delivered,
) -> Receipt {
    let (file, proven) = (&held.file, content.proven());
    let settings = finaliser.service.settings.remotes.get(&expectation.remote);
    let address = finaliser.remotes.get(&expectation.remote).map(|remote| remote.address(&done.object));
    let (delivered_at, evidence) = (held.lease.now(), done.evidence);
    let mut receipt = Receipt {
        file_id: file.id,
        source: ReceiptSource {
            path: file.source.path.clone(),
            name: file.name.to_string(),
            generation: content.generation(),
        },
        sha256: proven.sha256,
        size: proven.split.size(),
        chunks: proven.split.count(),
        chunk_size: proven.split.chunk_size(),
        remote: ReceiptRemote {
            name: expectation.remote.clone(),
            kind: settings.map(|settings| settings.kind().to_owned()).unwrap_or_default(),
            address: address.unwrap_or_default(),
            object: done.object,
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
        guarantee: if done.at_least_once { "at-least-once" } else { "exactly-once" }.to_owned(),
        begun_at: file.delivery.as_ref().map_or(delivered_at, |delivery| delivery.begun_at),
        delivered_at,
        signature: None,
    };
    if let Some(key) = &finaliser.signing_key
        && let Err(error) = receipt.sign(key)
    {
        // Only a file of 2^53 bytes has a figure without a canonical form. It is delivered all the same, and known to be.
        tracing::error!(file = %file.id, "the receipt is not signed: {error}");
    }
    receipt
}

fn attempt(failure: &Failure) -> FailedAttempt {
    let Failure { phase: _, attempt, at, uri, detail } = failure.clone();
    FailedAttempt { attempt, at, kind: uri, detail }
}
