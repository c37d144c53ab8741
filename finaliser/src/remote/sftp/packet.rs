//! The packets of SFTP version 3 (draft-ietf-secsh-filexfer-02), and those extensions of OpenSSH that are used here.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::remote::said::said;
use crate::remote::wire::answer;

/// The version of the protocol, which nearly all servers speak.
pub(super) const VERSION: u32 = 3;

/// The most bytes of one read or write if the server names no limit: the draft guarantees this many.
pub(super) const DATA_BYTES: u32 = 32 * 1024;

/// The most bytes of a packet that we accept: OpenSSH's limit, and room for the head.
pub(super) const PACKET_BYTES: usize = 256 * 1024 + 1024;

/// Permissions of a file, before the server applies its own mask.
const FILE_MODE: u32 = 0o666;

/// The bits of a mode that hold the file type, and their values for a file, a folder and a link.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// Opens a file for reading.
pub(super) const READ: u32 = 0x01;
/// Creates a file for writing; fails if it exists.
pub(super) const WRITE_NEW: u32 = 0x02 | 0x08 | 0x20;

/// The status codes of the draft, and those of later drafts that servers also use in version 3.
pub(super) mod code {
    pub(in super::super) const OK: u32 = 0;
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    pub(in super::super) const FAILURE: u32 = 4;
    pub(in super::super) const BAD_MESSAGE: u32 = 5;
    pub(in super::super) const OP_UNSUPPORTED: u32 = 8;
    pub(in super::super) const NO_SUCH_PATH: u32 = 10;
    pub(in super::super) const WRITE_PROTECT: u32 = 12;
}

/// A request. It gets its id when it is sent.
#[derive(Debug)]
pub(super) struct Request(BytesMut);

/// The offset of the id: after the length and the type.
const ID_AT: usize = 5;

impl Request {
    fn new(kind: u8, room: usize) -> Self {
        let mut packet = BytesMut::with_capacity(ID_AT + 4 + room);
        packet.put_u32(0);
        packet.put_u8(kind);
        packet.put_u32(0);
        Self(packet)
    }

    fn string(mut self, text: &[u8]) -> Self {
        // It fits: paths and handles are short, and data is cut into pieces.
        self.0.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.0.put_slice(text);
        self
    }

    fn number(mut self, number: u32) -> Self {
        self.0.put_u32(number);
        self
    }

    fn offset(mut self, offset: u64) -> Self {
        self.0.put_u64(offset);
        self
    }

    /// Attributes that have only permissions.
    fn mode(self, mode: u32) -> Self {
        self.number(0x04).number(mode)
    }

    fn about(kind: u8, text: &[u8]) -> Self {
        Self::new(kind, text.len() + 4).string(text)
    }

    pub(super) fn open(path: &str, how: u32) -> Self {
        let request = Self::new(3, path.len() + 16).string(path.as_bytes()).number(how);
        if how == READ { request.number(0) } else { request.mode(FILE_MODE) }
    }

    pub(super) fn close(handle: &[u8]) -> Self {
        Self::about(4, handle)
    }

    pub(super) fn read(handle: &[u8], offset: u64, len: u32) -> Self {
        Self::new(5, handle.len() + 16).string(handle).offset(offset).number(len)
    }

    pub(super) fn write(handle: &[u8], offset: u64, data: &[u8]) -> Self {
        Self::new(6, handle.len() + data.len() + 16).string(handle).offset(offset).string(data)
    }

    /// Asks for attributes; for a symbolic link, those of the link itself.
    pub(super) fn lstat(path: &str) -> Self {
        Self::about(7, path.as_bytes())
    }

    pub(super) fn open_folder(path: &str) -> Self {
        Self::about(11, path.as_bytes())
    }

    pub(super) fn read_folder(handle: &[u8]) -> Self {
        Self::about(12, handle)
    }

    pub(super) fn remove(path: &str) -> Self {
        Self::about(13, path.as_bytes())
    }

    pub(super) fn make_folder(path: &str, mode: u32) -> Self {
        Self::new(14, path.len() + 16).string(path.as_bytes()).mode(mode)
    }

    /// Asks for attributes; for a symbolic link, those of its target.
    pub(super) fn stat(path: &str) -> Self {
        Self::about(17, path.as_bytes())
    }

    pub(super) fn rename(from: &str, to: &str) -> Self {
        Self::new(18, from.len() + to.len() + 8).string(from.as_bytes()).string(to.as_bytes())
    }

    fn extended(name: &str) -> Self {
        Self::about(200, name.as_bytes())
    }

