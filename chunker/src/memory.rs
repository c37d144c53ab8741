//! The memory that all files of a chunker share.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most KiB of chunks, of all files together, that are read but not yet stored. With the copies on the connection
/// this stays well below 128 MiB, however many files are read at once.
const KIB: usize = 48 * 1024;

/// A bounded amount of memory, and a pool of the buffers in it.
#[derive(Debug)]
pub(crate) struct Memory {
    kib: Arc<Semaphore>,
    /// A buffer is allocated only if the pool is empty, so the pool never holds more buffers than were in use at once.
    idle: Mutex<Vec<BytesMut>>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { kib: Arc::new(Semaphore::new(KIB)), idle: Mutex::default() }
    }

    /// A buffer of `len` bytes with undefined content, and the right to hold it, as soon as there is room. Blocking. `None`: the
    /// process ends.
    #[expect(clippy::disallowed_methods, reason = "the reader runs by spawn_blocking, on a thread that may wait")]
    pub(crate) fn take(&self, len: u32) -> Option<(BytesMut, OwnedSemaphorePermit)> {
        let share = Handle::current().block_on(self.kib.clone().acquire_many_owned(len.div_ceil(1024))).ok()?;
        let mut buffer = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.resize(len as usize, 0);
        Some((buffer, share))
    }

    /// Returns a sent buffer to the pool, unless the connection still holds it.
    pub(crate) fn put_back(&self, bytes: Bytes) {
        if let Ok(buffer) = bytes.try_into_mut() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let memory = Memory::new();
        let (buffer, share) = memory.take(5000).unwrap();
        let address = buffer.as_ptr();
        let bytes = buffer.freeze();
        let held = bytes.clone();
        memory.put_back(bytes);
        assert!(memory.idle.lock().unwrap().is_empty(), "somebody else still reads it");
        memory.put_back(held);
        drop(share);
        let (again, _share) = memory.take(4000).unwrap();
        assert_eq!((again.as_ptr(), again.len()), (address, 4000));
    }
}
