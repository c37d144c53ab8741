//! S3, against SeaweedFS. The tests look at its content by WebDAV.

use std::time::Duration;

use finaliser::remote::{Comparison, Evidence, Object, Precondition, Remote, RemoteError, UploadLog};
use servers::Seaweed;
use settings::{RemoteSettings, S3Remote, Secret};
use testing::ask_bucket;

use crate::remotes::conformance::{Place, suite};
use crate::remotes::object::{body, bytes, object, open_body, refused, within};

pub(crate) const MIB: usize = 1024 * 1024;

/// A folder of its own in the bucket.
pub(crate) struct Bucket {
    pub(crate) remote: Box<dyn Remote>,
    pub(crate) seaweed: &'static Seaweed,
    pub(crate) folder: String,
}

impl Bucket {
    pub(crate) async fn new(change: impl FnOnce(&mut S3Remote)) -> Self {
        let seaweed = testing::seaweed().await;
        let folder = contract::FileId::generate().to_string();
        let mut settings = S3Remote {
            access_key: Some(Seaweed::ACCESS_KEY.into()),
            secret_key: Some(Secret::new(Seaweed::SECRET_KEY.into())),
            ..S3Remote::new(format!("{}{}/{folder}/", seaweed.s3_url(), Seaweed::BUCKET))
        };
        change(&mut settings);
        let remote = finaliser::remote::open(&RemoteSettings::S3(settings)).unwrap();
        Self { remote, seaweed, folder }
    }
}

impl Place for Bucket {
    fn remote(&self) -> &dyn Remote {
        &*self.remote
    }

