//! A real nats-server and a real mongod on this machine, without a container engine.
//!
//! The crate finds a server (on `PATH`, in the cache folder, or as a pinned wheel), starts it on loopback with the
//! settings Waybill needs, adopts one that an earlier launcher left behind, and stops it. `waybill up` and the
//! integration tests of all packages use it.
//!
//! Each server keeps everything it owns in its data directory: its data, its settings, the lock of the launcher that
//! runs it, and `server.json` with the process that serves it. Starting again on the same directory goes on with the
//! same data, and at the same port unless another process has taken it. Only its owner can read the directory. If a
//! server is to ask its clients for a password, that is in the directory too; nothing on a command line tells it.

mod error;
mod guardian;
mod handle;
mod home;
mod identity;
mod locate;
mod log;
mod mongo;
mod nats;
mod peers;
mod process;
mod ready;
mod replica_set;
mod secret;
mod shared;
mod start;
mod wheel;

pub use error::{Attempt, Error};
pub use locate::{Located, Server, cache_dir, locate, locate_in};
pub use mongo::{MIN_CACHE_MIB, Mongo, MongoOptions};
pub use nats::{Nats, NatsOptions};
pub use peers::nginx::{Nginx, NginxOptions, NginxTls};
pub use peers::seaweed::{Seaweed, SeaweedOptions};
pub use peers::sshd::{Sshd, SshdOptions};
pub use process::Exit;
pub use shared::{MONGODB_URI, NATS_URL, Shared, can_test, shared, shared_seaweed, shared_sshd};
pub use wheel::verify;

use tokio::sync::oneshot;

pub(crate) use handle::handle;

/// Runs blocking work on a thread of its own. Not `spawn_blocking`: a runtime that ends waits for those, and a
/// download that hangs must not hold up Ctrl-C. If the caller goes away the result is dropped on the thread, which
/// ends a server that was just started.
async fn on_thread<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // A caller that went away wants no answer.
            let _ = sender.send(work());
        })
        .map_err(Error::io(format!("could not start the thread {name}")))?;
    receiver.await.map_err(|_| Error::Panicked { thread: name.to_owned() })
}
