//! Making a mongod the primary of a replica set of one: retryable writes and majority need a set.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;
use mongodb::options::{AuthMechanism, ClientOptions, Credential, ServerAddress};
use mongodb::{Client, Database};
use tokio::runtime::{Builder, Runtime};

use crate::error::Error;
use crate::home::Home;
use crate::locate::Server;
use crate::ready::Progress;
use crate::secret::{KEY_FILE, PASSWORD, Secret, USER};

/// The name of the set.
pub(crate) const NAME: &str = "rs0";

/// For all commands of one check: initiating the set takes about 0.1 s, the rest allows for a slow disk.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// For the driver to connect: mongod listens before it is asked anything.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

// mongod's error codes.
const USER_NOT_FOUND: i32 = 11;
const ALREADY_INITIALIZED: i32 = 23;
const NOT_YET_INITIALIZED: i32 = 94;
/// Another change of the settings is under way.
const IN_PROGRESS: i32 = 109;

/// The secrets of a mongod that asks its clients for a password.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    /// The password of [`USER`].
    pub(crate) password: Secret,
    /// What members of the set know each other by, and so the founder.
    key: Secret,
}

impl Login {
    /// The secrets that the data directory keeps; the first start makes them.
    pub(crate) fn kept(home: &Home) -> Result<Self, Error> {
        Ok(Self { password: Secret::kept(home, PASSWORD)?, key: Secret::kept(home, KEY_FILE)? })
    }
}

/// Makes one mongod a writable primary with its user, step by step. Blocking, on a thread without a runtime.
#[derive(Debug)]
pub(crate) struct Founder {
    /// Dropped before the runtime that serves its connections.
    admin: Option<Database>,
    runtime: Runtime,
    login: Option<Login>,
}

impl Founder {
    pub(crate) fn new(login: Option<Login>) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::io("could not make a runtime to ask mongod"))?;
        Ok(Self { admin: None, runtime, login })
    }

    /// Checks how far mongod has come, and does what is needed next. `pid` is that of our mongod: another server may
    /// have taken the port first, and must be neither mistaken for ours nor changed.
    pub(crate) fn look(&mut self, port: u16, pid: u32) -> Result<Progress<()>, Error> {
        let admin = match self.admin.take() {
            Some(admin) => admin,
            None => {
                // The driver would check only every 500 ms whether mongod listens now.
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                if let Err(error) = TcpStream::connect_timeout(&address, CONNECT_LIMIT) {
                    return Ok(Progress::NotYet(format!("a connection: {error}")));
                }
                self.runtime.block_on(connect(port, self.login.as_ref()))?
            }
        };
        // A command that timed out is dropped with its client: the driver's futures are not cancel-safe.
        let looking = async { tokio::time::timeout(LOOK_LIMIT, step(&admin, port, pid, self.login.as_ref())).await };
        match self.runtime.block_on(looking) {
            // mongod closes its connections when its state changes.
            Ok(Err(error @ Error::Io { .. })) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Ok(Progress::NotYet(format!("{error}: {}", cause.unwrap_or_default())))
            }
            Ok(looked) => {
                self.admin = Some(admin);
                looked
            }
            Err(_) => Ok(Progress::NotYet("an answer in time".to_owned())),
        }
    }
}

async fn connect(port: u16, login: Option<&Login>) -> Result<Database, Error> {
    let address = ServerAddress::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port: Some(port) };
    // Directly: no set is known yet, and later the set may be known under another port.
    let mut options = ClientOptions::builder()
        .hosts(vec![address])
        .direct_connection(true)
        .connect_timeout(CONNECT_LIMIT)
        .server_selection_timeout(CONNECT_LIMIT)
        .build();
    // As a member of the set. Each side proves to the other that it has the key, so this is our mongod, and no user
    // need exist yet.
    options.credential = login.map(|login| {
        let member = Credential::builder().username("__system".to_owned()).source("local".to_owned());
        member.password(login.key.expose().to_owned()).mechanism(AuthMechanism::ScramSha256).build()
    });
    let client = Client::with_options(options);
    client.map(|client| client.database("admin")).map_err(|error| not_asked("anything", error))
}

async fn step(admin: &Database, port: u16, pid: u32, login: Option<&Login>) -> Result<Progress<()>, Error> {
    if !is_of(admin, pid).await? {
        return Ok(Progress::NotYet(format!("another process answers on its port {port}")));
    }
    let hello = run(admin, doc! { "hello": 1 }).await?;
    let me = format!("127.0.0.1:{port}");
    if let Ok(name) = hello.get_str("setName") {
        if name != NAME {
            let what = format!("as a member of the replica set {name}; expected {NAME}");
            return Err(Error::Answer { server: Server::Mongo, port, what });
        }
        return Ok(match hello.get_bool("isWritablePrimary") {
            Ok(true) => {
                if let Some(login) = login {
                    make_user(admin, &login.password).await?;
                }
                Progress::Ready(())
            }
            _ => Progress::NotYet("it is not the primary yet".to_owned()),
        });
    }

    // There is no set, or mongod does not find itself in it.
    match run(admin, doc! { "replSetGetConfig": 1 }).await {
        Err(Error::Refused { code: NOT_YET_INITIALIZED, .. }) => {
            let config = doc! { "_id": NAME, "members": [{ "_id": 0, "host": me }] };
            accept(run(admin, doc! { "replSetInitiate": config }).await, "the replica set is being made")
        }
        Ok(reply) => match moved(&reply, &me) {
            Some(config) => {
                tracing::info!(port, "mongod has a new port; changing its replica set's settings");
                let command = doc! { "replSetReconfig": config, "force": true };
                accept(run(admin, command).await, "the replica set's settings are being changed")
            }
            None => Ok(Progress::NotYet("it is reading its replica set's settings".to_owned())),
        },
        Err(error) => accept(Err(error), "it is reading its replica set's settings"),
    }
}

