//! The system as a user meets it: the real binaries, over HTTP and NATS, on real servers.

mod deployment;
mod finalise;
mod remotes;
mod ways;
