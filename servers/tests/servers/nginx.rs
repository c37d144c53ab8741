//! nginx, for other tests.

use servers::{Nginx, NginxOptions};
use testing::ask;

/// Status and body of the answer.
fn asked(nginx: &Nginx, method: &str, path: &str, fields: &str) -> (u16, Vec<u8>) {
    ask(&format!("127.0.0.1:{}", nginx.port()), method, path, fields, b"")
}

#[tokio::test]
async fn it_serves_a_folder_and_ends() {
    if !servers::can_test(servers::Nginx::is_here()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("x"), "abc").unwrap();
    let mut options = NginxOptions::new(folder.path().join("nginx"), &root);
    let nginx = Nginx::start(options.clone()).await.unwrap();
    assert!(nginx.url().ends_with(&format!(":{}/", nginx.port())));
    assert_eq!(asked(&nginx, "GET", "/x", ""), (200, b"abc".into()));
    assert_eq!(asked(&nginx, "PROPFIND", "/", "Depth: 0\r\n").0, 207);
    assert_eq!(asked(&nginx, "MKCOL", "/made/", "").0, 201);
    nginx.kill().await.unwrap();
    drop(nginx);

    // Again on the same directory, and otherwise.
    options.user = Some(("ada".into(), "secret".into()));
    (options.propfind, options.read_only) = (false, true);
    let nginx = Nginx::start(options).await.unwrap();
    assert_eq!(asked(&nginx, "GET", "/x", "").0, 401);
    let known = "Authorization: Basic YWRhOnNlY3JldA==\r\n";
    assert_eq!(asked(&nginx, "GET", "/x", known), (200, b"abc".into()));
    assert_eq!(asked(&nginx, "MKCOL", "/more/", known).0, 403);
    assert!(!root.join("more").exists());
    nginx.stop().await.unwrap();
}

#[tokio::test]
async fn a_configuration_that_it_refuses_is_told() {
    if !servers::can_test(servers::Nginx::is_here()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut options = NginxOptions::new(folder.path().join("nginx"), folder.path());
    options.directives = "nonsense;".into();
    let error = Nginx::start(options).await.unwrap_err().to_string();
    assert!(error.contains("unknown directive \"nonsense\""), "{error}");
}
