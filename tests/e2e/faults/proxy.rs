//! The proxy itself: each of its faults does what it says.

use std::time::Duration;

use harness::{NetFault, Proxy, Way};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MOMENT: Duration = Duration::from_millis(150);

/// A proxy before a server that sends back what it gets.
async fn before_an_echo() -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                drop(tokio::io::copy(&mut read, &mut write).await);
            });
        }
    });
    Proxy::start(address)
}

/// Sends bytes and returns the answer; `None` if the connection ends before.
async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut read, mut write) = stream.split();
    let mut back = vec![0; bytes.len()];
    let exchanged = async {
        let (sent, got) = tokio::join!(write.write_all(bytes), read.read_exact(&mut back));
        sent.and(got.map(drop))
    };
    exchanged.await.ok().map(|()| back)
}

#[tokio::test]
async fn connections_are_cut_and_refused_and_come_back() {
    let proxy = before_an_echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(exchange(&mut stream, b"hello").await.unwrap(), b"hello");
    proxy.cut();
    assert_eq!(exchange(&mut stream, b"hello").await, None);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(exchange(&mut stream, b"again").await.unwrap(), b"again");

    proxy.begin(NetFault::Refuse);
    assert_eq!(exchange(&mut stream, b"hello").await, None);
    let refused = harness::until("a connection is refused", async || TcpStream::connect(proxy.address()).await.err());
    assert_eq!(refused.await.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.heal();
    let mut stream =
        harness::until("connections are taken", async || TcpStream::connect(proxy.address()).await.ok()).await;
    assert_eq!(exchange(&mut stream, b"hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn bytes_are_held_and_come_late() {
    let proxy = before_an_echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(exchange(&mut stream, b"hello").await.is_some());

    proxy.begin(NetFault::Freeze);
    stream.write_all(b"held").await.unwrap();
    let mut back = [0; 4];
    assert!(tokio::time::timeout(MOMENT, stream.read_exact(&mut back)).await.is_err(), "nothing comes");
    proxy.heal();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"held");

    let begun = std::time::Instant::now();
    proxy.begin(NetFault::Delay(MOMENT));
    assert!(exchange(&mut stream, b"late").await.is_some());
    assert!(begun.elapsed() >= 2 * MOMENT, "late both ways");

    let begun = std::time::Instant::now();
    proxy.begin(NetFault::Throttle(100_000));
    assert!(exchange(&mut stream, &[7; 20_000]).await.is_some());
    assert!(begun.elapsed() >= MOMENT, "20,000 bytes at 100,000 a second");
}

#[tokio::test]
async fn a_connection_ends_after_so_many_bytes() {
    let proxy = before_an_echo().await;
    proxy.begin(NetFault::Truncate(1000));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    drop(stream.write_all(&[7; 3000]).await);
    let mut back = Vec::new();
    drop(stream.read_to_end(&mut back).await);
    assert!(back.len() <= 1000, "{} bytes came back", back.len());
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(exchange(&mut stream, &[7; 1000]).await.is_some(), "each connection has its own count");
}

#[tokio::test]
async fn one_byte_is_flipped_in_a_payload_and_none_in_a_header() {
    let proxy = before_an_echo().await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.begin(NetFault::Flip(Way::There));
    let small = [b"HPUB subject ".to_vec(), vec![7; 3000]].concat();
    assert_eq!(exchange(&mut stream, &small).await.unwrap(), small, "too small to be a payload for sure");
    let large = [b"HPUB subject ".to_vec(), vec![7; 300_000]].concat();
    let back = exchange(&mut stream, &large).await.unwrap();
    let flipped: Vec<_> = (0..large.len()).filter(|at| back[*at] != large[*at]).collect();
    assert_eq!((flipped.len(), proxy.flipped()), (1, 1));
    assert!(flipped[0] > 256, "not in the header: {flipped:?}");
    assert_eq!(exchange(&mut stream, &large).await.unwrap(), large, "once");
}
