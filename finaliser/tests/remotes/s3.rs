//! S3, against SeaweedFS. The tests look at its content by WebDAV.

use std::time::Duration;

use finaliser::remote::{Look, Onto, Parcel, Remote, RemoteError, UploadLog};
use servers::Seaweed;
use settings::{RemoteSettings, S3Remote, Secret};
use testing::ask_bucket;

use crate::conformance::{Place, suite};
use crate::parcel::{body, bytes, open_body, parcel, refused, send, within};

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

/// The next claim of the same file, with what the last one recorded.
pub(crate) fn next_claim(last: &Parcel) -> Parcel {
    let mut next = parcel("x", b"");
    (next.file_id, next.object, next.size, next.sha256) = (last.file_id, last.object.clone(), last.size, last.sha256);
    (next.onto, next.upload) = (last.onto.clone(), UploadLog::unkept(last.upload.known()));
    next.epoch.0 = last.epoch.0 + 1;
    next
}

/// Sends the first `len` bytes, waits until `parts` parts are recorded, and drops the delivery.
pub(crate) async fn send_some(remote: &dyn Remote, parcel: &Parcel, content: &[u8], len: usize, parts: usize) {
    let (to, body) = open_body(content.len());
    let feed = async {
        for piece in content[..len].chunks(MIB) {
            to.send(piece.to_vec().into()).await.unwrap();
        }
        while parcel.upload.known().is_none_or(|upload| upload.parts.len() < parts) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(async {
        tokio::select! {
            sent = remote.send(parcel, body) => panic!("{sent:?}"),
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
        let parcel = parcel(&name, &content);
        let evidence = send(&*bucket.remote, &parcel, &content).await.unwrap();
        assert_eq!(evidence.sent, size as u64);
        let proofs: &[_] = if size > 8 * MIB { &["parts", "checksum"] } else { &["put", "checksum"] };
        assert!(proofs.contains(&evidence.proof.as_str()) && evidence.etag.is_some(), "{evidence:?}");
        assert_eq!(parcel.upload.known(), None);
        assert!(bucket.stored(&name).as_ref() == Some(&content), "{name}: other bytes");
        let found = within(bucket.remote.look(&parcel)).await;
        assert!(matches!(&found, Ok(Look::Equal(evidence)) if evidence.proof.as_str() == "metadata"), "{found:?}");
        let again = send(&*bucket.remote, &next_claim(&parcel), &content).await;
        assert!(matches!(again, Err(RemoteError::Clash(_))), "{again:?}");
        let mut replacing = self::parcel(&name, &content);
        replacing.onto = Onto::Replacing(None);
        send(&*bucket.remote, &replacing, &content).await.unwrap();
    }
}

#[tokio::test]
async fn the_next_claim_sends_only_what_is_missing() {
    let bucket = Bucket::new(|_| {}).await;
    let content = bytes(40 * MIB + 7);
    let parcel = parcel("x", &content);
    send_some(&*bucket.remote, &parcel, &content, 33 * MIB, 4).await;
    assert_eq!(bucket.stored("x"), None);
    assert!(matches!(within(bucket.remote.look(&parcel)).await, Ok(Look::Absent)));

    // Another process recorded a part that differs from what MongoDB returns now.
    let next = next_claim(&parcel);
    let mut known = next.upload.known().unwrap();
    let second = known.parts.iter_mut().find(|part| part.number == 2).unwrap();
    second.sha256 = contract::Digest::of(b"damaged");
    let next = Parcel { upload: UploadLog::unkept(Some(known)), ..next };
    let evidence = send(&*bucket.remote, &next, &content).await.unwrap();
    assert_eq!(evidence.sent, (16 * MIB + 7) as u64);
    assert!(bucket.stored("x").as_ref() == Some(&content), "other bytes");
    assert!(matches!(within(bucket.remote.look(&next)).await, Ok(Look::Equal(_))));
}

#[tokio::test]
async fn an_abandoned_upload_is_removed_at_the_remote() {
    let bucket = Bucket::new(|_| {}).await;
    let content = bytes(17 * MIB);
    let parcel = parcel("x", &content);
    within(bucket.remote.abandon(&parcel)).await.unwrap();
    send_some(&*bucket.remote, &parcel, &content, 9 * MIB, 1).await;
    let known = parcel.upload.known();
    within(bucket.remote.abandon(&parcel)).await.unwrap();
    assert_eq!(parcel.upload.known(), None);
    // A claim that still knows the upload notices that it is gone, and begins a new one.
    let next = Parcel { upload: UploadLog::unkept(known), ..next_claim(&parcel) };
    let sent = send(&*bucket.remote, &next, &content).await;
    assert!(matches!(&sent, Err(RemoteError::Later { detail, .. }) if detail.contains("NoSuchUpload")), "{sent:?}");
    assert_eq!(next.upload.known(), None);
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
    // This makes the folder.
    send(&*bucket.remote, &parcel("first", &content), &content).await.unwrap();
    put("same", &content);
    put("longer", &other);
    put("else", &other[1..]);
    let found = within(bucket.remote.look(&parcel("same", &content))).await;
    assert!(matches!(&found, Ok(Look::Equal(evidence)) if evidence.proof.as_str() == "read-back"), "{found:?}");
    for name in ["longer", "else"] {
        let found = within(bucket.remote.look(&parcel(name, &content))).await;
        assert!(matches!(found, Ok(Look::Other(_))), "{found:?}");
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
        let parcel = parcel("x", &content);
        for detail in [
            refused(within(bucket.remote.look(&parcel)).await),
            refused(send(&*bucket.remote, &parcel, &content).await),
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
    let parcel = parcel("x", &content);
    let wrong = body(&bytes(70_001)[1..]);
    let sent = within(bucket.remote.send(&parcel, wrong)).await;
    assert!(sent.is_err(), "{sent:?}");
    assert_eq!(bucket.stored("x"), None);
}
