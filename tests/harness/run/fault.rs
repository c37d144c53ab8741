use std::fmt;
use std::time::Duration;

use contract::Role;

use crate::{Behaviour, NetFault, Way};

/// What is done to a system in a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// A process aborts at a crash point, and is started again.
    Crash(CrashPoint),
    /// `kill -9` of a service.
    Kill(Role),
    /// SIGTERM to a service, which is started again.
    Terminate(Role),
    /// A service is frozen (SIGSTOP) past its lease, and woken.
    Freeze(Role),
    /// The wall clock of all processes of a service is wrong by so many seconds, for the whole run.
    Clock(Role, i8),
    /// `kill -9` of a server, which is started again.
    KillServer(Server),
    /// A server is frozen and woken.
    FreezeServer(Server),
    /// nats-server is stopped, its data deleted, and it is started again.
    LoseNats,
    /// The network of a service fails.
    Net(Link, Trouble),
    /// Unwanted hints are published.
    Hints(Hints),
    /// An HTTP remote misbehaves.
    Remote(Mood),
    /// A source is changed while it is read.
    Source(Meddling),
    /// A finalise request expects another hash.
    WrongExpectation,
    /// Every finalise request comes before the file is stored, and every request twice.
    Hasty,
    /// The disk of the directory remote is full.
    DiskFull,
}

/// A place in the code where a process dies, and which processes have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    /// Its name.
    pub name: &'static str,
    /// The service that reaches it; `None`: any.
    pub role: Option<Role>,
    /// How many times at most a process passes it before it dies there.
    pub passes: u8,
}

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// nats-server.
    Nats,
    /// mongod.
    Mongo,
}

/// A connection between two parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// A service and NATS.
    Nats(Role),
    /// A service and MongoDB.
    Mongo(Role),
    /// The finalisers and the HTTP remotes.
    Remote,
}

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Closes all connections, three times.
    Cut,
    /// Refuses connections.
    Refuse,
    /// Holds all bytes.
    Freeze,
    /// Delays bytes.
    Delay,
    /// Limits the throughput.
    Throttle,
    /// Passes some bytes of each connection, then cuts it.
    Truncate,
    /// Flips a byte of a payload.
    Flip,
}

/// Hints that nobody should have published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hints {
    /// Every hint again and again, in any order, for both steps.
    Repeated,
    /// Messages that are not hints.
    Unreadable,
}

/// How a remote misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Answers 500.
    Fails,
    /// Answers 503 with `Retry-After`.
    Later,
    /// Cuts the connection half-way.
    Cuts,
    /// Reads a part and goes silent.
    Hangs,
    /// Accepts the file, and answers after the client has given up.
    Late,
    /// Accepts the file, never answers, and answers 412 to the next attempt.
    Unseen,
    /// Answers 401 before it reads the body, to one file.
    Unauthorised,
}

/// What is done to a source while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    /// Written to, three times.
    Changed,
    /// Cut short.
    Truncated,
    /// Removed.
    Removed,
    /// Another file is moved to its place.
    Replaced,
}

/// All crash points.
pub const CRASH_POINTS: [CrashPoint; 25] = {
    const fn at(name: &'static str, role: Role, passes: u8) -> CrashPoint {
        CrashPoint { name, role: Some(role), passes }
    }
    const fn anywhere(name: &'static str, passes: u8) -> CrashPoint {
        CrashPoint { name, role: None, passes }
    }
    use Role::{Chunker, Finaliser, Gateway, Store};
    [
        at("gateway-before-record", Gateway, 3),
        at("gateway-after-record", Gateway, 3),
        at("gateway-after-expect", Gateway, 3),
        at("chunker-after-claim", Chunker, 2),
        at("chunker-before-chunk", Chunker, 12),
        at("chunker-after-chunk", Chunker, 12),
        at("chunker-before-stored", Chunker, 2),
        at("chunker-after-stored", Chunker, 2),
        at("store-before-write", Store, 6),
        at("store-after-write", Store, 6),
        at("finaliser-after-claim", Finaliser, 2),
        at("finaliser-before-look", Finaliser, 2),
        at("finaliser-before-send", Finaliser, 2),
        at("finaliser-after-send", Finaliser, 2),
        at("finaliser-after-delivered", Finaliser, 2),
        at("aside-before-sync", Finaliser, 1),
        at("aside-before-rename", Finaliser, 1),
        at("aside-after-rename", Finaliser, 1),
        at("hint-before-publish", Gateway, 3),
        at("event-before-publish", Finaliser, 3),
        at("event-before-pop", Chunker, 3),
        anywhere("sweep-after-push", 0),
        anywhere("content-after-mark", 1),
        anywhere("content-half-removed", 0),
        at("retry-after-commit", Finaliser, 1),
    ]
};

