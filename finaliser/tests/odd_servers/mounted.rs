//! File systems that tests mount, which takes root. Where they cannot be mounted, standard error says so.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::remotes::object::within;

/// A file system that is there until this is dropped.
pub(crate) struct Mounted {
    at: PathBuf,
    serving: Option<Child>,
}

impl Mounted {
    /// `None` where it cannot be mounted. In CI that is a failure.
    pub(crate) fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        let done = Command::new("mount").args(arguments).arg(at).output().unwrap();
        let here = Self { at: at.to_owned(), serving: None };
        done.status.success().then_some(here).or_else(|| not_tested(&String::from_utf8_lossy(&done.stderr)))
    }

    /// A tmpfs of 4 MiB.
    pub(crate) fn tmpfs(at: &Path) -> Option<Self> {
        Self::new(&["-t", "tmpfs", "-o", "size=4m", "tmpfs"], at)
    }

    /// `rclone mount` of a folder.
    pub(crate) async fn rclone(folder: &Path, at: &Path) -> Option<Self> {
        // Also allowed in CI: no package brings this device into a container.
        if !Path::new("/dev/fuse").exists() {
            eprintln!("NOT TESTED: rclone mount: there is no /dev/fuse");
            return None;
        }
        for tool in ["rclone", "fusermount3"] {
            if Command::new(tool).arg("--version").output().is_err() {
                return not_tested(&format!("there is no {tool}: install the packages rclone and fuse3"));
            }
        }
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        let before = device(at);
        let mut serving = Command::new("rclone")
            .args(["--config", "", "mount"])
            .args([folder, at])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mounted = within(async {
            while device(at) == before {
                if serving.try_wait().unwrap().is_some() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            true
        })
        .await;
        match mounted {
            true => Some(Self { at: at.to_owned(), serving: Some(serving) }),
            false => not_tested("rclone mount ended"),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a server may still have a file open.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.at).status();
        if let Some(serving) = &mut self.serving {
            let _ends_by_itself_too = serving.kill();
            let _ended = serving.wait();
        }
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking(), "{:?}", self.at);
    }
}

fn not_tested<T>(why: &str) -> Option<T> {
    eprintln!("NOT TESTED: {}", why.trim());
    assert!(std::env::var_os("CI").is_none(), "{why}");
    None
}
