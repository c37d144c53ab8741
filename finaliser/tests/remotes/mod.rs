//! Every kind of remote against the real thing: a folder of this machine, servers on sockets of this machine.

mod compare;
mod conformance;
pub mod directory;
mod http2;
pub mod object;
mod put;
pub mod raw_server;
mod redirects;
pub mod s3;
mod s3_answers;
mod s3_connections;
pub mod scripted_proxy;
pub mod serving;
pub mod sftp;
mod sftp_line;
pub mod sftp_login;
pub mod sftp_server;
pub mod storing_server;
pub mod tls;
pub mod webdav;
mod webdav_answers;
