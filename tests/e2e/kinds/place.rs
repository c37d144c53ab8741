use std::net::SocketAddr;

use contract::Digest;

/// What a remote may be in. Each begins and ends while a system runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its disk is full.
    Full,
    /// It does not let us write.
    Closed,
    /// The credentials we have do not count any more.
    Expired,
}

impl Trouble {
    pub(crate) const ALL: [Self; 3] = [Self::Full, Self::Closed, Self::Expired];
}

/// A remote of some kind on a server that others wrote. What it has is looked at behind its back.
pub(crate) trait Place {
    /// Where its server listens; none for a folder of this machine.
    fn server(&self) -> Option<SocketAddr>;

    /// The settings of the remote, as TOML, for a server at that address.
    fn section(&self, address: Option<SocketAddr>) -> String;

    /// Size and hash of what is visible under a name.
    fn object(&self, name: &str) -> Option<(u64, Digest)>;

    /// Puts something there by another way.
    fn put(&self, name: &str, content: &[u8]);

    /// How many things lie there out of sight.
    fn asides(&self) -> usize;

    /// Begins or ends a trouble. Says why, where this kind cannot be in it here.
    fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), &'static str>;

    /// What must never be in a message.
    fn secrets(&self) -> Vec<String>;
}
