//! The little HTTP that it takes to look at what a server has, and to put something there by another way.

use std::io::{Read, Write};
use std::net::TcpStream;

use contract::{Digest, Hasher};

/// Asks a server for a file. Size and hash of what it answers; `None` if it has none.
pub fn get(server: &str, path: &str) -> Option<(u64, Digest)> {
    let mut stream = TcpStream::connect(server).unwrap();
    // Of this version no answer is cut into chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    match &head[9..12] {
        b"200" => {}
        b"404" => return None,
        _ => panic!("{}", String::from_utf8_lossy(&head)),
    }
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0, vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return Some((size, hasher.finish())),
            count => {
                size += count as u64;
                hasher.update(&buffer[..count]);
            }
        }
    }
}

/// Puts a file on a server.
pub fn put(server: &str, path: &str, content: &[u8]) {
    let mut stream = TcpStream::connect(server).unwrap();
    let length = content.len();
    write!(stream, "PUT {path} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {length}\r\n\r\n").unwrap();
    stream.write_all(content).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(" 201 "), "{answer}");
}
