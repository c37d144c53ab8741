//! Every kind of remote against the real thing: a folder of this machine, servers on sockets of this machine.

mod conformance;
mod directory;
mod http2;
mod look;
mod object;
mod put;
mod raw_server;
mod redirects;
mod s3;
mod s3_answers;
mod s3_connections;
mod scripted_proxy;
mod serving;
mod sftp;
mod sftp_line;
mod sftp_login;
mod sftp_server;
mod storing_server;
mod tls;
mod webdav;
mod webdav_answers;
