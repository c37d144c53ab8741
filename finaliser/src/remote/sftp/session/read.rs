use std::collections::VecDeque;

use bytes::Bytes;
use contract::{Digest, Hasher};

use super::super::packet::{Reply, Request, Status, code};
use super::{Fault, REQUESTS, Session};

/// Bytes read at once where the server allows it.
pub(super) const MOST: u32 = 128 * 1024;

/// Bytes that are asked for and have not come at most. All of them may wait in the channel's buffer (`login.rs`).
const ASKED: u32 = 1024 * 1024;

/// A part of the file that was asked for.
struct Part {
    id: u32,
    offset: u64,
    len: u32,
    /// What came, which may be less.
    came: Option<Bytes>,
}

/// A file that is read from its beginning.
struct Reading<'a> {
    session: &'a mut Session,
    handle: &'a [u8],
    /// In the order of the file.
    parts: VecDeque<Part>,
    hasher: Hasher,
    /// The end came before it was expected.
    is_short: bool,
    failure: Option<Status>,
}

impl Session {
    /// Hashes a file of `size` bytes, with many reads on their way; `None` if it has fewer or more.
    pub(in super::super) async fn hash(&mut self, handle: &[u8], size: u64) -> Result<Option<Digest>, Fault> {
        let under_way = (ASKED / self.read_bytes).clamp(1, REQUESTS) as usize;
        let mut reading = Reading {
            session: self,
            handle,
            parts: VecDeque::new(),
            hasher: Hasher::new(),
            is_short: false,
            failure: None,
        };
        let read = reading.run(size, under_way).await;
        let Reading { hasher, is_short, failure, .. } = reading;
        self.is_broken |= read.is_err();
        read?;
        if let Some(status) = failure {
            return Err(Fault::Status(status));
        }
        Ok((!is_short && self.ends_at(handle, size).await?).then(|| hasher.finish()))
    }

    async fn ends_at(&mut self, handle: &[u8], size: u64) -> Result<bool, Fault> {
        match self.call(Request::read(handle, size, 1)).await {
            Ok(Reply::Data(data)) => Ok(data.is_empty()),
            Ok(_) => Err(self.unexpected()),
            Err(Fault::Status(Status { code: code::EOF, .. })) => Ok(true),
            Err(fault) => Err(fault),
        }
    }
}

impl Reading<'_> {
    /// Reads all. After a failure or an early end nothing more is asked for, but what was is awaited.
    async fn run(&mut self, size: u64, under_way: usize) -> Result<(), Fault> {
        let mut next = 0;
        loop {
            while next < size && self.parts.len() < under_way && self.goes_on() {
                let len = self.session.read_bytes.min(u32::try_from(size - next).unwrap_or(u32::MAX));
                let part = self.ask(next, len).await?;
                self.parts.push_back(part);
                next += u64::from(len);
            }
            if self.parts.is_empty() {
                return Ok(());
            }
            let (id, reply) = self.session.replies.reply().await?;
            self.take(id, reply)?;
            self.hash_what_is_next().await?;
        }
    }

    const fn goes_on(&self) -> bool {
        !self.is_short && self.failure.is_none()
    }

    async fn ask(&mut self, offset: u64, len: u32) -> Result<Part, Fault> {
        let id = self.session.next_id;
        self.session.next_id = id.wrapping_add(1);
        self.session.send(Request::read(self.handle, offset, len).with_id(id)).await?;
        Ok(Part { id, offset, len, came: None })
    }

    fn take(&mut self, id: u32, reply: Reply) -> Result<(), Fault> {
        let asked = self.parts.iter_mut().find(|part| part.id == id && part.came.is_none());
        let part = asked.ok_or_else(|| Fault::Broken("the server answered what was not asked".into()))?;
        match reply {
            Reply::Data(data) if data.len() <= part.len as usize => part.came = Some(data),
            Reply::Status(status) if !status.is_ok() => {
                part.came = Some(Bytes::new());
                match status.code {
                    code::EOF => self.is_short = true,
                    _ => self.failure = Some(status),
                }
            }
            _ => return Err(Fault::Broken("the server answered a read with something else".into())),
        }
        Ok(())
    }

    /// Hashes the parts that have come, as far as none is missing; asks again for what a part lacks.
    async fn hash_what_is_next(&mut self) -> Result<(), Fault> {
        while self.parts.front().is_some_and(|part| part.came.is_some()) {
            let Some(Part { offset, len, came: Some(data), .. }) = self.parts.pop_front() else { return Ok(()) };
            // A few hundred microseconds at most: it need not leave this thread.
            self.hasher.update(&data);
            self.is_short |= data.is_empty();
            let came = u32::try_from(data.len()).unwrap_or(len);
            if came < len && self.goes_on() {
                let rest = self.ask(offset + u64::from(came), len - came).await?;
                self.parts.push_front(rest);
            }
        }
        Ok(())
    }
}