    pub(super) fn limits() -> Self {
        Self::extended(Extension::LIMITS)
    }

    pub(super) fn fsync(handle: &[u8]) -> Self {
        Self::extended(Extension::FSYNC).string(handle)
    }

    pub(super) fn rename_onto(from: &str, to: &str) -> Self {
        Self::extended(Extension::POSIX_RENAME).string(from.as_bytes()).string(to.as_bytes())
    }

    /// Asks about the file system of a path.
    pub(super) fn file_system(path: &str) -> Self {
        Self::extended(Extension::STATVFS).string(path.as_bytes())
    }

    /// The packet with its length and id, ready to be sent.
    pub(super) fn with_id(mut self, id: u32) -> Bytes {
        let len = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_be_bytes());
        self.0[ID_AT..ID_AT + 4].copy_from_slice(&id.to_be_bytes());
        self.0.freeze()
    }

    /// The first packet of a session. It has the version in place of an id.
    pub(super) fn hello() -> Bytes {
        Self::new(1, 0).with_id(VERSION)
    }
}

/// The names of extensions that a server may have.
pub(super) struct Extension;

impl Extension {
    pub(super) const LIMITS: &str = "limits@openssh.com";
    pub(super) const FSYNC: &str = "fsync@openssh.com";
    pub(super) const POSIX_RENAME: &str = "posix-rename@openssh.com";
    pub(super) const STATVFS: &str = "statvfs@openssh.com";
}

/// A server's answer.
#[derive(Debug)]
pub(super) enum Reply {
    Status(Status),
    Handle(Bytes),
    Data(Bytes),
    /// Names in a folder, without the folder's path.
    Names(Vec<Bytes>),
    Attributes(Attributes),
    Extended(Bytes),
}

/// How a request ended.
#[derive(Debug, Clone)]
pub(super) struct Status {
    pub(super) code: u32,
    /// The server's text, for people.
    text: String,
}

impl Status {
    pub(super) const fn is_ok(&self) -> bool {
        self.code == code::OK
    }

    pub(super) const fn is_absent(&self) -> bool {
        matches!(self.code, code::NO_SUCH_FILE | code::NO_SUCH_PATH)
    }

    /// Whether it is the general failure, which says nothing about the cause.
    pub(super) const fn is_general(&self) -> bool {
        self.code == code::FAILURE
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {} (status {})", self.text, self.code)
    }
}

/// What a server says about a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes {
    /// Its size in bytes, if the server says.
    pub(super) size: Option<u64>,
    mode: Option<u32>,
}

impl Attributes {
    /// Whether it is a folder; `None` if the server does not say.
    pub(super) fn is_folder(self) -> Option<bool> {
        self.kind().map(|kind| kind == FOLDER)
    }

    /// The file type. Some servers (Windows, Bitvise) send permissions without its bits.
    fn kind(self) -> Option<u32> {
        self.mode.map(|mode| mode & KIND).filter(|kind| *kind != 0)
    }

    /// What it is, in words, if it is known not to be a file.
    pub(super) fn not_a_file(self) -> Option<&'static str> {
        match self.kind()? {
            REGULAR => None,
            FOLDER => Some("a folder"),
            LINK => Some("a link"),
            _ => Some("something else"),
        }
    }
}

/// A packet that cannot be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Malformed;

/// Reads an answer without its length. Returns the id of its request, too.
pub(super) fn parse(mut packet: Bytes) -> Result<(u32, Reply), Malformed> {
    let kind = byte(&mut packet)?;
    let id = number(&mut packet)?;
    let reply = match kind {
        101 => {
            let code = number(&mut packet)?;
            // Some servers send no text.
            let text = said(answer::as_text(&string(&mut packet).unwrap_or_default()));
            Reply::Status(Status { code, text: if text.is_empty() { "without a reason".into() } else { text } })
        }
        102 => Reply::Handle(string(&mut packet)?),
        103 => Reply::Data(string(&mut packet)?),
        104 => Reply::Names(names(&mut packet)?),
        105 => Reply::Attributes(attributes(&mut packet)?),
        201 => Reply::Extended(packet),
        _ => return Err(Malformed),
    };
    Ok((id, reply))
}

/// Reads the answer to [`Request::hello`]: the server's version, and the names of its extensions.
pub(super) fn parse_hello(mut packet: Bytes) -> Result<(u32, Vec<Bytes>), Malformed> {
    if byte(&mut packet)? != 2 {
        return Err(Malformed);
    }
    let version = number(&mut packet)?;
    let mut extensions = Vec::new();
    while !packet.is_empty() {
        extensions.push(string(&mut packet)?);
        let _data = string(&mut packet)?;
    }
    Ok((version, extensions))
}

