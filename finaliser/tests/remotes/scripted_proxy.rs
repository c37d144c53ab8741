//! A proxy before a real server that answers in its place where a test says so.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// How a request is treated. Every request has a connection of its own.
pub(crate) enum Action {
    /// The server answers.
    Pass,
    /// The proxy reads the body and gives this answer.
    Answer(String),
    /// The proxy closes the connection after this many bytes of the body.
    CutAfter(usize),
    /// The server gets the request; the client never gets the answer.
    Swallow,
    /// The server answers, with this as its `Date`.
    PassAt(&'static str),
}

pub(crate) struct ScriptedProxy {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl ScriptedProxy {
    /// Starts a proxy before `server`; `script` gets the first line of each request.
    pub(crate) async fn start(server: String, script: impl Fn(&str) -> Action + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (script, seen) = (Arc::new(script), Arc::new(Mutex::new(Vec::new())));
        let lines = Arc::clone(&seen);
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (server, script, lines) = (server.clone(), Arc::clone(&script), Arc::clone(&lines));
                tokio::spawn(async move {
                    let line = |head: &str| {
                        let line = head.lines().next().unwrap().to_owned();
                        lines.lock().unwrap().push(line.clone());
                        script(&line)
                    };
                    // Some tests are about a connection that breaks.
                    let _ = serve(client, &server, line).await;
                });
            }
        };
        Self { address, seen, _task: AbortOnDropHandle::new(tokio::spawn(accept)) }
    }

    /// The first lines of the requests that arrived.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn serve(mut client: TcpStream, server: &str, script: impl Fn(&str) -> Action) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
    let action = script(&String::from_utf8_lossy(&head));
    if let Action::CutAfter(len) = action {
        let mut some = vec![0; len];
        client.read_exact(&mut some).await?;
        return Ok(());
    }
    if let Action::Answer(answer) = action {
        let mut whole = vec![0; length];
        client.read_exact(&mut whole).await?;
        client.write_all(answer.as_bytes()).await?;
        return client.shutdown().await;
    }
    let mut server = TcpStream::connect(server).await?;
    // Each request has a connection of its own, so that the script gets to see it.
    head.truncate(head.len() - 2);
    server.write_all(&head).await?;
    server.write_all(b"Connection: close\r\n\r\n").await?;
    if matches!(action, Action::Swallow) {
        let mut whole = vec![0; length];
        client.read_exact(&mut whole).await?;
        server.write_all(&whole).await?;
        // The server has done what it was asked.
        server.read_u8().await?;
        return Ok(());
    }
    if let Action::PassAt(date) = action {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(server.read_u8().await?);
        }
        let with_date = |line: &str| match line.starts_with("Date: ") {
            true => format!("Date: {date}\r\n"),
            false => format!("{line}\r\n"),
        };
        let answer: String = std::str::from_utf8(&answer).unwrap().lines().map(with_date).collect();
        client.write_all(answer.as_bytes()).await?;
    }
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
