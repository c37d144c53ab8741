//! The packets of SFTP version 3 (draft-ietf-secsh-filexfer-02), and the extensions of OpenSSH that are used here.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::remote::wire::answer;

/// The version that we speak, as nearly all servers do.
pub(super) const VERSION: u32 = 3;

/// What may be written or read at once where the server does not say: the least that the draft asks of it.
pub(super) const DATA_BYTES: u32 = 32 * 1024;

/// No packet of a server is longer, whatever it says: OpenSSH's limit, and room for its head.
pub(super) const PACKET_BYTES: usize = 256 * 1024 + 1024;

/// A file's permissions before the server's own mask.
const FILE_MODE: u32 = 0o666;

/// The bits of a mode that say what kind of thing it is, and those of a file, a folder and a link.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// How a file is opened.
pub(super) const READ: u32 = 0x01;
/// To be written, made by us, and not there before.
pub(super) const WRITE_NEW: u32 = 0x02 | 0x08 | 0x20;

/// The draft's codes of a status, and those of later drafts that servers give in version 3 as well.
pub(super) mod code {
    pub(in super::super) const OK: u32 = 0;
    pub(in super::super) const EOF: u32 = 1;
    pub(in super::super) const NO_SUCH_FILE: u32 = 2;
    pub(in super::super) const PERMISSION_DENIED: u32 = 3;
    pub(in super::super) const BAD_MESSAGE: u32 = 5;
    pub(in super::super) const OP_UNSUPPORTED: u32 = 8;
    pub(in super::super) const NO_SUCH_PATH: u32 = 10;
    pub(in super::super) const WRITE_PROTECT: u32 = 12;
}

/// A request. Its id is given when it is sent.
#[derive(Debug)]
pub(super) struct Request(BytesMut);

/// Where the id stands: behind the length and the type.
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
        // Paths and handles are short, and data is cut to fit.
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

    /// With permissions and nothing else.
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

    /// Of the thing itself, a link too.
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

    /// Of what a link points to.
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

    /// The packet as it is sent.
    pub(super) fn with_id(mut self, id: u32) -> Bytes {
        let len = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&len.to_be_bytes());
        self.0[ID_AT..ID_AT + 4].copy_from_slice(&id.to_be_bytes());
        self.0.freeze()
    }

    /// What a conversation begins with. It has no id, but the version in its place.
    pub(super) fn hello() -> Bytes {
        Self::new(1, 0).with_id(VERSION)
    }
}

/// An extension that a server may have.
pub(super) struct Extension;

impl Extension {
    pub(super) const LIMITS: &str = "limits@openssh.com";
    pub(super) const FSYNC: &str = "fsync@openssh.com";
    pub(super) const POSIX_RENAME: &str = "posix-rename@openssh.com";
}

/// A server's answer.
#[derive(Debug)]
pub(super) enum Reply {
    Status(Status),
    Handle(Bytes),
    Data(Bytes),
    /// Names in a folder, without it.
    Names(Vec<Bytes>),
    Attributes(Attributes),
    Extended(Bytes),
}

/// How a request ended.
#[derive(Debug, Clone)]
pub(super) struct Status {
    pub(super) code: u32,
    /// For people.
    text: String,
}

impl Status {
    pub(super) const fn is_ok(&self) -> bool {
        self.code == code::OK
    }

    pub(super) const fn is_absent(&self) -> bool {
        matches!(self.code, code::NO_SUCH_FILE | code::NO_SUCH_PATH)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {} (status {})", self.text, self.code)
    }
}

/// What a server says of a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes {
    /// Bytes, if it says so.
    pub(super) size: Option<u64>,
    mode: Option<u32>,
}

impl Attributes {
    /// Whether it is a folder; `None` if the server does not say.
    pub(super) fn is_folder(self) -> Option<bool> {
        self.mode.map(|mode| mode & KIND == FOLDER)
    }

    /// What it is, if it is known to be no file.
    pub(super) fn not_a_file(self) -> Option<&'static str> {
        match self.mode? & KIND {
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

/// Reads an answer (without its length), and the id of its request.
pub(super) fn parse(mut packet: Bytes) -> Result<(u32, Reply), Malformed> {
    let kind = byte(&mut packet)?;
    let id = number(&mut packet)?;
    let reply = match kind {
        101 => {
            let code = number(&mut packet)?;
            // Some servers send no text.
            let text = answer::one_line(answer::as_text(&string(&mut packet).unwrap_or_default()));
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
        let _what_it_says_of_it = string(&mut packet)?;
    }
    Ok((version, extensions))
}

/// Reads the answer to [`Request::limits`]: how much may be read and written at once; 0 where the server sets no limit.
pub(super) fn parse_limits(mut reply: Bytes) -> Result<(u64, u64), Malformed> {
    let _packet = long(&mut reply)?;
    Ok((long(&mut reply)?, long(&mut reply)?))
}

fn names(packet: &mut Bytes) -> Result<Vec<Bytes>, Malformed> {
    let mut names = Vec::new();
    for _ in 0..number(packet)? {
        names.push(string(packet)?);
        let _as_ls_shows_it = string(packet)?;
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
    fn a_request_is_as_the_draft_has_it() {
        let sent = Request::write(b"h", 0x0102, b"data").with_id(7);
        let expected = b"\0\0\0\x1a\x06\0\0\0\x07\0\0\0\x01h\0\0\0\0\0\0\x01\x02\0\0\0\x04data";
        assert_eq!(&sent[..], &expected[..]);
        assert_eq!(&Request::hello()[..], b"\0\0\0\x05\x01\0\0\0\x03");
    }

    /// Whatever a server sends is read or refused; nothing panics, and nothing is taken for more than it is.
    #[test]
    fn what_is_cut_off_is_refused() {
        let names = b"\x68\0\0\0\x01\0\0\0\x01\0\0\0\x01x\0\0\0\x02-x\x80\0\0\x0f\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\x81\xa4\
            \0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x01a\0\0\0\x01b";
        let whole = Bytes::from_static(names);
        assert!(matches!(parse(whole.clone()), Ok((1, Reply::Names(names))) if names == ["x"]));
        for end in 0..whole.len() {
            assert!(parse(whole.slice(..end)).is_err(), "{end} bytes");
        }
        // A length that is not there, and more names than there could ever be.
        assert!(parse(Bytes::from_static(b"\x67\0\0\0\x01\xff\xff\xff\xff")).is_err());
        assert!(parse(Bytes::from_static(b"\x68\0\0\0\x01\xff\xff\xff\xff")).is_err());
        assert!(parse(Bytes::from_static(b"\x63\0\0\0\x01")).is_err());
        // A status of which only the code is there, one that no draft of version 3 knows.
        let found = parse(Bytes::from_static(b"\x65\0\0\0\x02\0\0\0\x0e"));
        assert!(matches!(found, Ok((2, Reply::Status(status))) if status.code == 14 && !status.is_ok()));
    }
}
