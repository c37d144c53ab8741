//! Health checks of a worker.

use std::time::Duration;

use contract::Role;
use testing::Sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn a_probe_is_answered_although_others_hold_connections() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let sandbox = Sandbox::with(|settings| settings.health.listen = Some(free)).await;
    let service = sandbox.start(Role::Store).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(TcpStream::connect(free).await.unwrap());
    }
    let mut probe = TcpStream::connect(free).await.unwrap();
    probe.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // Each of the others may take five seconds for its request.
    let answered = tokio::time::timeout(Duration::from_secs(60), probe.read_to_string(&mut answer)).await;
    answered.expect("the probe waits for the others").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    service.life.stop();
}
