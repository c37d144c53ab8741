//! Servers that forbid names which begin with a dot.

use contract::ObjectName;
use finaliser::remote::{RemoteError, StagingName};

use super::webdav_server::{OddServer, status};
use crate::remotes::object::{object, refused, send, within};
use crate::remotes::webdav::open_webdav;

async fn without_dots(code: u16) -> OddServer {
    OddServer::start(move |asked, _| asked.path.contains("/.").then(|| status(code))).await
}

#[tokio::test]
async fn the_setting_for_another_name_is_named() {
    for code in [403, 404] {
        let server = without_dots(code).await;
        let detail = refused(send(&*server.remote, &object("x", b"abc"), b"abc").await);
        assert!(detail.contains("names that begin with a dot") && detail.contains("`staging_folder`"), "{detail}");
    }
    // Another name is not to blame.
    let server = OddServer::start(|asked, _| (asked.method == "MKCOL").then(|| status(403))).await;
    let other = open_webdav(&server.url, |remote| {
        remote.server.staging_folder = Some(ObjectName::new("staging").unwrap());
    });
    let detail = refused(send(&*other, &object("x", b"abc"), b"abc").await);
    assert!(!detail.contains("staging_folder"), "{detail}");
}

#[tokio::test]
async fn staging_files_are_written_and_found_in_a_folder_of_another_name() {
    let server = without_dots(403).await;
    let remote = open_webdav(&server.url, |remote| {
        remote.server.staging_folder = Some(ObjectName::new("in progress").unwrap());
    });
    send(&*remote, &object("x", b"abc"), b"abc").await.unwrap();
    assert_eq!(server.stored("x").as_deref(), Some(&b"abc"[..]));

    let left: StagingName = format!("{}.7.0", contract::FileId::generate()).parse().unwrap();
    server.keep(&format!("in progress/{left}"), b"ab");
    assert_eq!(within(remote.staging_files()).await.unwrap(), [left]);
    within(remote.remove_staging_file(left)).await.unwrap();
    assert_eq!(server.names("/in/in progress"), Vec::<String>::new());

    let taken = within(remote.compare(&object("in progress", b"abc"))).await;
    assert!(matches!(&taken, Err(RemoteError::Refused(why)) if why.contains("expected another name")), "{taken:?}");
}
