//! The few commands that make a fresh mongod a primary, over MongoDB's wire protocol (`OP_MSG`).
//!
//! Not by the driver: while a server starts the driver looks at it only every 500 ms, its futures may not be dropped
//! half-way, and a server that hangs needs a time limit on each read. This is one blocking request at a time on
//! loopback, with BSON from the driver's library.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use mongodb::bson::{Bson, Document};

use crate::error::Error;

const OP_MSG: i32 = 2013;
/// Message length, request id, id responded to, opcode, each an `i32`.
const HEADER: usize = 16;
/// Flags (`u32`) and the kind of the one section (0, a document).
const BEFORE_DOCUMENT: usize = HEADER + 5;
/// What a server may send at most (48,000,000 bytes, its `maxMessageSizeBytes`).
const LARGEST: usize = 48_000_000;

/// A connection for commands to the `admin` database.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// `limit` is for the connection, and for each read and write on it.
    pub(crate) fn connect(port: u16, limit: Duration) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self { stream })
    }

    /// Runs one command and returns mongod's reply.
    ///
    /// [`Error::Refused`] if mongod says no. After any other error the connection is of no more use.
    pub(crate) fn run(&mut self, mut command: Document) -> Result<Document, Error> {
        let name = command.keys().next().cloned().unwrap_or_default();
        command.insert("$db", "admin");
        let failed = || Error::io(format!("could not ask mongod for {name}"));
        let request =
            message(&command).map_err(|source| Error::Bson { what: format!("write the command {name}"), source })?;
        self.stream.write_all(&request).map_err(failed())?;
        let document = self.read_document().map_err(failed())?;
        let reply = Document::from_reader(document.as_slice())
            .map_err(|source| Error::Bson { what: format!("read the reply to {name}"), source })?;
        if is_ok(&reply) {
            return Ok(reply);
        }
        Err(Error::Refused {
            command: name,
            code: reply.get_i32("code").unwrap_or_default(),
            message: reply.get_str("errmsg").unwrap_or("no reason given").to_owned(),
        })
    }

    fn read_document(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; BEFORE_DOCUMENT];
        self.stream.read_exact(&mut head)?;
        let word = |at: usize| i32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = usize::try_from(word(0)).unwrap_or(0);
        if word(12) != OP_MSG || !(BEFORE_DOCUMENT..=LARGEST).contains(&length) {
            return Err(io::Error::other("expected an OP_MSG of MongoDB, found something else"));
        }
        let mut document = vec![0; length - BEFORE_DOCUMENT];
        self.stream.read_exact(&mut document)?;
        Ok(document)
    }
}

fn message(command: &Document) -> Result<Vec<u8>, mongodb::bson::error::Error> {
    let document = command.to_vec()?;
    let mut message = Vec::with_capacity(BEFORE_DOCUMENT + document.len());
    // Our commands are some hundred bytes, far below `i32::MAX`.
    let length = i32::try_from(BEFORE_DOCUMENT + document.len()).unwrap_or(i32::MAX);
    // One request at a time, so each may bear the same id.
    for word in [length, 1, 0, OP_MSG] {
        message.extend(word.to_le_bytes());
    }
    message.extend([0; 5]);
    message.extend(document);
    Ok(message)
}

/// mongod writes this as a double; an integer would mean the same.
fn is_ok(reply: &Document) -> bool {
    match reply.get("ok") {
        Some(Bson::Double(ok)) => *ok == 1.0,
        Some(Bson::Int32(ok)) => *ok == 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use mongodb::bson::doc;

    use super::*;

    #[test]
    fn a_server_that_speaks_something_else_is_an_error() {
        // As long as it says, but the opcode of a request (2004).
        let mut other_opcode = [0; 32];
        other_opcode[0] = 32;
        other_opcode[12..16].copy_from_slice(&2004_i32.to_le_bytes());
        let too_long = *b"HTTP/1.1 400 Bad Request\r\n\r\n\0\0\0\0";
        for reply in [other_opcode, too_long] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(&reply).unwrap();
                // Until the client hangs up, which may come as a reset.
                let _ = stream.read_to_end(&mut Vec::new());
            });
            let mut wire = Wire::connect(port, Duration::from_secs(5)).unwrap();
            let error = wire.run(doc! { "hello": 1 }).unwrap_err();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            assert!(cause.is_some_and(|cause| cause.contains("expected an OP_MSG")), "{error:?}");
            drop(wire);
            server.join().unwrap();
        }
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut wire = Wire::connect(port, Duration::from_millis(50)).unwrap();
        assert!(wire.run(doc! { "hello": 1 }).is_err());
    }
}
