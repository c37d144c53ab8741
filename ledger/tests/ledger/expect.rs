//! Taking a finalise request, whatever state the file is in.

use contract::{Digest, EventKind, Expectation, FileId, Mismatch, ObjectName, State};
use ledger::{ExpectationOutcome, FileRecord};
use mongodb::bson::doc;

use crate::stage::{HINT_PUSH, Stage, expectation, problem};

fn renamed(name: &str) -> Expectation {
    Expectation { name: ObjectName::new(name).unwrap(), ..expectation(b"abc") }
}

fn elsewhere() -> Expectation {
    Expectation { remote: "mirror".into(), ..expectation(b"abc") }
}

#[tokio::test]
async fn before_the_file_is_stored_a_request_waits() {
    let stage = Stage::set().await;
    for file in [stage.prepared(3).await, stage.chunking(3).await.lease.file] {
        let before = stage.record(file).await;
        let due = stage.document(file).await.get("due_at").cloned();
        let wanted = Expectation { size: Some(3), chunks: Some(1), ..renamed("$version.a.b") };
        match stage.expect(file, &wanted).await {
            ExpectationOutcome::Waiting(record) => {
                assert_eq!((record.state, record.version), (before.state, before.version + 1));
                assert_eq!(record.expectation.as_ref(), Some(&wanted));
                assert_eq!(record.outbox().events, before.outbox().events);
                assert_eq!(record.remote, before.remote, "nothing is accepted yet");
            }
            other => panic!("expected it to wait, found {other:?}"),
        }
        assert_eq!(stage.record(file).await.expectation, Some(wanted));
        assert_eq!(stage.document(file).await.get("due_at").cloned(), due);
    }
}

#[tokio::test]
async fn the_same_request_again_changes_nothing() {
    let stage = Stage::set().await;
    let (prepared, chunking) = (stage.prepared(3).await, stage.chunking(3).await.lease.file);
    for file in [prepared, chunking] {
        stage.expect(file, &expectation(b"abc")).await;
    }
    let accepted = stage.accepted(b"abc").await;
    let delivering = stage.delivering(b"abc").await.lease.file;
    let delivered = stage.delivered(b"abc").await;
    for file in [prepared, chunking, accepted, delivering, delivered] {
        let before = stage.document(file).await;
        let again = stage.expect(file, &expectation(b"abc")).await;
        assert!(matches!(&again, ExpectationOutcome::Already(record) if record.id == file), "{again:?}");
        assert_eq!(stage.document(file).await, before);
    }
}

#[tokio::test]
async fn while_nothing_is_accepted_another_request_replaces_the_one_before() {
    let stage = Stage::set().await;
    for file in [stage.prepared(3).await, stage.chunking(3).await.lease.file] {
        let corrected = Expectation { size: Some(3), ..expectation(b"abc") };
        for wanted in [expectation(b"abd"), elsewhere(), renamed("c"), expectation(b"abc"), corrected] {
            let replaced = stage.expect(file, &wanted).await;
            assert!(matches!(replaced, ExpectationOutcome::Waiting(_)), "{replaced:?}");
            assert_eq!(stage.record(file).await.expectation, Some(wanted));
        }
    }
}

#[tokio::test]
async fn a_waiting_request_of_another_user_is_not_replaced() {
    let stage = Stage::set().await;
    for file in [stage.prepared(3).await, stage.chunking(3).await.lease.file] {
        stage.expect_of("grace", file, &expectation(b"abc")).await;
        let before = stage.document(file).await;
        let sized = Expectation { size: Some(4), ..expectation(b"abc") };
        for wanted in [expectation(b"abd"), elsewhere(), renamed("c"), sized] {
            let refused = stage.expect_of("eve", file, &wanted).await;
            assert!(matches!(refused, ExpectationOutcome::Another(_)), "{refused:?}");
        }
        let same = stage.expect_of("eve", file, &expectation(b"abc")).await;
        assert!(matches!(same, ExpectationOutcome::Already(_)), "{same:?}");
        assert_eq!(stage.document(file).await, before);
        let own = stage.expect_of("grace", file, &elsewhere()).await;
        assert!(matches!(own, ExpectationOutcome::Waiting(_)), "{own:?}");
        assert_eq!(stage.record(file).await.finalised_by.as_deref(), Some("grace"));
    }
}

