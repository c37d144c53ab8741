//! What a finaliser does at a remote: every kind against the real thing, and against servers that are odd.

mod odd_servers;
mod remotes;
