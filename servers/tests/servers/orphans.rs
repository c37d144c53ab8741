//! What becomes of the servers when the process that started them dies. That process is this test binary itself, which
//! runs once more with only the test `in_a_role`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use servers::{Nats, shared};
use tempfile::tempdir;

use crate::{DEADLINE, eventually, nats_options, runs};

const ROLE: &str = "SERVERS_TEST_ROLE";
const FOLDER: &str = "SERVERS_TEST_FOLDER";

#[tokio::test]
async fn in_a_role() -> Result<()> {
    let Ok(role) = std::env::var(ROLE) else {
        return Ok(());
    };
    let folder = std::env::var_os(FOLDER).context("no folder")?;
    let folder = Path::new(&folder);
    // In two steps: the other process waits for a complete file.
    let tell = |what: String| -> Result<()> {
        fs::write(folder.join("told.new"), what)?;
        Ok(fs::rename(folder.join("told.new"), folder.join("told"))?)
    };
    match role.as_str() {
        "launcher" | "test" => {
            let mut options = nats_options(folder);
            options.die_with_parent = role == "test";
            let nats = Nats::start(options).await?;
            tell(nats.pid().to_string())?;
            // The test kills this process meanwhile; the time is bounded in case the test has failed.
            tokio::time::sleep(2 * DEADLINE).await;
            Ok(())
        }
        "shared" => {
            let servers = shared().await?;
            tell(format!("{}\n{}", servers.nats_url(), servers.mongodb_uri()))
        }
        _ => anyhow::bail!("no such role: {role}"),
    }
}

fn spawn(role: &str, folder: &Path, variables: &[(&str, &str)]) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["--exact", "orphans::in_a_role"])
        .env(ROLE, role)
        .env(FOLDER, folder)
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .spawn()
        .context("spawn")
}

fn told(folder: &Path) -> Result<String> {
    let path = folder.join("told");
    eventually("the other process has told", || path.exists());
    Ok(fs::read_to_string(path)?)
}

#[tokio::test]
async fn a_killed_launcher_leaves_a_server_to_adopt() -> Result<()> {
    let folder = tempdir()?;
    let mut launcher = spawn("launcher", folder.path(), &[])?;
    let pid: u32 = told(folder.path())?.parse()?;
    launcher.kill()?;
    launcher.wait()?;
    let nats = Nats::start(nats_options(folder.path())).await?;
    assert!(nats.adopted());
    assert_eq!(nats.pid(), pid);
    Ok(())
}

#[test]
fn a_killed_test_takes_its_servers_with_it() -> Result<()> {
    let folder = tempdir()?;
    let mut test = spawn("test", folder.path(), &[])?;
    let pid: u32 = told(folder.path())?.parse()?;
    assert!(runs(pid));
    test.kill()?;
    test.wait()?;
    eventually("the server has ended", || !runs(pid));
    Ok(())
}

#[test]
fn shared_servers_and_their_folder_go_with_the_process() -> Result<()> {
    let folder = tempdir()?;
    let temporary = folder.path().to_str().context("not UTF-8")?;
    let unset = [("TMPDIR", temporary), (servers::NATS_URL, ""), (servers::MONGODB_URI, "")];
    let status = spawn("shared", folder.path(), &unset)?.wait()?;
    assert!(status.success());
    let urls = told(folder.path())?;
    assert!(urls.starts_with("nats://127.0.0.1:"), "{urls}");
    let (_, nats_port) = urls.lines().next().and_then(|url| url.rsplit_once(':')).context("no port")?;
    let nats_port: u16 = nats_port.parse()?;
    eventually("nobody listens any more", || std::net::TcpStream::connect(("127.0.0.1", nats_port)).is_err());
    eventually("only the lock is left", || {
        let bases = fs::read_dir(folder.path()).into_iter().flatten().flatten();
        bases
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("waybill-tests-"))
            .all(|base| fs::read_dir(base.path()).is_ok_and(|left| left.count() == 1))
    });
    Ok(())
}

#[test]
fn servers_named_in_the_environment_are_used() -> Result<()> {
    let folder = tempdir()?;
    let given = [(servers::NATS_URL, "nats://given:1"), (servers::MONGODB_URI, "mongodb://given:2")];
    assert!(spawn("shared", folder.path(), &given)?.wait()?.success());
    assert_eq!(told(folder.path())?, "nats://given:1\nmongodb://given:2");
    Ok(())
}

#[test]
fn all_tests_share_one_pair() -> Result<()> {
    let urls = || -> Result<(String, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let servers = runtime.block_on(shared())?;
        Ok((servers.nats_url().to_owned(), servers.mongodb_uri().to_owned()))
    };
    let other = std::thread::spawn(urls);
    let mine = urls()?;
    let other = other.join().map_err(|_| anyhow::anyhow!("panicked"))??;
    assert_eq!(mine, other);
    Ok(())
}
