//! How many chunks of a file are in flight at once.

/// The fewest chunks in flight, however often the store is busy: with only one, reading and writing would take turns.
const LEAST: usize = 2;

/// The most bytes of a file in flight, so that large chunks do not take too much memory.
const BYTES: usize = 16 * 1024 * 1024;

/// A window that shrinks when the store is busy and grows while it is not.
#[derive(Debug)]
pub(super) struct Window {
    now: usize,
    most: usize,
}

impl Window {
    /// A window of up to `most` chunks of `chunk_size` bytes. It begins half open.
    pub(super) fn new(most: usize, chunk_size: u32) -> Self {
        let most = most.min(BYTES / (chunk_size as usize).max(1)).max(LEAST);
        Self { now: (most / 2).max(LEAST), most }
    }

    /// How many chunks may be in flight now.
    pub(super) const fn size(&self) -> usize {
        self.now
    }

    /// Call this when the store has taken a chunk.
    pub(super) fn grow(&mut self) {
        self.now = (self.now + 1).min(self.most);
    }

    /// Call this when the store was busy or silent.
    pub(super) fn shrink(&mut self) {
        self.now = (self.now / 2).max(LEAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_between_its_bounds() {
        let mut window = Window::new(16, 1 << 20);
        (0..100).for_each(|_| window.grow());
        assert_eq!(window.size(), 16);
        (0..100).for_each(|_| window.shrink());
        assert_eq!(window.size(), LEAST);
    }

    #[test]
    fn large_chunks_make_it_smaller() {
        let mut window = Window::new(16, 4 << 20);
        (0..100).for_each(|_| window.grow());
        assert_eq!(window.size(), 4);
    }
}
