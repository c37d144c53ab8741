//! S3: answers that SeaweedFS does not give on demand.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use contract::{Digest, RemoteChecksum, RemoteProof};
use finaliser::remote::{Comparison, Evidence, MultipartUpload, RemoteError};
use ledger::Upload;
use servers::Seaweed;

use crate::remotes::conformance::Place;
use crate::remotes::object::{bytes, later, refused, within};
use crate::remotes::s3::{Bucket, MIB, claim, next_claim, send, send_some};
use crate::remotes::scripted_proxy::{Action, ScriptedProxy};

fn xml(status: &str, code: &str) -> Action {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said so</Message></Error>");
    let length = text.len();
    Action::Answer(format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{text}"
    ))
}

/// A bucket behind a proxy that acts on the `nth` request whose first line has all of `marks`.
async fn behind(
    marks: &'static [&'static str],
    nth: usize,
    action: impl Fn() -> Action + Send + Sync + 'static,
) -> (Bucket, ScriptedProxy) {
    let seaweed = testing::seaweed().await;
    let server = seaweed.s3_url().replace("http://", "").replace('/', "");
    let count = AtomicUsize::new(0);
    let script = move |line: &str| {
        let marked = marks.iter().all(|mark| line.contains(mark));
        if marked && count.fetch_add(1, Ordering::Relaxed) + 1 == nth { action() } else { Action::Pass }
    };
    let proxy = ScriptedProxy::start(server, script).await;
    let url = format!("http://{}/{}/{}/", proxy.address, Seaweed::BUCKET, contract::FileId::generate());
    let folder = url.rsplit('/').nth(1).unwrap().to_owned();
    let mut bucket = Bucket::new(|settings| settings.url = url).await;
    bucket.folder = folder;
    (bucket, proxy)
}

const CREATE: &[&str] = &["POST ", "?uploads="];
const PART: &[&str] = &["PUT ", "partNumber="];
const COMPLETE: &[&str] = &["POST ", "?uploadId="];

fn count(proxy: &ScriptedProxy, marks: &[&str]) -> usize {
    proxy.seen().iter().filter(|line| marks.iter().all(|mark| line.contains(mark))).count()
}

#[tokio::test]
async fn an_error_inside_a_success_is_an_error() {
    let (bucket, proxy) = behind(COMPLETE, 1, || xml("200 OK", "InternalError")).await;
    let content = bytes(17 * MIB);
    let claim = claim("x", &content);
    let (detail, _) = later(send(&*bucket.remote, &claim, &content).await);
    assert!(detail.contains("InternalError: said so"), "{detail}");
    assert_eq!(bucket.stored("x"), None);
    // The parts are there still.
    let evidence = send(&*bucket.remote, &next_claim(&claim), &content).await.unwrap();
    assert_eq!((evidence.sent, count(&proxy, PART), count(&proxy, CREATE)), (0, 3, 1));
    assert!(bucket.stored("x").as_ref() == Some(&content), "other bytes");
}

#[tokio::test]
async fn a_conflict_at_the_completion_starts_a_new_upload() {
    let (bucket, proxy) = behind(COMPLETE, 1, || xml("409 Conflict", "ConditionalRequestConflict")).await;
    let content = bytes(9 * MIB);
    let claim = claim("x", &content);
    later(send(&*bucket.remote, &claim, &content).await);
    assert_eq!(claim.log.current(), None);
    assert_eq!(count(&proxy, &["DELETE ", "uploadId="]), 1, "the old one is aborted");
    send(&*bucket.remote, &claim, &content).await.unwrap();
    assert_eq!((count(&proxy, CREATE), count(&proxy, PART)), (2, 4));
    assert!(bucket.stored("x").as_ref() == Some(&content), "other bytes");
}

#[tokio::test]
async fn a_claim_lost_after_the_last_part_completes_nothing() {
    let (bucket, proxy) = behind(COMPLETE, 1, || Action::Pass).await;
    let content = bytes(9 * MIB);
    let mut claim = claim("x", &content);
    // It is asked before each of the two parts, and before the last bytes of each.
    let asked = AtomicUsize::new(0);
    claim.object.still_ours = Box::new(move || asked.fetch_add(1, Ordering::Relaxed) < 4);
    let sent = send(&*bucket.remote, &claim, &content).await;
    assert!(matches!(sent, Err(RemoteError::Stopped)), "{sent:?}");
    assert_eq!((count(&proxy, PART), count(&proxy, COMPLETE)), (2, 0));
    assert_eq!(claim.log.current().unwrap().parts.len(), 2);
    // The next claim has only to put them together.
    assert_eq!(send(&*bucket.remote, &next_claim(&claim), &content).await.unwrap().sent, 0);
    assert!(bucket.stored("x").as_ref() == Some(&content), "other bytes");
}