    fn stored(&self, name: &str) -> Option<Vec<u8>> {
        match ask_bucket(self.seaweed, &self.folder, "GET", name, b"") {
            (200, content) => Some(content),
            (404, _) => None,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn count(&self) -> usize {
        match ask_bucket(self.seaweed, &self.folder, "PROPFIND", "", b"") {
            (207, content) => String::from_utf8(content).unwrap().matches("<D:response>").count() - 1,
            (404, _) => 0,
            other => panic!("{other:?}"),
        }
    }

    fn keeps(&self, name: &str) -> bool {
        // SeaweedFS treats a backslash as a slash.
        !name.contains('\\')
    }
}

/// A claim that delivers a file: the file, and how far its upload is.
pub(crate) struct Claim {
    pub(crate) object: Object,
    pub(crate) log: UploadLog,
}

pub(crate) fn claim(name: &str, content: &[u8]) -> Claim {
    Claim { object: object(name, content), log: UploadLog::unrecorded(None) }
}

/// The next claim of the same file, with what the last one recorded.
pub(crate) fn next_claim(last: &Claim) -> Claim {
    let Claim { object: last, log } = last;
    let mut next = object("x", b"");
    (next.file_id, next.path, next.size, next.sha256) = (last.file_id, last.path.clone(), last.size, last.sha256);
    next.precondition = last.precondition.clone();
    next.epoch.0 = last.epoch.0 + 1;
    Claim { object: next, log: UploadLog::unrecorded(log.current()) }
}

pub(crate) async fn send(remote: &dyn Remote, claim: &Claim, content: &[u8]) -> Result<Evidence, RemoteError> {
    within(remote.send_resumable(&claim.object, body(content), &claim.log)).await
}

/// Sends the first `len` bytes and waits until so many parts are recorded; then the sender is gone.
pub(crate) async fn send_some(remote: &dyn Remote, claim: &Claim, content: &[u8], len: usize, parts: usize) {
    let (to, body) = open_body(content.len());
    let feed = async {
        for piece in content[..len].chunks(MIB) {
            to.send(piece.to_vec().into()).await.unwrap();
        }
        while claim.log.current().is_none_or(|upload| upload.parts.len() < parts) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(async {
        tokio::select! {
            sent = remote.send_resumable(&claim.object, body, &claim.log) => panic!("{sent:?}"),
            () = feed => {}
        }
    })
    .await;
}

#[tokio::test]
async fn s3_conforms() {
    for (conditional, checksums) in [(true, true), (true, false)] {
        let change = |settings: &mut S3Remote| (settings.conditional, settings.checksums) = (conditional, checksums);
        suite(&Bucket::new(change).await).await;
    }
}

#[tokio::test]
async fn large_files_go_in_parts() {
    let bucket = Bucket::new(|settings| settings.in_flight_bytes = 16 << 20).await;
    for size in [8 * MIB, 8 * MIB + 1, 16 * MIB, 33 * MIB + 5] {
        let (name, content) = (format!("size {size}"), bytes(size));
        let claim = claim(&name, &content);
        let evidence = send(&*bucket.remote, &claim, &content).await.unwrap();
        assert_eq!(evidence.sent, size as u64);
        let proofs: &[_] = if size > 8 * MIB { &["parts", "checksum"] } else { &["put", "checksum"] };
        assert!(proofs.contains(&evidence.proof.as_str()) && evidence.etag.is_some(), "{evidence:?}");
        assert_eq!(claim.log.current(), None);
        assert!(bucket.stored(&name).as_ref() == Some(&content), "{name}: other bytes");
        let found = within(bucket.remote.compare(&claim.object)).await;
        assert!(
            matches!(&found, Ok(Comparison::Equal(evidence)) if evidence.proof.as_str() == "metadata"),
            "{found:?}"
        );
        let again = send(&*bucket.remote, &next_claim(&claim), &content).await;
        assert!(matches!(again, Err(RemoteError::Conflict(_))), "{again:?}");
        let mut replacing = self::claim(&name, &content);
        replacing.object.precondition = Precondition::Replace(None);
        send(&*bucket.remote, &replacing, &content).await.unwrap();
    }
}

#[tokio::test]
async fn the_next_claim_sends_only_what_is_missing() {
    let bucket = Bucket::new(|_| {}).await;
    let content = bytes(40 * MIB + 7);
    let claim = claim("x", &content);
    send_some(&*bucket.remote, &claim, &content, 33 * MIB, 4).await;
    assert_eq!(bucket.stored("x"), None);
    assert!(matches!(within(bucket.remote.compare(&claim.object)).await, Ok(Comparison::Absent)));

    // Another process, with a part that was not what MongoDB gives back now.
    let next = next_claim(&claim);
    let mut known = next.log.current().unwrap();
    let second = known.parts.iter_mut().find(|part| part.number == 2).unwrap();
    second.sha256 = contract::Digest::of(b"damaged");
    let next = Claim { log: UploadLog::unrecorded(Some(known)), ..next };
    let evidence = send(&*bucket.remote, &next, &content).await.unwrap();
    assert_eq!(evidence.sent, (16 * MIB + 7) as u64);
    assert!(bucket.stored("x").as_ref() == Some(&content), "other bytes");
    assert!(matches!(within(bucket.remote.compare(&next.object)).await, Ok(Comparison::Equal(_))));
}

#[tokio::test]
async fn an_abandoned_upload_is_removed_at_the_remote() {
    let bucket = Bucket::new(|_| {}).await;
    let content = bytes(17 * MIB);
    let claim = claim("x", &content);
    within(claim.log.give_up(&*bucket.remote)).await.unwrap();
    send_some(&*bucket.remote, &claim, &content, 9 * MIB, 1).await;
    let known = claim.log.current();
    within(claim.log.give_up(&*bucket.remote)).await.unwrap();
    assert_eq!(claim.log.current(), None);
    // Who still believes in it notices, and begins anew.
    let next = Claim { log: UploadLog::unrecorded(known), ..next_claim(&claim) };
    let sent = send(&*bucket.remote, &next, &content).await;
    assert!(matches!(&sent, Err(RemoteError::Later { detail, .. }) if detail.contains("NoSuchUpload")), "{sent:?}");
    assert_eq!(next.log.current(), None);
    send(&*bucket.remote, &next, &content).await.unwrap();
    assert!(bucket.stored("x").as_ref() == Some(&content), "other bytes");
}

#[tokio::test]
async fn an_object_that_others_put_there_is_read_back() {
    let (content, other) = (bytes(100_000), bytes(100_001));
    let bucket = Bucket::new(|_| {}).await;
    // The object lacks our metadata.
    let put = |name: &str, content: &[u8]| {
        assert_eq!(ask_bucket(bucket.seaweed, &bucket.folder, "PUT", name, content).0, 201);
    };
    // Makes the folder.
    send(&*bucket.remote, &claim("first", &content), &content).await.unwrap();
    put("same", &content);
    put("longer", &other);
    put("else", &other[1..]);
    let found = within(bucket.remote.compare(&object("same", &content))).await;
    assert!(matches!(&found, Ok(Comparison::Equal(evidence)) if evidence.proof.as_str() == "read-back"), "{found:?}");
    for name in ["longer", "else"] {
        let found = within(bucket.remote.compare(&object(name, &content))).await;
        assert!(matches!(found, Ok(Comparison::Different(_))), "{found:?}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused() {
    let content = bytes(10);
    for change in [
        (|settings: &mut S3Remote| settings.secret_key = Some(Secret::new("hush".into()))) as fn(&mut S3Remote),
        |settings| settings.access_key = Some("nobody".into()),
    ] {
        let bucket = Bucket::new(change).await;
        let claim = claim("x", &content);
        for detail in [
            refused(within(bucket.remote.compare(&claim.object)).await),
            refused(send(&*bucket.remote, &claim, &content).await),
        ] {
            assert!(detail.contains("403") && !detail.contains("hush"), "{detail}");
        }
        assert!(!format!("{:?}", bucket.remote).contains("hush"));
    }
    let settings = S3Remote::new("http://127.0.0.1:1/bucket/");
    assert!(refused(finaliser::remote::open(&RemoteSettings::S3(settings))).contains("access_key"));
}

#[tokio::test]
async fn a_body_that_differs_from_its_hash_is_refused() {
    let bucket = Bucket::new(|_| {}).await;
    let content = bytes(70_000);
    let claim = claim("x", &content);
    let wrong = body(&bytes(70_001)[1..]);
    let sent = within(bucket.remote.send(&claim.object, wrong)).await;
    assert!(sent.is_err(), "{sent:?}");
    assert_eq!(bucket.stored("x"), None);
}
