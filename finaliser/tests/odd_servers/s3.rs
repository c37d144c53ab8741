//! Buckets that are young, elsewhere, or too talkative.

use finaliser::remote::{Comparison, Remote, RemoteError};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Response};
use settings::{RemoteSettings, S3Remote, Secret};
use tokio_util::task::AbortOnDropHandle;

use crate::remotes::object::{bytes, later, object, refused, send as send_whole, within};
use crate::remotes::s3::{MIB, claim, send};
use crate::remotes::serving::serve;

/// A status, fields and a text.
type Said = (u16, &'static [(&'static str, &'static str)], String);

/// A bucket that answers every request in this way.
async fn bucket(
    says: impl Fn(&Method) -> Said + Clone + Send + Sync + 'static,
) -> (Box<dyn Remote>, AbortOnDropHandle<()>) {
    let (origin, task) = serve(None, move |request| {
        let says = says.clone();
        async move {
            let (head, body) = request.into_parts();
            drop(body.collect().await);
            let (status, fields, text) = says(&head.method);
            let answer = fields
                .iter()
                .fold(Response::builder().status(status), |head, (name, value)| head.header(*name, *value));
            answer.header("content-type", "application/xml").body(Full::<Bytes>::from(text)).unwrap()
        }
    })
    .await;
    let settings = S3Remote {
        access_key: Some("AKIA".into()),
        secret_key: Some(Secret::new("hush".into())),
        ..S3Remote::new(format!("{origin}/bucket/in/"))
    };
    (finaliser::remote::open(&RemoteSettings::S3(settings)).unwrap(), task)
}

fn error(code: &str) -> String {
    format!("<Error><Code>{code}</Code><Message>said so</Message></Error>")
}

/// For some hours, the name of a new bucket leads to another region, which answers 307.
#[tokio::test]
async fn a_young_bucket_is_tried_again() {
    let to = &[("location", "https://bucket.s3.eu-west-1.amazonaws.com/in/x")];
    let (remote, _task) = bucket(move |method| match *method {
        Method::HEAD => (307, to, String::new()),
        _ => (307, to, error("TemporaryRedirect")),
    })
    .await;
    let (detail, _) = later(send_whole(&*remote, &object("x", b"abc"), b"abc").await);
    assert!(detail.contains("TemporaryRedirect: said so"), "{detail}");
    let (detail, _) = later(within(remote.compare(&object("x", b"abc"))).await);
    assert!(detail.contains("answered 307"), "{detail}");
    let content = bytes(9 * MIB);
    later(send(&*remote, &claim("x", &content), &content).await);
}

#[tokio::test]
async fn the_region_of_the_bucket_is_named() {
    let region = &[("x-amz-bucket-region", "eu-west-1")];
    for (status, code) in [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")] {
        let (remote, _task) = bucket(move |_| (status, region, error(code))).await;
        for detail in [
            refused(send_whole(&*remote, &object("x", b"abc"), b"abc").await),
            refused(within(remote.compare(&object("x", b"abc"))).await),
        ] {
            assert!(detail.ends_with("the bucket is in the region \"eu-west-1\": set `region` to that"), "{detail}");
        }
    }
    // Not what nobody can set.
    for odd in ["eu west", "\"eu\"", "r".repeat(65).leak()] {
        let fields = vec![("x-amz-bucket-region", &*odd.to_owned().leak())].leak();
        let (remote, _task) = bucket(|_| (301, fields, error("PermanentRedirect"))).await;
        let detail = refused(send_whole(&*remote, &object("x", b"abc"), b"abc").await);
        assert!(!detail.contains("region"), "{detail}");
    }
}

/// It would be in the file's record and in the address of every part.
#[tokio::test]
async fn an_upload_id_without_end_is_refused() {
    let content = bytes(9 * MIB);
    for length in [1025, 50_000] {
        let (remote, _task) =
            bucket(move |_| (200, &[], format!("<R><UploadId>{}</UploadId></R>", "u".repeat(length)))).await;
        let claim = claim("x", &content);
        let detail = refused(send(&*remote, &claim, &content).await);
        assert!(detail.contains(&format!("at most 1024 bytes, found {length} bytes")), "{detail}");
        assert!(detail.len() < 400, "{} bytes", detail.len());
        assert_eq!(claim.log.current(), None);
    }
}

#[tokio::test]
async fn an_old_upload_with_an_endless_id_is_not_listed() {
    let (remote, _task) = bucket(|_| {
        let upload = |id: &str| {
            let begun = "2001-11-25T12:00:00.000Z";
            format!("<Upload><Key>in/x</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>")
        };
        (200, &[], format!("<R>{}{}</R>", upload(&"u".repeat(1025)), upload("ours")))
    })
    .await;
    let found = within(remote.old_uploads()).await.unwrap();
    assert_eq!(found.iter().map(|upload| &*upload.id).collect::<Vec<_>>(), ["ours"]);
}

#[tokio::test]
async fn a_head_that_lies_about_the_length_is_checked_by_a_get() {
    for (content, is_ours) in [("abc", true), ("abcd", false), ("abd", false)] {
        let (remote, _task) = bucket(move |method| match *method {
            Method::HEAD => (200, &[("content-length", "77")], String::new()),
            _ => (200, &[], content.to_owned()),
        })
        .await;
        let found = within(remote.compare(&object("x", b"abc"))).await;
        let is_equal = matches!(&found, Ok(Comparison::Equal(found)) if found.proof.as_str() == "read-back");
        assert_eq!(is_equal, is_ours, "{found:?}");
    }
    let (remote, _task) = bucket(|method| match *method {
        Method::HEAD => (200, &[("content-length", "77")], String::new()),
        _ => (403, &[], error("AccessDenied")),
    })
    .await;
    let found: Result<_, RemoteError> = within(remote.compare(&object("x", b"abc"))).await;
    assert!(matches!(&found, Ok(Comparison::Different(found)) if found.what == "77 bytes"), "{found:?}");
}

/// A proxy that has only queued the object answers 202.
#[tokio::test]
async fn an_object_that_was_only_accepted_is_asked_for_again() {
    let (remote, _task) = bucket(|_| (202, &[], String::new())).await;
    let (detail, _) = later(send_whole(&*remote, &object("x", b"abc"), b"abc").await);
    assert!(detail.contains("expected 200, found 202"), "{detail}");
}