/// Reads the answer to [`Request::limits`]: the most bytes of one read and of one write; 0 for no limit.
pub(super) fn parse_limits(mut reply: Bytes) -> Result<(u64, u64), Malformed> {
    let _packet = long(&mut reply)?;
    Ok((long(&mut reply)?, long(&mut reply)?))
}

/// Reads the answer to [`Request::file_system`]: the id of the file system.
pub(super) fn parse_file_system(mut reply: Bytes) -> Result<u64, Malformed> {
    // Sizes and counts come first.
    for _ in 0..8 {
        long(&mut reply)?;
    }
    long(&mut reply)
}

fn names(packet: &mut Bytes) -> Result<Vec<Bytes>, Malformed> {
    let mut names = Vec::new();
    for _ in 0..number(packet)? {
        names.push(string(packet)?);
        let _long_form = string(packet)?;
        attributes(packet)?;
    }
    Ok(names)
}

fn attributes(packet: &mut Bytes) -> Result<Attributes, Malformed> {
    let which = number(packet)?;
    let mut found = Attributes::default();
    if which & 0x01 != 0 {
        found.size = Some(long(packet)?);
    }
    if which & 0x02 != 0 {
        let _owner_and_group = long(packet)?;
    }
    if which & 0x04 != 0 {
        found.mode = Some(number(packet)?);
    }
    if which & 0x08 != 0 {
        let _times = long(packet)?;
    }
    if which & 0x8000_0000 != 0 {
        for _ in 0..number(packet)? {
            string(packet)?;
            string(packet)?;
        }
    }
    Ok(found)
}

fn byte(packet: &mut Bytes) -> Result<u8, Malformed> {
    packet.try_get_u8().map_err(|_| Malformed)
}

fn number(packet: &mut Bytes) -> Result<u32, Malformed> {
    packet.try_get_u32().map_err(|_| Malformed)
}

fn long(packet: &mut Bytes) -> Result<u64, Malformed> {
    packet.try_get_u64().map_err(|_| Malformed)
}

fn string(packet: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = number(packet)? as usize;
    if packet.len() < len {
        return Err(Malformed);
    }
    Ok(packet.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_form_of_the_draft() {
        let sent = Request::write(b"h", 0x0102, b"data").with_id(7);
        let expected = b"\0\0\0\x1a\x06\0\0\0\x07\0\0\0\x01h\0\0\0\0\0\0\x01\x02\0\0\0\x04data";
        assert_eq!(&sent[..], &expected[..]);
        assert_eq!(&Request::hello()[..], b"\0\0\0\x05\x01\0\0\0\x03");
    }

    /// A packet from a server is read or refused, without a panic and without a large allocation.
    #[test]
    fn truncated_packets_are_refused() {
        let names = b"\x68\0\0\0\x01\0\0\0\x01\0\0\0\x01x\0\0\0\x02-x\x80\0\0\x0f\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\x81\xa4\
            \0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01a\0\0\0\x01b";
        let whole = Bytes::from_static(names);
        assert!(matches!(parse(whole.clone()), Ok((1, Reply::Names(names))) if names == ["x"]));
        for end in 0..whole.len() {
            assert!(parse(whole.slice(..end)).is_err(), "{end} bytes");
        }
        // A length beyond the end, and more names than the packet could hold.
        assert!(parse(Bytes::from_static(b"\x67\0\0\0\x01\xff\xff\xff\xff")).is_err());
        assert!(parse(Bytes::from_static(b"\x68\0\0\0\x01\xff\xff\xff\xff")).is_err());
        assert!(parse(Bytes::from_static(b"\x63\0\0\0\x01")).is_err());
        // A status with nothing but a code, which version 3 does not know.
        let found = parse(Bytes::from_static(b"\x65\0\0\0\x02\0\0\0\x0e"));
        assert!(matches!(found, Ok((2, Reply::Status(status))) if status.code == 14 && !status.is_ok()));
    }

    #[test]
    fn a_long_text_of_a_server_is_cut() {
        let text = [&b"\x65\0\0\0\x02\0\0\0\x04\0\x03\x0d\x40"[..], &[b'n'; 200_000]].concat();
        let Ok((2, Reply::Status(status))) = parse(text.into()) else { panic!("no status") };
        assert!(status.to_string().len() < 1024);
    }
}
