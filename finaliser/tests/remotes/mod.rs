//! Every kind of remote against the real thing: a folder of this machine, servers on sockets of this machine.

mod compare;
pub(crate) mod conformance;
pub(crate) mod directory;
mod http2;
pub(crate) mod object;
mod put;
pub(crate) mod raw_server;
mod redirects;
pub(crate) mod s3;
mod s3_answers;
mod s3_connections;
pub(crate) mod scripted_proxy;
pub(crate) mod serving;
pub(crate) mod sftp;
mod sftp_line;
pub(crate) mod sftp_login;
pub(crate) mod sftp_server;
mod staging_folder;
pub(crate) mod storing_server;
pub(crate) mod tls;
pub(crate) mod webdav;
mod webdav_answers;