/// Records of releases that did not keep who finalised.
#[tokio::test]
async fn a_waiting_request_of_nobody_is_replaced() {
    let stage = Stage::set().await;
    let file = stage.prepared(3).await;
    stage.expect_of("grace", file, &expectation(b"abc")).await;
    stage.files().update_one(testing::by_id(file), doc! { "$unset": { "finalised_by": "" } }).await.unwrap();
    let replaced = stage.expect_of("eve", file, &elsewhere()).await;
    assert!(matches!(replaced, ExpectationOutcome::Waiting(_)), "{replaced:?}");
    assert_eq!(stage.record(file).await.finalised_by.as_deref(), Some("eve"));
}

#[tokio::test]
async fn record_and_events_say_who_asked() {
    let stage = Stage::set().await;
    let mut held = stage.chunking(3).await;
    let file = held.lease.file;
    // Refused when the file is stored, so it is grace's request no longer.
    stage.expect_of("grace", file, &expectation(b"abd")).await;
    stage.ledger.record_stored(&mut held, Digest::of(b"abc")).await.unwrap();
    assert_eq!(stage.record(file).await.finalised_by, None);
    stage.expect_of("$eve", file, &expectation(b"abc")).await;
    assert_eq!(stage.record(file).await.finalised_by.as_deref(), Some("$eve"));
    let held = stage.claim_delivering(file).await;
    stage.ledger.record_delivered(&held.lease, &testing::receipt(&held)).await.unwrap().unwrap();
    let record = stage.record(file).await;
    let receipt = record.receipt.as_ref().unwrap();
    assert_eq!((&receipt["prepared_by"], &receipt["finalised_by"]), (&"ada".into(), &"$eve".into()));
    let events = record.outbox().events;
    assert!(events.iter().all(|event| event.prepared_by.as_deref() == Some("ada")), "{events:?}");
    let by: Vec<_> = events.iter().map(|event| (event.event, event.finalised_by.as_deref())).collect();
    assert_eq!(
        by,
        [
            (EventKind::Prepared, None),
            (EventKind::Chunking, None),
            (EventKind::Stored, Some("grace")),
            (EventKind::Mismatch, Some("grace")),
            (EventKind::Delivering, Some("$eve")),
            (EventKind::Delivered, Some("$eve")),
        ]
    );
}

#[tokio::test]
async fn a_right_request_for_a_resting_file_is_accepted() {
    let stage = Stage::set().await;
    let file = stage.resting(b"abc").await;
    let before = stage.record(file).await;
    match stage.expect(file, &expectation(b"abc")).await {
        ExpectationOutcome::Accepted(record) => {
            assert_eq!((record.state, record.version), (State::Stored, before.version + 1));
            assert_eq!(record.expectation, Some(expectation(b"abc")));
            assert_eq!(
                (before.remote, record.remote.as_deref()),
                (None, Some("archive")),
                "it is listed by its remote"
            );
        }
        other => panic!("expected it to be accepted, found {other:?}"),
    }
    stage.assert_set_to(file, "due_at", HINT_PUSH).await;
}

#[tokio::test]
async fn a_wrong_request_for_a_stored_file_is_refused_and_changes_nothing() {
    let stage = Stage::set().await;
    let resting = stage.resting(b"abc").await;
    let accepted = stage.accepted(b"abc").await;
    let delivered = stage.delivered(b"abc").await;
    let right = expectation(b"abc");
    for file in [resting, accepted, delivered] {
        let before = stage.document(file).await;
        let refused = stage.expect(file, &Expectation { size: Some(4), ..right.clone() }).await;
        assert!(
            matches!(refused, ExpectationOutcome::Refused(Mismatch::Size { expected: 4, found: 3 })),
            "{refused:?}"
        );
        let refused = stage.expect(file, &Expectation { chunks: Some(2), ..right.clone() }).await;
        assert!(
            matches!(refused, ExpectationOutcome::Refused(Mismatch::Chunks { expected: 2, found: 1 })),
            "{refused:?}"
        );
        assert_eq!(stage.document(file).await, before);
    }
    let before = stage.document(resting).await;
    let refused = stage.expect(resting, &expectation(b"abd")).await;
    assert!(matches!(refused, ExpectationOutcome::Refused(Mismatch::Digest { .. })), "{refused:?}");
    assert_eq!(stage.document(resting).await, before);
}

