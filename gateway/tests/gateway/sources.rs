//! Which paths may be prepared.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::stage::Stage;

async fn assert_refused(stage: &Stage, path: impl AsRef<Path>, status: u16, slug: &str) -> String {
    let before = stage.snapshot().await;
    let path = path.as_ref().to_str().unwrap();
    let problem = stage.ada.prepare(path).await.assert_problem(status, slug);
    stage.assert_unchanged(&before).await;
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn paths_within_the_roots_are_accepted() {
    let stage = Stage::set_with(|settings| {
        let second = settings.files.roots[0].parent().unwrap().join("second");
        std::fs::create_dir(&second).unwrap();
        std::fs::write(second.join("c"), b"abc").unwrap();
        settings.files.roots.push(second);
    })
    .await;
    stage.write("in/a", b"abc");
    stage.write("b", b"abc");
    symlink("../b", stage.root().join("in/link")).unwrap();
    symlink(stage.root().join("in"), stage.root().join("absolute")).unwrap();
    let second = stage.folder.path().join("second");
    for (asked, root, path) in [
        ("in/a".into(), stage.root(), "in/a"),
        ("./in/./a".into(), stage.root(), "in/a"),
        ("in//a/".into(), stage.root(), "in/a"),
        // These do not leave the root, and are recorded as they are.
        ("in/../b".into(), stage.root(), "in/../b"),
        ("in/link".into(), stage.root(), "in/link"),
        ("absolute/link".into(), stage.root(), "absolute/link"),
        (stage.root().join("in/a"), stage.root(), "in/a"),
        (second.join("c"), second.clone(), "c"),
    ] {
        let answer = stage.ada.prepare(asked.to_str().unwrap()).await;
        assert_eq!(answer.status, 201, "{asked:?}: {answer:?}");
        let source = stage.record(&answer.file_id()).await.source;
        assert_eq!((source.root.as_str(), source.path.as_str()), (root.to_str().unwrap(), path), "{asked:?}");
    }
    // Relative paths lie beneath the first root only.
    assert_refused(&stage, "c", 404, "no-such-file").await;
}

#[tokio::test]
async fn a_path_that_leads_out_is_refused() {
    let stage = Stage::set().await;
    stage.write("in/a", b"abc");
    let outside = stage.folder.path().join("outside");
    std::fs::write(&outside, b"abc").unwrap();
    let sibling = stage.folder.path().join("source-2");
    std::fs::create_dir(&sibling).unwrap();
    std::fs::write(sibling.join("a"), b"abc").unwrap();
    symlink(&outside, stage.root().join("absolute")).unwrap();
    symlink("../outside", stage.root().join("relative")).unwrap();
    symlink("..", stage.root().join("up")).unwrap();
    symlink("/dev/null", stage.root().join("null")).unwrap();
    symlink("round", stage.root().join("round")).unwrap();
    let root = stage.root();
    for path in [
        "../outside".into(),
        "in/../../outside".into(),
        "..".into(),
        "absolute".into(),
        "relative".into(),
        "up/outside".into(),
        "null".into(),
        "round".into(),
        root.join("../outside"),
        root.join("in/../../outside"),
        outside,
        sibling.join("a"),
        "/etc/passwd".into(),
        "/proc/self/root/etc/passwd".into(),
        "/".into(),
    ] {
        assert_refused(&stage, path, 403, "outside-roots").await;
    }
}

#[tokio::test]
async fn a_path_to_nothing_is_not_found() {
    let stage = Stage::set().await;
    stage.write("a", b"abc");
    symlink("nowhere", stage.root().join("dangling")).unwrap();
    for path in ["b", "in/a", "a/b", "dangling", "%61", " a"] {
        assert_refused(&stage, path, 404, "no-such-file").await;
    }
    assert_refused(&stage, stage.root().join("b"), 404, "no-such-file").await;
}

#[tokio::test]
async fn anything_but_a_regular_file_is_refused() {
    let stage = Stage::set().await;
    stage.write("in/a", b"abc");
    let root = stage.root();
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = UnixListener::bind(root.join("socket")).unwrap();
    for (path, kind) in [
        ("in", "a directory"),
        ("in/", "a directory"),
        (".", "a directory"),
        ("in/..", "a directory"),
        ("fifo", "a FIFO"),
        ("socket", "a socket"),
    ] {
        let detail = assert_refused(&stage, path, 415, "not-a-regular-file").await;
        assert!(detail.contains(kind), "{path}: {detail}");
    }
    assert_refused(&stage, &root, 415, "not-a-regular-file").await;
    match mknodat(CWD, root.join("device"), FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, makedev(1, 3)) {
        Ok(()) => {
            let detail = assert_refused(&stage, "device", 415, "not-a-regular-file").await;
            assert!(detail.contains("a device"), "{detail}");
        }
        Err(error) => eprintln!("NOT TESTED with a device, only with a socket: the kernel makes none here: {error}"),
    }
}

#[tokio::test]
async fn a_malformed_path_is_refused() {
    let stage = Stage::set().await;
    let component = "n".repeat(256);
    for path in ["", "a\0b", "\0", &"p".repeat(4097), &"p/".repeat(3000), &component, &format!("{component}/a")] {
        assert_refused(&stage, path, 400, "bad-path").await;
    }
    // The longest path that the kernel accepts.
    let longest = format!("{}p", "p/".repeat(2047));
    assert_eq!(longest.len(), 4095);
    assert_refused(&stage, longest, 404, "no-such-file").await;
}
