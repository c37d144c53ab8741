//! How many chunks of a file are under way at once.

/// At least so many chunks are under way, however often the store is busy: below two, reading and writing would take turns.
const LEAST: usize = 2;

/// At most so many bytes of a file are under way, so that large chunks do not take too much memory.
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

    /// How many chunks may be under way now.
    pub(super) const fn size(&self) -> usize {
        self.now
    }

    /// Call when the store took a chunk.
    pub(super) fn grow(&mut self) {
        self.now = (self.now + 1).min(self.most);
    }

    /// Call when the store was busy or silent.
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
