use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, FileTypeExt, OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;

use crate::{Fingerprint, SourceError};

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

/// The path of a file: its root, and the path beneath the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePath {
    /// The root, as configured.
    pub root: String,
    /// The path beneath it, without `.` and with single slashes.
    pub path: String,
}

impl Roots {
    /// Opens the configured roots. A root stays the folder that was opened, even if another folder takes its name.
    /// Blocking.
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

    /// Resolves a caller's path: absolute beneath a root, or relative to the first root. Does not touch the file
    /// system.
    pub fn locate(&self, asked: &str) -> Result<SourcePath, SourceError> {
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
        // Both come from strings, so the conversion is lossless.
        Ok(SourcePath { root: root.to_string_lossy().into_owned(), path: path.to_string_lossy().into_owned() })
    }

    /// Opens a file for reading, if it is a regular file beneath its root. Blocking.
    ///
    /// The kernel resolves the path beneath the root (`openat2`, `RESOLVE_BENEATH`), so neither `..` nor a link leads
    /// out, even if they change meanwhile. The file type is checked before opening: opening a FIFO blocks, and a device
    /// may act on it.
    pub fn open_file(&self, file: &SourcePath) -> Result<(File, Fingerprint), SourceError> {
        let unknown = || SourceError::UnknownRoot { root: file.root.clone() };
        let root = self.0.iter().find(|root| root.path == Path::new(&file.root)).ok_or_else(unknown)?;
        let path = if file.path.is_empty() { "." } else { &file.path };
        match root.open(path, path) {
            Err(refused @ SourceError::Outside { .. }) => match root.without_links(path) {
                Some(real) => root.open(&real, path),
                None => Err(refused),
            },
            opened => opened,
        }
    }
}

impl Root {
    /// Opens `path`, which callers know as `name`.
    fn open(&self, path: impl AsRef<Path>, name: &str) -> Result<(File, Fingerprint), SourceError> {
        let failed = |error| SourceError::from_io(name, error);
        let metadata = self.folder.metadata(&path).map_err(failed)?;
        require_regular(name, metadata.file_type())?;
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(NON_BLOCKING);
        let file = self.folder.open_with(&path, &options).map_err(failed)?;
        let file_type = file.metadata().map_err(failed)?.file_type();
        require_regular(name, file_type)?;
        let file = file.into_std();
        let fingerprint = Fingerprint::of(&file).map_err(failed)?;
        Ok((file, fingerprint))
    }

    /// The path beneath this root that `path` leads to when all links are followed; `None` if it leads out.
    ///
    /// The kernel refuses every absolute link, also one to a place beneath the root. This finds the place by its name.
    /// What is opened in the end is still up to the kernel: if a link is changed meanwhile, it refuses again.
    ///
    /// A path with `..` is not looked for: it could lead out and back in, and so tell a caller what there is outside.
    fn without_links(&self, path: &str) -> Option<PathBuf> {
        if Path::new(path).components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let root = self.path.canonicalize().ok()?;
        let real = root.join(path).canonicalize().ok()?;
        Some(real.strip_prefix(&root).ok()?.to_owned())
    }
}

/// `O_NONBLOCK | O_NOCTTY`: a FIFO or a terminal may have taken the file's place since its type was checked; opening it
/// must neither block nor make it the controlling terminal.
const NON_BLOCKING: i32 = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();

fn require_regular(path: &str, file_type: cap_std::fs::FileType) -> Result<(), SourceError> {
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
    fn relative_and_absolute_paths_name_the_same_file() {
        let (folder, roots) = roots();
        let file = roots.locate("./sub//../a").unwrap();
        assert_eq!(file.path, "sub/../a");
        assert_eq!(roots.open_file(&file).unwrap().1.size, 3);
        let absolute = roots.locate(folder.path().join("in/a").to_str().unwrap()).unwrap();
        assert_eq!((absolute.root, absolute.path.as_str()), (file.root, "a"));
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
            let file = roots.locate(&path).unwrap();
            assert_eq!((Path::new(&file.root), file.path.as_str()), (paths[root].as_path(), beneath), "{path}");
        }
        for path in ["/".into(), absolute("inside/a"), "/etc/passwd".into()] {
            assert!(matches!(roots.locate(&path), Err(SourceError::Outside { .. })), "{path}");
        }
    }

    #[test]
    fn roots_must_be_folders() {
        for wrong in ["/nowhere", "/proc/self/exe"] {
            assert!(Roots::open(&[wrong.into()]).unwrap_err().to_string().contains(wrong));
        }
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        let (folder, roots) = roots();
        std::os::unix::fs::symlink("../secret", folder.path().join("in/out")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), folder.path().join("in/abs")).unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("in/within")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("other"), folder.path().join("in/beside")).unwrap();
        std::fs::write(folder.path().join("other/a"), "no").unwrap();
        for path in ["../secret", "sub/../../secret", "out", "abs", "beside/a", "../in/a", "beside/../in/a"] {
            let file = roots.locate(path).unwrap();
            let refused = roots.open_file(&file).unwrap_err();
            assert!(matches!(refused, SourceError::Outside { .. }), "{path}: {refused}");
        }
        assert!(roots.open_file(&roots.locate("within").unwrap()).is_ok());
        let beside = folder.path().join("secret");
        assert!(matches!(roots.locate(beside.to_str().unwrap()), Err(SourceError::Outside { .. })));
    }

    #[test]
    fn an_absolute_link_is_followed_if_it_stays_beneath_its_root() {
        let (folder, roots) = roots();
        let (link, root) = (std::os::unix::fs::symlink::<PathBuf, PathBuf>, folder.path().join("in"));
        link(root.join("a"), root.join("file")).unwrap();
        link(root.join("sub"), root.join("folder")).unwrap();
        link("../a".into(), root.join("sub/relative")).unwrap();
        link(root.join("sub/relative"), root.join("chain")).unwrap();
        for path in ["file", "folder/relative", "chain"] {
            let opened = roots.open_file(&roots.locate(path).unwrap());
            assert_eq!(opened.unwrap_or_else(|error| panic!("{path}: {error}")).1.size, 3);
        }
        let refused = roots.open_file(&roots.locate("folder").unwrap()).unwrap_err();
        assert!(matches!(&refused, SourceError::NotRegular { path, .. } if path == "folder"), "{refused}");
        // The root itself may be reached by a link.
        link(root, folder.path().join("root")).unwrap();
        let roots = Roots::open(&[folder.path().join("root")]).unwrap();
        assert_eq!(roots.open_file(&roots.locate("chain").unwrap()).unwrap().1.size, 3);
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (_folder, roots) = roots();
        for path in ["sub", ".", ""] {
            let opened = roots.locate(path).and_then(|file| roots.open_file(&file).map(drop));
            let refused = opened.unwrap_err();
            let right = matches!(refused, SourceError::NotRegular { .. } | SourceError::Malformed(_));
            assert!(right, "{path:?}: {refused}");
        }
        assert!(matches!(roots.open_file(&roots.locate("b").unwrap()), Err(SourceError::Missing { .. })));
        assert!(matches!(roots.open_file(&roots.locate("a/b").unwrap()), Err(SourceError::Missing { .. })));
    }
}
