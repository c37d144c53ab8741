//! What the tests of several packages share. Every package has it only as a dev-dependency, except `tests`, which is for
//! development itself.
//!
//! All tests of a process share one nats-server and one mongod; a [`Sandbox`] is one test's part of them. Nothing here
//! sleeps to let something happen: [`until`] waits for a condition, and fails loudly at a generous deadline.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests fail by panicking, with what they found")]

mod api;
mod cleanup;
mod http;
mod own;
mod peers;
mod proxy;
mod records;
mod sandbox;
mod stored;
mod streams;
mod wait;

pub use api::{Answer, Api, JSON};
pub use cleanup::Cleanup;
pub use http::{ask, hashed};
pub use own::{Own, own_mongo, own_nats};
pub use peers::{Served, ask_bucket, names, object_in_bucket, seaweed, sftp_section, sshd};
pub use proxy::{NetFault, Proxy, Way};
pub use records::{new_file, receipt, taken};
pub use sandbox::Sandbox;
pub use stored::{Stored, binary, by_id, content_id, flip};
pub use streams::messages;
pub use wait::{DEADLINE, until, within};

/// 1 MiB, in bytes.
pub const MIB: u32 = 1024 * 1024;

/// `len` bytes without repetition, different for every seed.
pub fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
