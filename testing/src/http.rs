use std::io::{Read, Write};
use std::net::TcpStream;

use contract::{Digest, Hasher};

/// Sends a plain request; returns status and body. `fields` are header lines, each with its line end.
pub fn ask(server: &str, method: &str, path: &str, fields: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let (status, mut answer) = open(server, method, path, fields, body);
    let mut content = Vec::new();
    answer.read_to_end(&mut content).unwrap();
    (status, content)
}

/// Sends a plain request; returns the status, and the stream from which the body can be read.
pub(crate) fn open(server: &str, method: &str, path: &str, fields: &str, body: &[u8]) -> (u16, TcpStream) {
    let mut stream = TcpStream::connect(server).unwrap();
    let length = body.len();
    // In HTTP/1.0 no answer is chunked.
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {length}\r\n{fields}\r\n").unwrap();
    stream.write_all(body).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (std::str::from_utf8(&head[9..12]).unwrap().parse().unwrap(), stream)
}

/// Size and hash of everything that can be read.
pub fn hashed(mut from: impl Read) -> (u64, Digest) {
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 64 * 1024]);
    loop {
        match from.read(&mut buffer).unwrap() {
            0 => return (size, hasher.finish()),
            count => {
                size += count as u64;
                hasher.update(&buffer[..count]);
            }
        }
    }
}
