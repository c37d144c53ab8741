use tokio::task::AbortHandle;

/// The newest connections of an address that answers health checks: a further one ends the oldest.
///
/// Nobody can hold such an address by opening connections. A probe sends its request at once, so displacing it
/// takes as many new connections in the few milliseconds until it has its answer.
#[derive(Debug)]
pub struct Reserve {
    tasks: [Option<AbortHandle>; Self::SIZE],
    next: usize,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { tasks: [const { None }; Self::SIZE], next: 0 }
    }
}

impl Reserve {
    /// How many connections it holds.
    pub const SIZE: usize = 64;

    /// Takes in the task of a connection, and ends the one that came this many connections before, if it goes on.
    pub fn keep(&mut self, connection: AbortHandle) {
        if let Some(oldest) = self.tasks[self.next].replace(connection) {
            oldest.abort();
        }
        self.next = (self.next + 1) % Self::SIZE;
    }
}
