//! Taking failed files up again.

use contract::{EventKind, FileId, State};
use ledger::{Attempts, Problem, Requeued};

use crate::stage::{Stage, problem};

#[tokio::test]
async fn what_failed_on_its_way_out_is_delivered_again_from_what_is_stored() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let file = held.lease.file;
    let failed = stage.ledger.record_failed(&held.lease, &problem()).await.unwrap().unwrap();
    let Requeued::Delivering(record) = stage.ledger.requeue(file).await.unwrap() else { panic!("not delivered again") };
    assert_eq!((record.state, record.version), (State::Stored, failed.version + 1));
    assert_eq!((record.generation, record.error.as_ref()), (failed.generation, None));
    assert_eq!(record.attempts, Attempts { chunking: 1, delivering: 0 });
    assert_eq!(record.outbox().events.pop().unwrap().event, EventKind::Requeued);
    stage.assert_set_to(file, "due_at", std::time::Duration::ZERO).await;
    let again = stage.claim_delivering(file).await;
    assert!(again.file.delivery.unwrap().resumed, "the remote is asked before anything is sent");
}

#[tokio::test]
async fn what_failed_while_it_was_read_is_read_again_in_a_new_generation() {
    let stage = Stage::set().await;
    let file = stage.failed().await;
    let failed = stage.record(file).await;
    let Requeued::Chunking(record) = stage.ledger.requeue(file).await.unwrap() else { panic!("not read again") };
    assert_eq!((record.state, record.generation.0), (State::Prepared, failed.generation.0 + 1));
    assert_eq!((record.attempts, record.layout, record.chunk_size), (Attempts::default(), None, None));
    assert_eq!(stage.claim(file).await.file.generation, record.generation);
}

#[tokio::test]
async fn content_that_is_wrong_or_removed_is_read_again_too() {
    let stage = Stage::set().await;
    let (wrong, removed) = (stage.delivering(b"abc").await, stage.delivering(b"abc").await);
    let content_wrong = Problem::new(contract::ProblemKind::ContentWrong, "chunk 0");
    stage.ledger.record_failed(&wrong.lease, &content_wrong).await.unwrap().unwrap();
    stage.ledger.record_failed(&removed.lease, &problem()).await.unwrap().unwrap();
    assert!(stage.ledger.remove_content(removed.lease.file).await.unwrap());
    for held in [wrong, removed] {
        let Requeued::Chunking(record) = stage.ledger.requeue(held.lease.file).await.unwrap() else {
            panic!("{held:?}")
        };
        assert_eq!(record.generation.0, held.file.generation.0 + 1);
        assert_eq!((record.sha256, record.content_removed), (None, None));
        assert_eq!(record.expectation, held.file.expectation, "what is wanted is still known");
    }
}

#[tokio::test]
async fn what_has_not_failed_stays_as_it_is() {
    let stage = Stage::set().await;
    for file in [stage.prepared(3).await, stage.resting(b"abc").await, stage.delivered(b"abc").await] {
        let before = stage.document(file).await;
        assert!(matches!(stage.ledger.requeue(file).await.unwrap(), Requeued::NotFailed(_)));
        assert_eq!(stage.document(file).await, before);
    }
    assert!(matches!(stage.ledger.requeue(FileId::generate()).await.unwrap(), Requeued::Unknown));
}

#[tokio::test]
async fn stored_content_that_was_found_wrong_is_read_again_unless_somebody_holds_it() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let file = held.lease.file;
    assert!(stage.ledger.rechunk(file, held.file.version).await.unwrap().is_none());
    let back = stage.ledger.hand_back(&held.lease).await.unwrap().unwrap();
    assert!(stage.ledger.rechunk(file, back.version - 1).await.unwrap().is_none(), "it changed since");
    let record = stage.ledger.rechunk(file, back.version).await.unwrap().unwrap();
    assert_eq!((record.state, record.generation.0), (State::Prepared, back.generation.0 + 1));
}
