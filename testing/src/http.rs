//! As little HTTP as it takes to look at what a server has, or to be a server that misbehaves.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use crate::DEADLINE;

/// Asks a server; returns status and body. `fields` are lines of the head, each with its end.
pub fn ask(server: &str, method: &str, path: &str, fields: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(server).unwrap();
    let length = body.len();
    // Of this version no answer is cut into chunks.
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {length}\r\n{fields}\r\n").unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("an answer has a head");
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    (status, answer.split_off(end + 4))
}

/// A server that does `script` with its only connection, on a thread of its own. Returns its address and what `script`
/// returned; a script that fails makes the test fail where it is joined.
pub fn raw_server<T: Send + 'static>(script: impl FnOnce(TcpStream) -> T + Send + 'static) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        script(stream)
    });
    (url, server)
}

/// Reads a request up to its body, and not a byte of that.
pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// How many bytes still come before the client hangs up.
pub fn read_to_end(stream: &mut TcpStream) -> usize {
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
