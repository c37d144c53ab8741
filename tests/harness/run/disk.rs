use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, which can be full. It is unmounted when this is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    ballast: PathBuf,
}

impl SmallDisk {
    /// Mounts a tmpfs of `mib` MiB at `folder`.
    ///
    /// # Errors
    ///
    /// It cannot be mounted here: only root may, and not in every container.
    pub fn mount(folder: &Path, mib: u32) -> anyhow::Result<Self> {
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder).output()?;
        let why = String::from_utf8_lossy(&mounted.stderr);
        anyhow::ensure!(mounted.status.success(), "a tmpfs cannot be mounted: {}", why.trim());
        Ok(Self { at: folder.to_owned(), ballast: folder.join("..ballast") })
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> anyhow::Result<()> {
        self.fill_but(0)
    }

    /// Fills it until at most `free` bytes are free.
    pub fn fill_but(&self, free: u64) -> anyhow::Result<()> {
        let mut file = std::fs::File::create(&self.ballast)?;
        let piece = vec![1_u8; 4096];
        loop {
            if free > 0 && self.free() <= free {
                return Ok(());
            }
            match file.write_all(&piece) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The bytes that are free.
    pub fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.at).map_or(0, |found| found.f_bavail * found.f_frsize)
    }

    /// Makes it read only, or writable again.
    pub fn read_only(&self, on: bool) {
        let option = if on { "remount,ro" } else { "remount,rw" };
        let mounted = Command::new("mount").args(["-o", option]).arg(&self.at).status().unwrap();
        assert!(mounted.success(), "{} cannot be mounted anew", self.at.display());
    }

    /// Makes room again.
    pub fn clear(&self) {
        let _none_there = std::fs::remove_file(&self.ballast);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a dying process may still have a file open there.
        let _said_by_umount = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
