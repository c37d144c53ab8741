//! Servers that misbehave: a plain socket and a script of the test.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;

use testing::DEADLINE;

/// A server that does `script` with its only connection, on a thread of its own. Returns its address and what `script`
/// returned; a script that fails makes the test fail where it is joined.
pub(crate) fn raw_server<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        script(stream)
    });
    (url, server)
}

/// A server that does `script` with its only connection, and then neither reads nor answers until it is dropped.
pub(crate) struct SilentServer {
    pub(crate) url: String,
    stop: Option<mpsc::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl SilentServer {
    pub(crate) fn start(script: impl FnOnce(&mut TcpStream) + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (url, server) = raw_server(move |mut stream| {
            script(&mut stream);
            let _ = stopped.recv();
        });
        Self { url, stop: Some(stop), server: Some(server) }
    }
}

impl Drop for SilentServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take().filter(|_| !std::thread::panicking()) {
            server.join().unwrap();
        }
    }
}

/// Reads a request up to its body, and no byte of the body.
pub(crate) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

pub(crate) fn read_body(stream: &mut TcpStream, size: usize) {
    stream.read_exact(&mut vec![0; size]).unwrap();
}

/// How many bytes still arrive before the client hangs up.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return total,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return total,
            Err(error) => panic!("the client does not hang up: {error}"),
            Ok(count) => total += count,
        }
    }
}

pub(crate) fn answer(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// Writes `piece` again and again until the client hangs up; returns how many bytes went out.
pub(crate) fn write_until_closed(stream: &mut TcpStream, piece: &[u8]) -> usize {
    let mut total = 0;
    while stream.write_all(piece).is_ok() {
        total += piece.len();
    }
    total
}
