use std::io;
use std::path::Path;

use cap_std::fs::{Dir, FileType, FileTypeExt, Metadata, MetadataExt, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::problem::{BAD_PATH, NO_SOURCE, NOT_REGULAR, OUTSIDE, Problem, UNAVAILABLE, UNREADABLE};

/// How a file looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
}

/// Looks whether a regular file is at `path` beneath `root` and can be read. The kernel follows the path (openat2 with
/// RESOLVE_BENEATH), so neither `..` nor a symlink leads out. Blocks.
pub(super) fn look(root: &Dir, path: &Path) -> Result<Stat, Problem> {
    // The root itself; an empty path means nothing to the kernel.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    // Looked at before it is opened: opening a device may do something, and a FIFO would wait for its other end.
    regular(&root.metadata(path).map_err(refusal)?)?;
    // Should it have become a FIFO since, the opening does not wait.
    let flags = OFlags::NONBLOCK.union(OFlags::CLOEXEC).bits().cast_signed();
    let file = root.open_with(path, OpenOptions::new().read(true).custom_flags(flags)).map_err(refusal)?;
    regular(&file.metadata().map_err(refusal)?)
}

fn regular(metadata: &Metadata) -> Result<Stat, Problem> {
    let file_type = metadata.file_type();
    if !file_type.is_file() {
        return Err(not_regular(kind_of(file_type)));
    }
    let mtime_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    Ok(Stat { size: metadata.len(), mtime_ns })
}

fn kind_of(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else if file_type.is_char_device() || file_type.is_block_device() {
        "a device"
    } else {
        "something else"
    }
}

fn not_regular(found: &str) -> Problem {
    Problem::new(NOT_REGULAR, format!("expected a regular file at the path, found {found}"))
}

fn refusal(error: io::Error) -> Problem {
    let Some(errno) = Errno::from_io_error(&error) else {
        // The only error of cap-std's own that a look can meet.
        return if error.kind() == io::ErrorKind::PermissionDenied {
            Problem::new(
                OUTSIDE,
                "expected a path that stays beneath its allowed folder, found one that leads out of it",
            )
        } else {
            unavailable(error)
        };
    };
    match errno {
        Errno::ACCESS | Errno::PERM => Problem::new(
            UNREADABLE,
            "expected a file that this service may read, found that it may not: permission denied",
        ),
        Errno::NOENT | Errno::NOTDIR => Problem::new(NO_SOURCE, "expected a file at the path, found none"),
        Errno::LOOP => Problem::new(
            OUTSIDE,
            "expected a path that comes to an end, found too many symbolic links, or one of /proc",
        ),
        Errno::NAMETOOLONG => Problem::new(
            BAD_PATH,
            "file_path: expected names that the file system can have, found one that is too long",
        ),
        // What opening a socket says.
        Errno::NXIO => not_regular("a socket"),
        _ => unavailable(error),
    }
}

fn unavailable(error: io::Error) -> Problem {
    Problem::new(UNAVAILABLE, "the storage of the file does not answer as it should").because(error)
}
