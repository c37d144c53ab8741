//! Remotes that answer as real servers and proxies were seen to, where a standard says otherwise or nothing: small
//! servers of our own give the same answers. What a sound server does is in `remotes`.

mod drips;
mod http;
mod http_heads;
pub(crate) mod mounted;
mod other_file_systems;
mod s3;
mod sftp;
mod sftp_farewell;
mod slow_line;
mod webdav_collections;
mod webdav_moves;
pub(crate) mod webdav_server;
mod webdav_staging;
