//! Making a mongod the primary of a replica set of one: retryable writes and majority need a set.

use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};

use crate::error::Error;
use crate::locate::Server;
use crate::ready::Progress;
use crate::wire::Wire;

/// The name of the set.
pub(crate) const NAME: &str = "rs0";

/// For one command: initiating the set takes about 0.1 s, here with room for a slow disk.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

// mongod's error codes.
const ALREADY_INITIALIZED: i32 = 23;
const NOT_YET_INITIALIZED: i32 = 94;
/// Another change of the settings is under way.
const IN_PROGRESS: i32 = 109;

/// Leads the mongod at `port` to being a writable primary, one look at a time.
#[derive(Debug)]
pub(crate) struct Founder {
    port: u16,
    pid: u32,
    wire: Option<Wire>,
}

impl Founder {
    /// `pid` is that of our mongod. The port was only found free: another server, perhaps one of another launcher, may
    /// have been faster, and must be neither taken for ours nor changed.
    pub(crate) fn new(port: u16, pid: u32) -> Self {
        Self { port, pid, wire: None }
    }

    /// Looks how far mongod is, and does what is needed next.
    pub(crate) fn look(&mut self) -> Result<Progress<()>, Error> {
        let (port, pid) = (self.port, self.pid);
        let looked = match &mut self.wire {
            Some(wire) => step(wire, port),
            None => match Wire::connect(port, COMMAND_LIMIT) {
                Ok(wire) => is_of(wire, pid).and_then(|ours| match ours {
                    Some(wire) => step(self.wire.insert(wire), port),
                    None => Ok(Progress::NotYet(format!("another process answers on its port {port}"))),
                }),
                Err(error) => Ok(Progress::NotYet(format!("a connection: {error}"))),
            },
        };
        match looked {
            // mongod closes its connections when it changes its state.
            Err(error @ Error::Io { .. }) => {
                self.wire = None;
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Ok(Progress::NotYet(format!("{error}: {}", cause.unwrap_or_default())))
            }
            other => other,
        }
    }
}

/// The connection, if it leads to the process `pid`.
fn is_of(mut wire: Wire, pid: u32) -> Result<Option<Wire>, Error> {
    // Without the sections that cost something to put together.
    let status = doc! { "serverStatus": 1, "repl": 0, "metrics": 0, "wiredTiger": 0, "locks": 0 };
    let status = match wire.run(status) {
        // Ours lets everyone ask.
        Err(Error::Refused { .. }) => return Ok(None),
        other => other?,
    };
    let found = match status.get("pid") {
        Some(Bson::Int64(found)) => *found,
        Some(Bson::Int32(found)) => i64::from(*found),
        _ => return Ok(None),
    };
    Ok((found == i64::from(pid)).then_some(wire))
}

fn step(wire: &mut Wire, port: u16) -> Result<Progress<()>, Error> {
    let hello = wire.run(doc! { "hello": 1 })?;
    let me = format!("127.0.0.1:{port}");
    if let Ok(name) = hello.get_str("setName") {
        if name != NAME {
            return Err(Error::Answer {
                server: Server::Mongo,
                port,
                what: format!("as a member of the replica set {name}; expected {NAME}"),
            });
        }
        let primary = hello.get_bool("isWritablePrimary").unwrap_or(false);
        return Ok(if primary {
            Progress::Ready(())
        } else {
            Progress::NotYet("it is not the primary yet".to_owned())
        });
    }

    // No set, or not in it.
    match wire.run(doc! { "replSetGetConfig": 1 }) {
        Err(Error::Refused { code: NOT_YET_INITIALIZED, .. }) => {
            let config = doc! { "_id": NAME, "members": [{ "_id": 0, "host": me }] };
            accept(wire.run(doc! { "replSetInitiate": config }), "the replica set is being made")
        }
        Ok(reply) => match moved(&reply, &me) {
            Some(config) => {
                tracing::info!(port, "mongod has a new port; changing its replica set's settings");
                let command = doc! { "replSetReconfig": config, "force": true };
                accept(wire.run(command), "the replica set's settings are being changed")
            }
            None => Ok(Progress::NotYet("it is reading its replica set's settings".to_owned())),
        },
        Err(error) => accept(Err(error), "it is reading its replica set's settings"),
    }
}

/// A command that was done by another, or is too early, is asked again on the next look.
fn accept(reply: Result<Document, Error>, then: &str) -> Result<Progress<()>, Error> {
    match reply {
        Ok(_) => {}
        Err(Error::Refused { code: ALREADY_INITIALIZED | IN_PROGRESS, .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(Progress::NotYet(then.to_owned()))
}

/// The set's settings with the one member at `me`, if it is elsewhere: a mongod started on another port does not find
/// itself in its own set.
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
        let ready = |pid| matches!(Founder::new(theirs.port(), pid).look(), Ok(Progress::Ready(())));
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
}
