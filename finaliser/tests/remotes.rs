//! Every kind of remote against the real thing: a folder of this machine, servers on sockets of this machine.

#[path = "remotes/conformance.rs"]
mod conformance;
#[path = "remotes/directory.rs"]
mod directory;
#[path = "remotes/http2.rs"]
mod http2;
#[path = "remotes/look.rs"]
mod look;
#[path = "remotes/object.rs"]
mod object;
#[path = "remotes/put.rs"]
mod put;
#[path = "remotes/raw_server.rs"]
mod raw_server;
#[path = "remotes/redirects.rs"]
mod redirects;
#[path = "remotes/s3.rs"]
mod s3;
#[path = "remotes/s3_answers.rs"]
mod s3_answers;
#[path = "remotes/s3_connections.rs"]
mod s3_connections;
#[path = "remotes/scripted_proxy.rs"]
mod scripted_proxy;
#[path = "remotes/sftp.rs"]
mod sftp;
#[path = "remotes/sftp_line.rs"]
mod sftp_line;
#[path = "remotes/sftp_login.rs"]
mod sftp_login;
#[path = "remotes/sftp_server.rs"]
mod sftp_server;
#[path = "remotes/storing_server.rs"]
mod storing_server;
#[path = "remotes/tls.rs"]
mod tls;
#[path = "remotes/webdav.rs"]
mod webdav;
#[path = "remotes/webdav_answers.rs"]
mod webdav_answers;