/// Makes the user of the clients, or gives it this password.
async fn make_user(admin: &Database, password: &Secret) -> Result<(), Error> {
    // Everything in any database, and nothing that concerns the server.
    let rest = doc! {
        "pwd": password.expose(),
        "roles": ["readWriteAnyDatabase", "dbAdminAnyDatabase"],
        "mechanisms": ["SCRAM-SHA-256"],
    };
    let command = |name: &str| {
        let mut command = doc! { name: USER };
        command.extend(rest.clone());
        command
    };
    match run(admin, command("updateUser")).await {
        Err(Error::Refused { code: USER_NOT_FOUND, .. }) => run(admin, command("createUser")).await.map(drop),
        other => other.map(drop),
    }
}

/// Whether the process `pid` answers.
async fn is_of(admin: &Database, pid: u32) -> Result<bool, Error> {
    // Without the sections that are expensive to compute.
    let status = doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "wiredTiger": 0, "locks": 0 };
    let status = match run(admin, status).await {
        // Our mongod answers everybody.
        Err(Error::Refused { .. }) => return Ok(false),
        other => other?,
    };
    Ok(match status.get("pid") {
        Some(Bson::Int64(found)) => *found == i64::from(pid),
        Some(Bson::Int32(found)) => i64::from(*found) == i64::from(pid),
        _ => false,
    })
}

/// [`Error::Refused`] if mongod says no. After any other error the connection is useless.
async fn run(admin: &Database, command: Document) -> Result<Document, Error> {
    let name = command.keys().next().cloned().unwrap_or_default();
    admin.run_command(command).await.map_err(|error| match *error.kind {
        ErrorKind::Command(refusal) => Error::Refused { command: name, code: refusal.code, message: refusal.message },
        _ => not_asked(&name, error),
    })
}

fn not_asked(what: &str, error: mongodb::error::Error) -> Error {
    Error::io(format!("could not ask mongod for {what}"))(std::io::Error::other(error))
}

/// A command that another client has run already, or that comes too early, is run again at the next check.
fn accept(reply: Result<Document, Error>, then: &str) -> Result<Progress<()>, Error> {
    match reply {
        Ok(_) | Err(Error::Refused { code: ALREADY_INITIALIZED | IN_PROGRESS, .. }) => {
            Ok(Progress::NotYet(then.to_owned()))
        }
        Err(error) => Err(error),
    }
}

/// The set's settings with its only member moved to `me`, if that is elsewhere: a mongod that was started on another
/// port does not find itself in its own set.
fn moved(reply: &Document, me: &str) -> Option<Document> {
    let mut config = reply.get_document("config").ok()?.clone();
    let version = config.get_i32("version").ok()?;
    let members = config.get_array_mut("members").ok()?;
    let [Bson::Document(member)] = members.as_mut_slice() else {
        return None;
    };
    if member.get_str("host").ok()? == me {
        return None;
    }
    member.insert("host", me);
    config.insert("version", version + 1);
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_member_elsewhere_is_moved() {
        let reply = doc! { "config": {
            "_id": NAME, "version": 3, "term": 7, "members": [{ "_id": 0, "host": "127.0.0.1:1", "votes": 1 }],
        } };
        assert_eq!(moved(&reply, "127.0.0.1:1"), None);
        let config = moved(&reply, "127.0.0.1:2").unwrap();
        assert_eq!(config.get_i32("version").unwrap(), 4);
        let member = config.get_array("members").unwrap()[0].as_document().unwrap();
        assert_eq!(member, &doc! { "_id": 0, "host": "127.0.0.1:2", "votes": 1 });
    }

    #[test]
    fn the_mongod_of_another_is_not_taken_for_ours() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = crate::MongoOptions::new(folder.path(), crate::MIN_CACHE_MIB);
        options.die_with_parent = true;
        let theirs = crate::Mongo::start_blocking(options).unwrap();
        let ready = |pid| matches!(Founder::new(None).unwrap().look(theirs.port(), pid), Ok(Progress::Ready(())));
        assert!(ready(theirs.pid()));
        assert!(!ready(theirs.pid() + 1));
    }

    #[test]
    fn a_set_of_several_is_not_touched() {
        let reply = doc! { "config": {
            "version": 3, "members": [{ "host": "127.0.0.1:1" }, { "host": "127.0.0.1:3" }],
        } };
        assert_eq!(moved(&reply, "127.0.0.1:2"), None);
    }

    #[test]
    fn a_server_that_speaks_something_else_is_not_ready() {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Until the client hangs up, which may come as a reset.
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n\0\0\0\0");
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        let looked = Founder::new(None).unwrap().look(port, 1);
        let Ok(Progress::NotYet(why)) = looked else { panic!("{looked:?}") };
        assert!(why.contains("could not ask mongod for serverStatus"), "{why}");
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let looked = Founder::new(None).unwrap().look(port, 1);
        assert!(matches!(looked, Ok(Progress::NotYet(_))), "{looked:?}");
    }
}
