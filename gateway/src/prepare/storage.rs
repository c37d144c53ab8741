//! The folders beneath which files may be read, and which of them a path is beneath.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use ledger::Source;
use tokio::sync::Semaphore;

use super::look::look;
use crate::problem::{BUSY, OUTSIDE, Problem, UNAVAILABLE};

/// Looks at files at once: each holds a thread, and a share that hangs would take one after the other.
const LOOKS: usize = 64;

/// How long a look may take before the share counts as out of reach.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// The allowed roots.
#[derive(Debug)]
pub(crate) struct Storage {
    roots: Arc<[Root]>,
    looks: Arc<Semaphore>,
}

#[derive(Debug)]
struct Root {
    /// As configured: chunkers know it by that.
    name: String,
    path: PathBuf,
    dir: Dir,
}

/// A file that may be read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) source: Source,
    /// The last component of its path.
    pub(super) name: String,
}

impl Storage {
    /// Opens the configured roots. What they are opened at stays allowed, even if another folder takes the name.
    pub(crate) fn open(paths: &[PathBuf]) -> Result<Self, String> {
        if paths.is_empty() {
            return Err("files.roots: expected a folder at least, beneath which files may be read, found none".into());
        }
        let open = |path: &PathBuf| {
            let failed = |why: String| format!("files.roots: {} cannot be opened as a folder: {why}", path.display());
            let name = path.to_str().ok_or_else(|| failed("its name is not UTF-8".into()))?.to_owned();
            let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(|error| failed(error.to_string()))?;
            Ok(Root { name, path: path.clone(), dir })
        };
        let roots = paths.iter().map(open).collect::<Result<_, String>>()?;
        Ok(Self { roots, looks: Arc::new(Semaphore::new(LOOKS)) })
    }

    /// Looks whether there is a regular file at `path` that may be read.
    pub(super) async fn look(&self, path: &str) -> Result<Found, Problem> {
        let (root, beneath) = choose(self.roots.iter().map(|root| root.path.as_path()), path).ok_or_else(|| {
            Problem::new(OUTSIDE, "expected a path beneath one of the allowed folders, found one that is beneath none")
        })?;
        let permit = self.looks.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Problem::new(BUSY, "too many files are being looked at; try again later"))?;
        let roots = self.roots.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let root = &roots[root];
            let stat = look(&root.dir, &beneath)?;
            // Made from a text, so they are texts.
            let path = beneath.to_string_lossy().into_owned();
            let name = beneath.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let source = Source { root: root.name.clone(), path, size: stat.size, mtime_ns: stat.mtime_ns };
            Ok(Found { source, name })
        });
        match tokio::time::timeout(LOOK_TIMEOUT, looking).await {
            Ok(Ok(found)) => found,
            Ok(Err(ended)) => Err(Problem::new(UNAVAILABLE, "the file could not be looked at").because(ended)),
            Err(_) => Err(Problem::new(UNAVAILABLE, "the storage of the file does not answer")
                .because(format!("no answer from the storage within {LOOK_TIMEOUT:?}"))),
        }
    }
}

/// Which root (by its place) a path is beneath, and the rest of the path, without `.` components. Of roots within each
/// other the innermost; of a relative path the first. Nothing is resolved here: `..` stays, for the kernel to judge.
fn choose<'a>(roots: impl Iterator<Item = &'a Path>, path: &str) -> Option<(usize, PathBuf)> {
    let path = Path::new(path);
    let (root, rest) = if path.is_absolute() {
        let beneath = roots.enumerate().filter_map(|(n, root)| Some((n, root, path.strip_prefix(root).ok()?)));
        let (root, _, rest) = beneath.max_by_key(|(_, root, _)| root.components().count())?;
        (root, rest)
    } else {
        (0, path)
    };
    Some((root, rest.components().filter(|component| *component != Component::CurDir).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(path: &str) -> Option<(usize, String)> {
        let roots = ["/srv/in", "/srv/in/deep", "/data/"];
        let (root, rest) = choose(roots.iter().map(Path::new), path)?;
        Some((root, rest.to_str().unwrap().to_owned()))
    }

    #[test]
    fn the_innermost_root_is_chosen_by_whole_components() {
        for (path, root, rest) in [
            ("/srv/in/a", 0, "a"),
            ("/srv/in/deep/a", 1, "a"),
            ("/srv/in/deeper/a", 0, "deeper/a"),
            ("/srv//in/./b/./a", 0, "b/a"),
            ("/data/a/", 2, "a"),
            ("/srv/in", 0, ""),
            ("a", 0, "a"),
            ("./a/./b", 0, "a/b"),
            (".", 0, ""),
        ] {
            assert_eq!(chosen(path), Some((root, rest.to_owned())), "{path}");
        }
    }

    #[test]
    fn dots_that_lead_upwards_stay_for_the_kernel() {
        assert_eq!(chosen("/srv/in/../../etc/passwd"), Some((0, "../../etc/passwd".into())));
        assert_eq!(chosen("a/../b"), Some((0, "a/../b".into())));
    }

    #[test]
    fn beneath_no_root_is_nowhere() {
        for path in ["/", "/srv", "/srv/inside/a", "/etc/passwd", "/srv/../srv/in/a"] {
            assert_eq!(chosen(path), None, "{path}");
        }
    }

    #[test]
    fn roots_must_be_folders() {
        let folder = std::env::temp_dir();
        assert!(Storage::open(std::slice::from_ref(&folder)).is_ok());
        let own = PathBuf::from("/proc/self/exe");
        for wrong in [&[][..], &[PathBuf::from("/nowhere")], &[folder, own]] {
            assert!(Storage::open(wrong).unwrap_err().contains("files.roots"));
        }
    }
}