#[tokio::test]
async fn a_clash_at_the_completion_replaces_nothing() {
    let (bucket, _proxy) = behind(COMPLETE, 1, || xml("412 Precondition Failed", "PreconditionFailed")).await;
    let content = bytes(9 * MIB);
    let sent = send(&*bucket.remote, &claim("x", &content), &content).await;
    assert!(matches!(sent, Err(RemoteError::Conflict(_))), "{sent:?}");
}

#[tokio::test]
async fn a_completed_upload_whose_answer_is_lost_is_found() {
    let (bucket, _proxy) = behind(COMPLETE, 1, || Action::Swallow).await;
    let content = bytes(9 * MIB);
    let claim = claim("x", &content);
    later(send(&*bucket.remote, &claim, &content).await);
    let found = within(bucket.remote.compare(&next_claim(&claim).object)).await;
    assert!(matches!(&found, Ok(Comparison::Equal(evidence)) if evidence.proof.as_str() == "metadata"), "{found:?}");
    within(claim.log.give_up(&*bucket.remote)).await.unwrap();
    assert!(bucket.stored("x").as_ref() == Some(&content), "other bytes");
}

#[tokio::test]
async fn a_part_that_breaks_off_is_sent_again() {
    let (bucket, proxy) = behind(PART, 2, || Action::CutAfter(3 * MIB)).await;
    let content = bytes(17 * MIB);
    let claim = claim("x", &content);
    later(send(&*bucket.remote, &claim, &content).await);
    let done = claim.log.current().unwrap().parts.len();
    let next = next_claim(&claim);
    let evidence = send(&*bucket.remote, &next, &content).await.unwrap();
    assert!(evidence.sent < content.len() as u64 || done == 0, "{evidence:?} after {done} parts");
    assert!(count(&proxy, PART) <= 3 + 3 - done);
    assert!(bucket.stored("x").as_ref() == Some(&content), "other bytes");
}

/// A success with every field that a server may send.
fn named(status: &str, version: &str, checksum: &str, text: &str) -> Action {
    let length = text.len();
    Action::Answer(format!(
        "HTTP/1.1 {status}\r\nETag: \"e\"\r\nx-amz-version-id: {version}\r\nx-amz-checksum-sha256: {checksum}\r\n\
         Content-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{text}"
    ))
}

fn base64(digest: Digest) -> String {
    BASE64_STANDARD.encode(digest.as_bytes())
}

#[tokio::test]
async fn versions_and_checksums_are_kept_as_they_were_named() {
    let content = bytes(100);
    for (found, proof) in
        [(base64(Digest::of(&content)), RemoteProof::Checksum), (base64(Digest::of(b"other")), RemoteProof::Put)]
    {
        let answer = found.clone();
        let (bucket, _proxy) = behind(&["PUT "], 1, move || named("200 OK", "v.1/x", &answer, "")).await;
        let evidence = send(&*bucket.remote, &claim("x", &content), &content).await.unwrap();
        let checksum = RemoteChecksum { field: "x-amz-checksum-sha256".into(), value: found };
        let expected = Evidence {
            status: Some(200),
            etag: Some("\"e\"".into()),
            version: Some("v.1/x".into()),
            checksum: Some(checksum),
            ..Evidence::new(proof, 100)
        };
        assert_eq!(evidence, expected);
    }
    // An upload in parts: the answer's text has the checksum of the parts' checksums.
    let content = bytes(9 * MIB);
    let (one, two) = content.split_at(8 * MIB);
    let both = [Digest::of(one), Digest::of(two)].map(|digest| *digest.as_bytes()).concat();
    let composite = format!("{}-2", base64(Digest::of(&both)));
    let text = format!("<R><ETag>&quot;e-2&quot;</ETag><ChecksumSHA256>{composite}</ChecksumSHA256></R>");
    let (bucket, _proxy) = behind(COMPLETE, 1, move || named("200 OK", "v.2", "-", &text)).await;
    let evidence = send(&*bucket.remote, &claim("x", &content), &content).await.unwrap();
    assert_eq!(
        (evidence.proof.as_str(), evidence.version.as_deref(), evidence.etag.as_deref()),
        ("checksum", Some("v.2"), Some("\"e-2\""))
    );
    assert_eq!(evidence.checksum.map(|checksum| checksum.value), Some(composite));
}

