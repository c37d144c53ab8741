//! The folders beneath which files may be read, and the one way to open a file there.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileTypeExt, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use rustix::io::Errno;

/// The longest path in bytes: PATH_MAX of Linux.
pub const PATH_MAX: usize = 4096;

/// The configured roots, opened.
#[derive(Debug)]
pub struct Roots(Vec<Root>);

#[derive(Debug)]
struct Root {
    path: PathBuf,
    folder: Dir,
}

/// A file beneath a root: which root, and the path beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The root, as configured.
    pub root: String,
    /// The path beneath it, without `.` and with single slashes.
    pub path: String,
}

/// How a source looks. Two looks that differ mean that it may have changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Bytes.
    pub size: u64,
    /// When its content last changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When its inode last changed. Comparable only while the file stays open: another host may see another clock.
    pub ctime_ns: i64,
    /// Its inode, likewise.
    pub inode: u64,
}

/// Why a file may not or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not a path at all.
    #[error("expected a path of 1 to {PATH_MAX} bytes without NUL, found {0}")]
    Malformed(String),
    /// Not beneath a root, or not any more after following `..` and symbolic links.
    #[error("{path:?} leads outside the allowed roots")]
    Outside {
        /// The path.
        path: String,
    },
    /// Its root is not among those configured here.
    #[error("the root {root:?} is not configured for this service (files.roots)")]
    UnknownRoot {
        /// The root.
        root: String,
    },
    /// Nothing is there.
    #[error("there is no file {path:?}")]
    Missing {
        /// The path.
        path: String,
    },
    /// Something else than a regular file.
    #[error("expected a regular file, found that {path:?} is {found}")]
    NotRegular {
        /// The path.
        path: String,
        /// What it is.
        found: &'static str,
    },
    /// The file system does not let us.
    #[error("{path:?} may not be read by this service: permission denied")]
    Unreadable {
        /// The path.
        path: String,
    },
    /// The file system does not answer as it should.
    #[error("{path:?} cannot be read: {source}")]
    Failing {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Roots {
    /// Opens the configured roots. What they are opened at stays allowed, even if another folder takes the name. Blocking.
    pub fn open(paths: &[PathBuf]) -> io::Result<Self> {
        let open = |path: &PathBuf| {
            let folder = Dir::open_ambient_dir(path, ambient_authority());
            let named = |e: io::Error| {
                io::Error::new(e.kind(), format!("files.roots: {} cannot be opened as a folder: {e}", path.display()))
            };
            if path.to_str().is_none() {
                return Err(named(io::Error::new(ErrorKind::InvalidFilename, "its name is not UTF-8")));
            }
            Ok(Root { path: path.clone(), folder: folder.map_err(named)? })
        };
        paths.iter().map(open).collect::<io::Result<_>>().map(Self)
    }

    /// Finds the place that a caller's path names: absolute beneath a root, or relative to the first. Looks at nothing.
    pub fn place(&self, asked: &str) -> Result<Place, SourceError> {
        if asked.is_empty() || asked.len() > PATH_MAX || asked.contains('\0') {
            let found = if asked.contains('\0') { "one with NUL".into() } else { format!("{} bytes", asked.len()) };
            return Err(SourceError::Malformed(found));
        }
        let outside = || SourceError::Outside { path: asked.to_owned() };
        let path = Path::new(asked);
        let (root, beneath) = if path.is_absolute() {
            // The longest root wins, so that nested roots work.
            let beneath = |root: &Root| path.strip_prefix(&root.path).ok().map(|beneath| (root.path.clone(), beneath));
            self.0
                .iter()
                .filter_map(beneath)
                .min_by_key(|(_, beneath)| beneath.as_os_str().len())
                .ok_or_else(outside)?
        } else {
            (self.0.first().ok_or_else(outside)?.path.clone(), path)
        };
        let parts: Vec<_> = beneath.components().filter(|part| *part != Component::CurDir).collect();
        let path = parts.iter().collect::<PathBuf>();
        // Both come from strings, so neither loses anything here.
        Ok(Place { root: root.to_string_lossy().into_owned(), path: path.to_string_lossy().into_owned() })
    }

    /// Opens the file at a place to be read, and only if it is a regular file beneath its root. Blocking.
    ///
    /// The kernel resolves the path beneath the root (`openat2`, `RESOLVE_BENEATH`), so no `..` and no link leads out, even if
    /// they change meanwhile. What it is is looked at before it is opened: opening a FIFO waits, and a device may act.
    pub fn open_file(&self, place: &Place) -> Result<(File, Fingerprint), SourceError> {
        let unknown = || SourceError::UnknownRoot { root: place.root.clone() };
        let root = self.0.iter().find(|root| root.path == Path::new(&place.root)).ok_or_else(unknown)?;
        let path = if place.path.is_empty() { "." } else { &place.path };
        let failed = |error| refusal(path, error);
        let looked = root.folder.metadata(path).map_err(failed)?;
        regular(path, looked.file_type())?;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(NO_WAITING);
        let file = root.folder.open_with(path, &options).map_err(failed)?;
        let file_type = file.metadata().map_err(failed)?.file_type();
        regular(path, file_type)?;
        let file = file.into_std();
        let fingerprint = Fingerprint::of(&file).map_err(failed)?;
        Ok((file, fingerprint))
    }
}

/// `O_NONBLOCK | O_NOCTTY`: should a FIFO or terminal have taken the file's place since it was looked at, opening must not wait
/// for it or be caught by it.
const NO_WAITING: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();

fn regular(path: &str, file_type: cap_std::fs::FileType) -> Result<(), SourceError> {
    let found = match file_type {
        t if t.is_file() => return Ok(()),
        t if t.is_dir() => "a directory",
        t if t.is_fifo() => "a FIFO",
        t if t.is_socket() => "a socket",
        t if t.is_block_device() || t.is_char_device() => "a device",
        _ => "something else",
    };
    Err(SourceError::NotRegular { path: path.to_owned(), found })
}

fn refusal(path: &str, source: io::Error) -> SourceError {
    let path = path.to_owned();
    let Some(errno) = Errno::from_io_error(&source) else {
        // cap-std's own refusal of a path that leads out carries no number of the system.
        return match source.kind() {
            ErrorKind::PermissionDenied => SourceError::Outside { path },
            _ => SourceError::Failing { path, source },
        };
    };
    match errno {
        Errno::NOENT | Errno::NOTDIR => SourceError::Missing { path },
        Errno::NAMETOOLONG => SourceError::Malformed("a name that is too long for the file system".into()),
        // LOOP: too many links, or one of those of /proc.
        Errno::XDEV | Errno::LOOP => SourceError::Outside { path },
        Errno::ACCESS | Errno::PERM => SourceError::Unreadable { path },
        // What opening a socket says.
        Errno::NXIO => SourceError::NotRegular { path, found: "a socket" },
        _ => SourceError::Failing { path, source },
    }
}

impl Fingerprint {
    /// Looks at an open file. Blocking.
    pub fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let nanos = |secs: i64, nanos: i64| secs.saturating_mul(1_000_000_000).saturating_add(nanos);
        Ok(Self {
            size: found.len(),
            mtime_ns: nanos(found.mtime(), found.mtime_nsec()),
            ctime_ns: nanos(found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("in/sub")).unwrap();
        std::fs::create_dir(folder.path().join("other")).unwrap();
        std::fs::write(folder.path().join("in/a"), "abc").unwrap();
        std::fs::write(folder.path().join("secret"), "no").unwrap();
        let roots = Roots::open(&[folder.path().join("in"), folder.path().join("other")]).unwrap();
        (folder, roots)
    }

    #[test]
    fn relative_and_absolute_paths_name_the_same_place() {
        let (folder, roots) = roots();
        let place = roots.place("./sub//../a").unwrap();
        assert_eq!(place.path, "sub/../a");
        assert_eq!(roots.open_file(&place).unwrap().1.size, 3);
        let absolute = roots.place(folder.path().join("in/a").to_str().unwrap()).unwrap();
        assert_eq!((absolute.root, absolute.path.as_str()), (place.root, "a"));
    }

    #[test]
    fn the_innermost_root_is_chosen_by_whole_components() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["in", "in/deep", "data"].map(|name| folder.path().join(name));
        paths.iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
        let roots = Roots::open(&paths).unwrap();
        let absolute = |path: &str| format!("{}/{path}", folder.path().display());
        for (path, root, beneath) in [
            (absolute("in/a"), 0, "a"),
            (absolute("in/deep/a"), 1, "a"),
            (absolute("in/deeper/a"), 0, "deeper/a"),
            (absolute("in/./b//./a"), 0, "b/a"),
            (absolute("in/../../etc/passwd"), 0, "../../etc/passwd"),
            (absolute("data/a/"), 2, "a"),
            (absolute("in"), 0, ""),
            ("./a/./b".into(), 0, "a/b"),
            ("a/../b".into(), 0, "a/../b"),
        ] {
            let place = roots.place(&path).unwrap();
            assert_eq!((Path::new(&place.root), place.path.as_str()), (paths[root].as_path(), beneath), "{path}");
        }
        for path in ["/".into(), absolute("inside/a"), "/etc/passwd".into()] {
            assert!(matches!(roots.place(&path), Err(SourceError::Outside { .. })), "{path}");
        }
    }

    #[test]
    fn roots_must_be_folders() {
        for wrong in ["/nowhere", "/proc/self/exe"] {
            assert!(Roots::open(&[wrong.into()]).unwrap_err().to_string().contains(wrong));
        }
    }

    #[test]
    fn what_leads_out_is_refused() {
        let (folder, roots) = roots();
        std::os::unix::fs::symlink("../secret", folder.path().join("in/out")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join("in/abs")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("in/within")).unwrap();
        for path in ["../secret", "sub/../../secret", "out", "abs"] {
            let place = roots.place(path).unwrap();
            let refused = roots.open_file(&place).unwrap_err();
            assert!(matches!(refused, SourceError::Outside { .. }), "{path}: {refused}");
        }
        assert!(roots.open_file(&roots.place("within").unwrap()).is_ok());
        let beside = folder.path().join("secret");
        assert!(matches!(roots.place(beside.to_str().unwrap()), Err(SourceError::Outside { .. })));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (_folder, roots) = roots();
        for path in ["sub", ".", ""] {
            let opened = roots.place(path).and_then(|place| roots.open_file(&place).map(drop));
            let refused = opened.unwrap_err();
            let right = matches!(refused, SourceError::NotRegular { .. } | SourceError::Malformed(_));
            assert!(right, "{path:?}: {refused}");
        }
        assert!(matches!(roots.open_file(&roots.place("b").unwrap()), Err(SourceError::Missing { .. })));
        assert!(matches!(roots.open_file(&roots.place("a/b").unwrap()), Err(SourceError::Missing { .. })));
    }
}
