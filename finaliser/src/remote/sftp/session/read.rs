use std::collections::VecDeque;

use bytes::Bytes;
use contract::{Digest, Hasher};

use super::super::packet::{Reply, Request, Status, code};
use super::{Fault, REQUESTS, Session};

/// The most bytes of one read, if the server allows that many.
pub(super) const MOST: u32 = 128 * 1024;

/// The most bytes that are requested and have not arrived. All of them may wait in the channel's buffer (`login.rs`).
const REQUESTED: u32 = 1024 * 1024;

/// A part of the file that was requested.
struct Part {
    id: u32,
    offset: u64,
    len: u32,
    /// What arrived, which may be less than was requested.
    data: Option<Bytes>,
}

/// The reading of a file from its beginning.
struct Reading<'a> {
    session: &'a mut Session,
    handle: &'a [u8],
    /// In the order of the file.
    parts: VecDeque<Part>,
    hasher: Hasher,
    /// The file ended too early.
    is_short: bool,
    failure: Option<Status>,
}

impl Session {
    /// Hashes a file of `size` bytes, with many reads in flight; `None` if it has fewer or more bytes.
    pub(in super::super) async fn hash(&mut self, handle: &[u8], size: u64) -> Result<Option<Digest>, Fault> {
        let patience = self.patience.clone();
        let most = (REQUESTED / self.read_bytes).clamp(1, REQUESTS) as usize;
        let mut reading = Reading {
            session: self,
            handle,
            parts: VecDeque::new(),
            hasher: Hasher::new(),
            is_short: false,
            failure: None,
        };
        let read = patience.transfer(|| true, reading.run(size, most)).await;
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
    /// Reads the whole file. After a failure or an early end it requests nothing more, but awaits the outstanding
    /// answers.
    async fn run(&mut self, size: u64, most: usize) -> Result<(), Fault> {
        let mut next = 0;
        loop {
            while next < size && self.parts.len() < most && self.goes_on() {
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
            self.hash_next_parts().await?;
        }
    }

    const fn goes_on(&self) -> bool {
        !self.is_short && self.failure.is_none()
    }

    async fn ask(&mut self, offset: u64, len: u32) -> Result<Part, Fault> {
        let id = self.session.next_id;
        self.session.next_id = id.wrapping_add(1);
        self.session.send(Request::read(self.handle, offset, len).with_id(id)).await?;
        Ok(Part { id, offset, len, data: None })
    }

    fn take(&mut self, id: u32, reply: Reply) -> Result<(), Fault> {
        let requested = self.parts.iter_mut().find(|part| part.id == id && part.data.is_none());
        let part = requested.ok_or_else(|| Fault::Broken("the server answered a request that was not sent".into()))?;
        match reply {
            Reply::Data(data) if data.len() <= part.len as usize => part.data = Some(data),
            Reply::Status(status) if !status.is_ok() => {
                part.data = Some(Bytes::new());
                match status.code {
                    code::EOF => self.is_short = true,
                    _ => self.failure = Some(status),
                }
            }
            _ => return Err(Fault::Broken("the server answered a read with something else".into())),
        }
        Ok(())
    }

    /// Hashes the parts that have arrived, up to the first that has not. If a part is short, requests its rest.
    async fn hash_next_parts(&mut self) -> Result<(), Fault> {
        while self.parts.front().is_some_and(|part| part.data.is_some()) {
            let Some(Part { offset, len, data: Some(data), .. }) = self.parts.pop_front() else { return Ok(()) };
            // This takes at most a few hundred microseconds, so it can stay on this thread.
            self.hasher.update(&data);
            self.is_short |= data.is_empty();
            let received = u32::try_from(data.len()).unwrap_or(len);
            if received < len && self.goes_on() {
                let rest = self.ask(offset + u64::from(received), len - received).await?;
                self.parts.push_front(rest);
            }
        }
        Ok(())
    }
}