#[tokio::test]
async fn after_a_mismatch_a_right_request_is_accepted_and_the_error_is_over() {
    let stage = Stage::set().await;
    let mut held = stage.chunking(3).await;
    let file = held.lease.file;
    stage.expect(file, &expectation(b"abd")).await;
    stage.ledger.record_stored(&mut held, contract::Digest::of(b"abc")).await.unwrap();
    assert!(stage.record(file).await.error.is_some());

    let accepted = stage.expect(file, &elsewhere()).await;
    assert!(matches!(accepted, ExpectationOutcome::Accepted(_)), "{accepted:?}");
    let record = stage.record(file).await;
    assert_eq!((record.error, record.expectation), (None, Some(elsewhere())));
}

#[tokio::test]
async fn once_accepted_no_other_request_is_taken() {
    let stage = Stage::set().await;
    let accepted = stage.accepted(b"abc").await;
    let delivering = stage.delivering(b"abc").await.lease.file;
    let delivered = stage.delivered(b"abc").await;
    for file in [accepted, delivering, delivered] {
        let before = stage.document(file).await;
        for other in [expectation(b"abd"), elsewhere(), renamed("c")] {
            let refused = stage.expect(file, &other).await;
            assert!(matches!(&refused, ExpectationOutcome::Another(record) if record.id == file), "{refused:?}");
        }
        assert_eq!(stage.document(file).await, before);
    }
}

#[tokio::test]
async fn for_a_file_that_was_given_up_no_request_is_taken() {
    let stage = Stage::set().await;
    let delivering = stage.delivering(b"abc").await;
    stage.ledger.record_failed(&delivering.lease, &problem()).await.unwrap().unwrap();
    for file in [stage.failed().await, delivering.lease.file] {
        let before = stage.document(file).await;
        let ended = stage.expect(file, &expectation(b"abc")).await;
        assert!(matches!(&ended, ExpectationOutcome::Ended(record) if record.id == file), "{ended:?}");
        assert_eq!(stage.document(file).await, before);
    }
    let unknown = stage.expect(FileId::generate(), &expectation(b"abc")).await;
    assert!(matches!(unknown, ExpectationOutcome::Unknown), "{unknown:?}");
}

#[tokio::test]
async fn a_request_is_completed_from_the_record_or_refused_with_nothing_changed() {
    let stage = Stage::set().await;
    let file = stage.resting(b"abc").await;
    let before = stage.document(file).await;
    let refused = stage
        .ledger
        .record_expectation(file, "ada", |record| Err::<Expectation, _>(record.name.clone()))
        .await
        .unwrap();
    assert_eq!(refused.map(|_| ()), Err(ObjectName::new("b.bin").unwrap()));
    assert_eq!(stage.document(file).await, before);

    let complete = |record: &FileRecord| Ok::<_, ()>(renamed(&format!("of-{}", record.name)));
    let accepted = stage.ledger.record_expectation(file, "ada", complete).await.unwrap().unwrap();
    assert!(matches!(accepted, ExpectationOutcome::Accepted(_)), "{accepted:?}");
    assert_eq!(stage.record(file).await.expectation, Some(renamed("of-b.bin")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_requests_at_once_one_is_accepted() {
    let stage = Stage::set().await;
    for round in 0..10 {
        let file = stage.resting(b"abc").await;
        // Half of them want the same, half something else; the first to come decides.
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let (ledger, wanted) =
                    (stage.ledger.clone(), if number % 2 == 0 { renamed("even") } else { renamed("odd") });
                tokio::spawn(async move {
                    let complete = |_: &FileRecord| Ok::<_, ()>(wanted.clone());
                    (ledger.record_expectation(file, "ada", complete).await.unwrap().unwrap(), wanted)
                })
            })
            .collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.unwrap());
        }
        let winner = stage.record(file).await.expectation.unwrap();
        let mut accepted = 0;
        for (answer, wanted) in answers {
            match answer {
                ExpectationOutcome::Accepted(_) => accepted += 1,
                ExpectationOutcome::Already(_) => assert_eq!(wanted, winner, "round {round}"),
                ExpectationOutcome::Another(_) => assert_ne!(wanted, winner, "round {round}"),
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!(accepted, 1, "round {round}");
    }
}