#[tokio::test]
async fn what_is_too_long_for_a_receipt_is_not_kept() {
    let content = bytes(100);
    let long = "v".repeat(1025);
    let (bucket, _proxy) = behind(&["PUT "], 1, move || named("200 OK", &long, &long, "")).await;
    let evidence = send(&*bucket.remote, &claim("x", &content), &content).await.unwrap();
    assert_eq!((evidence.version, evidence.checksum, evidence.proof.as_str()), (None, None, "put"));
    let content = bytes(9 * MIB);
    let text = format!("<R><ETag>{0}</ETag><ChecksumSHA256>{0}</ChecksumSHA256></R>", "e".repeat(1025));
    let (bucket, _proxy) = behind(COMPLETE, 1, move || named("200 OK", "v", "-", &text)).await;
    let evidence = send(&*bucket.remote, &claim("x", &content), &content).await.unwrap();
    assert_eq!((evidence.etag, evidence.checksum, evidence.proof.as_str()), (None, None, "parts"));
}

#[tokio::test]
async fn codes_tell_more_than_statuses() {
    let content = bytes(100);
    for (status, code) in [
        ("400 Bad Request", "ExpiredToken"),
        ("400 Bad Request", "RequestTimeout"),
        ("403 Forbidden", "RequestTimeTooSkewed"),
        ("503 Slow Down", "SlowDown"),
    ] {
        let (bucket, _proxy) = behind(&["PUT "], 1, move || xml(status, code)).await;
        let (detail, _) = later(send(&*bucket.remote, &claim("x", &content), &content).await);
        assert!(detail.contains(code), "{detail}");
    }
    for (status, code) in [
        ("403 Forbidden", "AccessDenied"),
        ("404 Not Found", "NoSuchBucket"),
        ("501 Not Implemented", "NotImplemented"),
    ] {
        let (bucket, _proxy) = behind(&["PUT "], 1, move || xml(status, code)).await;
        let detail = refused(send(&*bucket.remote, &claim("x", &content), &content).await);
        assert!(detail.contains(code), "{detail}");
    }
}

const LIST: &[&str] = &["GET ", "uploads="];

#[tokio::test]
async fn abandoned_uploads_are_found_after_a_day() {
    let content = bytes(17 * MIB);
    for (date, is_found) in [("Sun, 25 Nov 2001 12:00:00 GMT", false), ("Wed, 25 Nov 2201 12:00:00 GMT", true)] {
        let (bucket, proxy) = behind(LIST, 1, move || Action::PassAt(date)).await;
        let (another, _theirs) = behind(LIST, 1, || Action::Pass).await;
        let begun = [claim("größe 1+1", &content), claim("x", &content)];
        for claim in &begun {
            send_some(&*bucket.remote, claim, &content, 9 * MIB, 1).await;
        }
        // Beneath another folder of the bucket: not ours.
        send_some(&*another.remote, &claim("x", &content), &content, 9 * MIB, 1).await;
        let mut found = within(bucket.remote.old_uploads()).await.unwrap();
        found.sort_by(|a, b| a.address.cmp(&b.address));
        let known = begun.iter().map(|claim| claim.log.current().unwrap());
        let mut expected: Vec<_> = known.map(|Upload { id, address, .. }| MultipartUpload { id, address }).collect();
        expected.sort_by(|a, b| a.address.cmp(&b.address));
        assert_eq!(found, if is_found { expected } else { Vec::new() });
        for upload in &found {
            // The second time the upload is gone already.
            for _ in 0..2 {
                within(bucket.remote.abort_upload(upload)).await.unwrap();
            }
        }
        for claim in begun.iter().filter(|_| is_found) {
            let (detail, _) = later(send(&*bucket.remote, &next_claim(claim), &content).await);
            assert!(detail.contains("NoSuchUpload"), "{detail}");
        }
        assert!(within(bucket.remote.old_uploads()).await.unwrap().is_empty());
        assert_eq!(count(&proxy, LIST), 1, "it is asked only once an hour");
    }
}