impl Fault {
    /// All faults that this machine allows, in a fixed order.
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Self> = CRASH_POINTS.into_iter().map(Self::Crash).collect();
        for role in Role::ALL {
            all.extend([Self::Kill(role), Self::Terminate(role), Self::Freeze(role)]);
            all.extend([Self::Clock(role, 60), Self::Clock(role, -60)]);
            for link in [Link::Nats(role), Link::Mongo(role)] {
                all.extend(Trouble::on(link).map(|trouble| Self::Net(link, trouble)));
            }
        }
        all.extend(Trouble::on(Link::Remote).map(|trouble| Self::Net(Link::Remote, trouble)));
        for server in [Server::Nats, Server::Mongo] {
            all.extend([Self::KillServer(server), Self::FreezeServer(server)]);
        }
        all.extend([Self::LoseNats, Self::Hints(Hints::Repeated), Self::Hints(Hints::Unreadable)]);
        all.extend(Mood::ALL.map(Self::Remote));
        all.extend([Meddling::Changed, Meddling::Truncated, Meddling::Removed, Meddling::Replaced].map(Self::Source));
        all.extend([Self::WrongExpectation, Self::Hasty, Self::DiskFull]);
        all
    }

    /// The problems with which a file may fail because of it. Every other file must survive.
    pub fn excuses(self) -> &'static [&'static str] {
        match self {
            // The byte is wrong in MongoDB: the proof finds it before anything is delivered.
            Self::Net(Link::Mongo(Role::Store), Trouble::Flip) => &["content-wrong"],
            // The remote notices it by `Repr-Digest` and answers 400, which is final.
            Self::Net(Link::Remote, Trouble::Flip) | Self::Remote(Mood::Unauthorised) => &["remote-refused"],
            Self::Source(_) => &["source-changed", "source-missing", "source-unreadable"],
            _ => &[],
        }
    }

    /// Whether it affects only one file, which the plan chooses.
    pub fn is_of_one_file(self) -> bool {
        matches!(self, Self::Source(_) | Self::WrongExpectation | Self::Remote(Mood::Unauthorised))
    }
}

impl Trouble {
    /// What can happen on a link. A byte is flipped only where its hash travels with it: see docs/reliability.md.
    fn on(link: Link) -> impl Iterator<Item = Self> {
        let flips = matches!(link, Link::Remote | Link::Nats(Role::Chunker | Role::Store) | Link::Mongo(Role::Store));
        let all = [Self::Cut, Self::Refuse, Self::Freeze, Self::Delay, Self::Throttle, Self::Truncate, Self::Flip];
        all.into_iter().filter(move |trouble| flips || *trouble != Self::Flip)
    }

    /// The fault of the proxy; `None`: it cuts all connections.
    pub fn of(self, link: Link) -> Option<NetFault> {
        Some(match self {
            Self::Cut => return None,
            Self::Refuse => NetFault::Refuse,
            Self::Freeze => NetFault::Freeze,
            Self::Delay => NetFault::Delay(Duration::from_millis(60)),
            Self::Throttle => NetFault::Throttle(256 * 1024),
            Self::Truncate => NetFault::Truncate(100_000),
            Self::Flip => NetFault::Flip(match link {
                // The store gets chunks from NATS.
                Link::Nats(Role::Store) => Way::Back,
                _ => Way::There,
            }),
        })
    }
}

impl Mood {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Fails, Self::Later, Self::Cuts, Self::Hangs, Self::Late, Self::Unseen, Self::Unauthorised];

    /// The behaviour of the sink.
    pub const fn behaviour(self) -> Behaviour {
        match self {
            Self::Fails => Behaviour::Answer(500),
            Self::Later => Behaviour::Later(503, 1),
            Self::Cuts => Behaviour::HangUpAfter(20_000),
            Self::Hangs => Behaviour::StallAfter(20_000),
            Self::Late => Behaviour::TakeSlowly(Duration::from_millis(2_500)),
            Self::Unseen => Behaviour::TakeUnseen,
            Self::Unauthorised => Behaviour::Answer(401),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nats(role) => write!(f, "{role} and NATS"),
            Self::Mongo(role) => write!(f, "{role} and MongoDB"),
            Self::Remote => f.write_str("finaliser and remote"),
        }
    }
}

impl fmt::Display for Fault {
    /// As in the table of docs/reliability.md.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lower = |word: &dyn fmt::Debug| format!("{word:?}").to_lowercase();
        match self {
            Self::Crash(point) => write!(f, "crash at {}", point.name),
            Self::Kill(role) => write!(f, "kill -9 of a {role}"),
            Self::Terminate(role) => write!(f, "SIGTERM to a {role}"),
            Self::Freeze(role) => write!(f, "SIGSTOP of a {role} past its lease"),
            Self::Clock(role, seconds) => write!(f, "clock of the {role} wrong by {seconds:+} s"),
            Self::KillServer(Server::Nats) => f.write_str("kill -9 of nats-server"),
            Self::KillServer(Server::Mongo) => f.write_str("kill -9 of mongod"),
            Self::FreezeServer(Server::Nats) => f.write_str("SIGSTOP of nats-server"),
            Self::FreezeServer(Server::Mongo) => f.write_str("SIGSTOP of mongod"),
            Self::LoseNats => f.write_str("NATS' data deleted"),
            Self::Net(link, trouble) => write!(f, "network between {link}: {}", lower(trouble)),
            Self::Hints(hints) => write!(f, "hints {}", lower(hints)),
            Self::Remote(mood) => write!(f, "remote: {}", lower(mood)),
            Self::Source(meddling) => write!(f, "source {} while it is read", lower(meddling)),
            Self::WrongExpectation => f.write_str("finalise request with a wrong hash"),
            Self::Hasty => f.write_str("requests before the file is stored, and twice"),
            Self::DiskFull => f.write_str("disk of the remote full"),
        }
    }
}
