//! nginx, for other tests.

use std::io::{Read, Write};
use std::net::TcpStream;

use servers::{Nginx, NginxOptions};

fn asked(nginx: &Nginx, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", nginx.port())).unwrap();
    write!(stream, "{request}\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
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
    assert!(asked(&nginx, "GET /x HTTP/1.1").ends_with("abc"));
    assert!(asked(&nginx, "PROPFIND / HTTP/1.1\r\nDepth: 0").starts_with("HTTP/1.1 207"));
    assert!(asked(&nginx, "MKCOL /made/ HTTP/1.1").starts_with("HTTP/1.1 201"));
    nginx.kill().await.unwrap();
    drop(nginx);

    // Again on the same directory, and otherwise.
    options.user = Some(("ada".into(), "secret".into()));
    (options.propfind, options.read_only) = (false, true);
    let nginx = Nginx::start(options).await.unwrap();
    assert!(asked(&nginx, "GET /x HTTP/1.1").starts_with("HTTP/1.1 401"));
    let known = "Authorization: Basic YWRhOnNlY3JldA==";
    assert!(asked(&nginx, &format!("GET /x HTTP/1.1\r\n{known}")).ends_with("abc"));
    assert!(asked(&nginx, &format!("MKCOL /more/ HTTP/1.1\r\n{known}")).starts_with("HTTP/1.1 403"));
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
