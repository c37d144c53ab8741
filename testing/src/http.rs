use std::io::{Read, Write};
use std::net::TcpStream;

/// Asks a server as plainly as HTTP allows; returns status and body. `fields` are lines of the head, each with its end.
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
