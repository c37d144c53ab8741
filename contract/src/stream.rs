use std::time::Duration;

use crate::{Names, Step};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// When a stream removes a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRetention {
    /// As soon as its consumer has acknowledged it. The stream refuses a second message of a subject while it has one, and
    /// every message once it is full: a refused hint comes again by `due_at`.
    WorkQueue,
    /// When a limit is reached; the oldest goes first.
    Limits,
}

/// The settings of a stream, as plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: String,
    /// What `nats stream ls` shows.
    pub description: &'static str,
    /// The subjects whose messages it takes.
    pub subjects: Vec<String>,
    /// When it removes a message.
    pub retention: StreamRetention,
    /// How long it keeps a message; `None`: no limit by age.
    pub max_age: Option<Duration>,
    /// The largest message in bytes.
    pub max_message_size: i32,
    /// How many messages it holds.
    pub max_messages: i64,
}

/// The settings of a durable pull consumer, as plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// The stream it reads.
    pub stream: String,
    /// Its durable name.
    pub name: &'static str,
    /// What `nats consumer info` shows.
    pub description: &'static str,
    /// The subjects it reads of the stream.
    pub filter: String,
    /// How long a message may go without an ack or a sign of life before it is delivered again.
    pub ack_wait: Duration,
    /// How many messages may wait for an ack at once, over all workers.
    pub max_ack_pending: i64,
}

impl StreamSpec {
    /// All streams.
    pub fn all(names: &Names) -> [Self; 3] {
        [
            Self {
                name: names.work_stream(),
                description: "Hints to look at a file: prepare for the chunker, finalise for the finaliser. \
                              The truth is in MongoDB; a hint that is lost comes again.",
                subjects: vec![names.hints(Step::Prepare), names.hints(Step::Finalise)],
                retention: StreamRetention::WorkQueue,
                max_age: None,
                max_message_size: 64 * 1024,
                // One hint is under 1 KiB: at most about 1 GiB.
                max_messages: 1_000_000,
            },
            Self {
                name: names.events_stream(),
                description: "What happened to each file, in order, for other systems. Subject: prefix.event.FILE.EVENT.",
                subjects: vec![names.events()],
                retention: StreamRetention::Limits,
                max_age: Some(7 * DAY),
                max_message_size: 256 * 1024,
                max_messages: 5_000_000,
            },
            Self {
                name: names.dead_stream(),
                description: "Messages that a worker could not read, with the reason.",
                subjects: vec![names.all_dead()],
                retention: StreamRetention::Limits,
                max_age: Some(30 * DAY),
                // A work message of 64 KiB, quoted as JSON.
                max_message_size: 512 * 1024,
                max_messages: 10_000,
            },
        ]
    }
}

impl ConsumerSpec {
    /// The consumer whose workers take `step` under leases of this length.
    pub fn of(step: Step, names: &Names, lease: Duration) -> Self {
        let (name, description) = match step {
            Step::Prepare => ("chunker", "Files to read, split and store; shared by all chunkers."),
            Step::Finalise => ("finaliser", "Files to prove and deliver; shared by all finalisers."),
        };
        Self {
            stream: names.work_stream(),
            name,
            description,
            filter: names.hints(step),
            // A worker shows a sign of life every quarter of its lease. Nobody else can claim the file before the lease has
            // expired, so an earlier redelivery would be in vain; the additional third allows for clocks and the network.
            ack_wait: lease + lease / 3,
            // More than all workers' slots together, or idle workers would wait for busy ones.
            max_ack_pending: 10_000,
        }
    }
}
