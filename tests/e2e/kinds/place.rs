use std::net::SocketAddr;

use contract::Digest;

/// A trouble that a remote may have. Each begins and ends while a system runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its disk is full.
    Full,
    /// It refuses writes.
    Closed,
    /// Our credentials are no longer valid.
    Expired,
}

impl Trouble {
    pub(crate) const ALL: [Self; 3] = [Self::Full, Self::Closed, Self::Expired];
}

/// A remote of some kind on a server that others wrote. The test looks at its content without Waybill.
pub(crate) trait Place {
    /// Where its server listens; none for a folder of this machine.
    fn server(&self) -> Option<SocketAddr>;

    /// The settings of the remote, as TOML, for a server at that address.
    fn section(&self, address: Option<SocketAddr>) -> String;

    /// Size and hash of what is visible under a name.
    fn object(&self, name: &str) -> Option<(u64, Digest)>;

    /// Puts an object there without Waybill.
    fn put(&self, name: &str, content: &[u8]);

    /// How many staged files are left.
    fn asides(&self) -> usize;

    /// Begins or ends a trouble. The error says why this kind cannot have it here.
    fn trouble(&self, trouble: Trouble, on: bool) -> Result<(), &'static str>;

    /// Texts that must never be in a message.
    fn secrets(&self) -> Vec<String>;
}
