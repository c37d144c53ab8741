//! What a remote says gets into records, events and the log, but no more of it than people read.

use contract::EventKind;
use harness::{Options, System};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::inspection::events_until;

/// A server that answers every request by this.
async fn odd_server(answer: String) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(talk(stream, answer.clone()));
        }
    });
    (url, serving)
}

async fn talk(mut stream: TcpStream, answer: String) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // The client reads what it wants of it.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn long_texts_of_a_remote_make_no_long_record_or_event() {
    let name = "n".repeat(60_000);
    let answers = [
        format!("HTTP/1.1 207 Multi-Status\r\nConnection: close\r\n\r\n<{name}/>"),
        format!("HTTP/1.1 207 Multi-Status\r\nConnection: close\r\n\r\n<{}/>", "n".repeat(4 << 20)),
        format!("HTTP/1.1 307 Away\r\nLocation: https://{name}/{name}\r\nContent-Length: 0\r\n\r\n"),
        format!("HTTP/1.1 401 Who\r\nWWW-Authenticate: Digest realm=\"{name}\"\r\nContent-Length: 0\r\n\r\n"),
    ];
    let mut servers = Vec::new();
    let mut toml = String::new();
    for (number, answer) in answers.into_iter().enumerate() {
        let (url, serving) = odd_server(answer).await;
        servers.push(serving);
        toml.push_str(&format!("[remotes.odd-{number}]\nkind = \"webdav\"\nurl = {url:?}\n"));
    }
    let system = System::start(Options { toml, attempts: 2, ..Options::default() }).await;
    let nats = system.nats().await;
    for number in 0..servers.len() {
        let (file, _) = system.send(&format!("file-{number}"), 1000, &format!("odd-{number}")).await;
        let failed = system.api.until_state(&file, "failed").await;
        let detail = failed["error"]["detail"].as_str().unwrap();
        let length = failed.to_string().len();
        assert!(length < 16 * 1024, "{length} bytes");
        assert!(detail.contains('…') || detail.contains("more than"), "{detail}");
        for event in events_until(&system, &nats, &file, EventKind::Failed).await {
            assert!(
                event.detail.to_string().len() < 16 * 1024,
                "{}: {} bytes",
                event.event,
                event.detail.to_string().len()
            );
        }
    }
    servers.iter().for_each(tokio::task::JoinHandle::abort);
}
