//! Uploads in parts: who may record them, and what the next holder finds.

use contract::Digest;
use ledger::{AbandonedUpload, Upload, UploadedPart};
use testing::receipt;

use crate::stage::{Stage, problem};

fn upload(id: &str) -> Upload {
    let address = "https://s3.example/$bucket/b.bin".to_owned();
    Upload { id: id.to_owned(), address, part_size: 8 << 20, parts: Vec::new() }
}

fn part(number: u32, content: &[u8]) -> UploadedPart {
    UploadedPart { number, etag: format!("\"$etag-{number}\""), sha256: Digest::of(content) }
}

#[tokio::test]
async fn the_next_holder_finds_what_the_last_one_recorded() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let file = held.lease.file;
    assert_eq!(held.file.delivery.as_ref().unwrap().upload, None);
    let mut expected = upload("$one");
    assert!(stage.ledger.record_upload(&held.lease, &expected).await.unwrap());
    for part in [part(2, b"b"), part(1, b"a"), part(2, b"c")] {
        assert!(stage.ledger.record_part(&held.lease, "$one", &part).await.unwrap());
        expected.parts.push(part);
    }
    let record = stage.record(file).await;
    assert_eq!(record.version, held.file.version, "no state changed");

    stage.ledger.record_retry(&held.lease, &problem(), std::time::Duration::ZERO).await.unwrap().unwrap();
    let next = stage.claim_delivering(file).await;
    let delivery = next.file.delivery.unwrap();
    assert!(delivery.resumed);
    assert_eq!(delivery.upload, Some(expected));
    assert!(stage.ledger.forget_upload(&next.lease, "$one").await.unwrap());
    assert_eq!(stage.record(file).await.delivery.unwrap().upload, None);
}

#[tokio::test]
async fn who_lost_the_file_records_nothing() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    let file = held.lease.file;
    stage.ledger.record_upload(&held.lease, &upload("one")).await.unwrap();
    stage.end_lease(file).await;
    stage.claim_delivering(file).await;
    let before = stage.document(file).await;
    assert!(!stage.ledger.record_upload(&held.lease, &upload("two")).await.unwrap());
    assert!(!stage.ledger.record_part(&held.lease, "one", &part(1, b"a")).await.unwrap());
    assert!(!stage.ledger.forget_upload(&held.lease, "one").await.unwrap());
    assert_eq!(stage.document(file).await, before);
}

#[tokio::test]
async fn a_part_belongs_to_its_upload() {
    let stage = Stage::set().await;
    let held = stage.delivering(b"abc").await;
    stage.ledger.record_upload(&held.lease, &upload("one")).await.unwrap();
    stage.ledger.record_part(&held.lease, "one", &part(1, b"a")).await.unwrap();
    stage.ledger.record_upload(&held.lease, &upload("two")).await.unwrap();
    assert!(!stage.ledger.record_part(&held.lease, "one", &part(2, b"b")).await.unwrap());
    assert!(!stage.ledger.forget_upload(&held.lease, "one").await.unwrap());
    assert_eq!(stage.record(held.lease.file).await.delivery.unwrap().upload, Some(upload("two")));
}

#[tokio::test]
async fn what_was_delivered_has_no_upload_and_what_failed_keeps_it() {
    let stage = Stage::set().await;
    for delivered in [true, false] {
        let held = stage.delivering(b"abc").await;
        stage.ledger.record_upload(&held.lease, &upload("one")).await.unwrap();
        match delivered {
            true => stage.ledger.record_delivered(&held.lease, &receipt(&held)).await.unwrap().unwrap(),
            false => stage.ledger.record_failed(&held.lease, &problem()).await.unwrap().unwrap(),
        };
        // For whoever clears up at the remote.
        let kept = stage.record(held.lease.file).await.delivery.unwrap().upload;
        assert_eq!(kept, (!delivered).then(|| upload("one")));
    }
}

#[tokio::test]
async fn uploads_of_files_that_ended_are_found_until_they_are_forgotten() {
    let stage = Stage::set().await;
    let mut left = Vec::new();
    for (id, ends) in [("goes on", false), ("failed", true), ("another", true)] {
        let held = stage.delivering(b"abc").await;
        stage.ledger.record_upload(&held.lease, &upload(id)).await.unwrap();
        stage.ledger.record_part(&held.lease, id, &part(1, b"a")).await.unwrap();
        if ends {
            let Upload { id, address, .. } = upload(id);
            left.push(AbandonedUpload { file: held.lease.file, id, address });
            stage.ledger.record_failed(&held.lease, &problem()).await.unwrap().unwrap();
        }
    }
    let remote = stage.record(left[0].file).await.expectation.unwrap().remote;
    let mut found = stage.ledger.abandoned_uploads(&remote, 10).await.unwrap();
    found.sort_by_key(|left| left.file);
    assert_eq!(found, left);
    assert_eq!(stage.ledger.abandoned_uploads(&remote, 1).await.unwrap().len(), 1);
    assert_eq!(stage.ledger.abandoned_uploads("elsewhere", 10).await.unwrap(), []);
    for id in ["goes on", "failed"] {
        assert!(stage.ledger.has_upload(id).await.unwrap());
    }
    assert!(!stage.ledger.has_upload("unknown").await.unwrap());

    stage.ledger.forget_abandoned_upload(&left[0]).await.unwrap();
    assert_eq!(stage.ledger.abandoned_uploads(&remote, 10).await.unwrap(), left[1..]);
    assert!(!stage.ledger.has_upload("failed").await.unwrap());
    // One that goes on is forgotten by its holder only.
    stage.ledger.requeue(left[1].file).await.unwrap();
    stage.ledger.forget_abandoned_upload(&left[1]).await.unwrap();
    assert!(stage.ledger.has_upload("another").await.unwrap());
}
