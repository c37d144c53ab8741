//! The system as a user meets it: the real binaries, over HTTP and NATS, on real servers.

mod command;
mod deployment;
mod faults;
mod finalise;
mod inspection;
mod kinds;
mod operator;
mod pressure;
mod receipts;
mod remotes;
mod retention;
mod s3;
mod security;
mod sftp;
mod sources;
mod start;
mod ways;
mod webdav;
