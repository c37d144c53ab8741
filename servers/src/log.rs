//! The files the servers write their output to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// A larger log is put aside (one generation) at a start: the two together bound what a log takes over many starts.
const ROTATE_ABOVE: u64 = 16 << 20;

/// How much of a log an error shows.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 << 10;

/// Opens a log for appending, made with its folder if need be. Returns it with its length, which is where this run begins.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::metadata(path).is_ok_and(|old| old.len() > ROTATE_ABOVE) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".old");
        fs::rename(path, aside)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// The last lines written at or after `from`. For messages: if the log cannot be read, the text says so.
pub(crate) fn tail(path: &Path, from: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(TAIL_LINES);
        Ok(lines[first..].join("\n"))
    };
    match read() {
        Ok(text) if text.trim().is_empty() => "(it wrote nothing)".to_owned(),
        Ok(text) => text,
        Err(error) => format!("({} could not be read: {error})", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_begins_where_the_run_began_and_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/server.log");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "old\n").unwrap();
        let (_, from) = open(&path).unwrap();
        assert_eq!(tail(&path, from), "(it wrote nothing)");
        let lines: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        fs::write(&path, format!("old\n{lines}")).unwrap();
        let tail = tail(&path, from);
        assert!(tail.ends_with("line 9999"), "{tail}");
        assert_eq!(tail.lines().count(), TAIL_LINES);
    }

    #[test]
    fn a_large_log_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        File::create(&path).unwrap().set_len(ROTATE_ABOVE + 1).unwrap();
        let (_, from) = open(&path).unwrap();
        assert_eq!(from, 0);
        assert!(folder.path().join("server.log.old").exists());
    }
}
