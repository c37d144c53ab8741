//! SFTP servers that say less than OpenSSH, or say it differently.

use finaliser::remote::Comparison;

use crate::remotes::conformance::suite;
use crate::remotes::object::{object, send, within};
use crate::remotes::sftp_server::{PasswordServer, Twist};

#[tokio::test]
async fn a_server_that_names_no_file_types_conforms() {
    let Some(server) = PasswordServer::start(Twist::NoTypes).await else { return };
    let inbox = server.inbox("hush 1815");
    suite(&inbox).await;
    assert!(inbox.asides().is_empty());
}

#[tokio::test]
async fn a_server_that_answers_a_failure_where_nothing_is_conforms() {
    let Some(server) = PasswordServer::start(Twist::MissingIsFailure).await else { return };
    let inbox = server.inbox("hush 1815");
    suite(&inbox).await;
    assert!(inbox.asides().is_empty());
}

/// A failure does not mean that nothing is there.
#[tokio::test]
async fn a_failure_about_what_is_there_is_a_failure() {
    let Some(server) = PasswordServer::start(Twist::AttributesFail).await else { return };
    let inbox = server.inbox("hush 1815");
    let object = object("x", b"abc");
    std::fs::write(inbox.path("x"), "old").unwrap();
    for result in
        [within(inbox.remote.compare(&object)).await.map(drop), send(&*inbox.remote, &object, b"abc").await.map(drop)]
    {
        assert!(crate::remotes::object::later(result).0.contains("cannot look at"));
    }
    std::fs::remove_file(inbox.path("x")).unwrap();
    assert!(matches!(within(inbox.remote.compare(&object)).await, Ok(Comparison::Absent)));
}
