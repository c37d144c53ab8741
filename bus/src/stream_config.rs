//! How the streams and consumers of this release are configured, and how those of a server differ.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, pull};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use contract::{ConsumerSpec, StreamRetention, StreamSpec};

/// For how long JetStream recognises the id of an event that it already has.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// A setting that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting, as the `nats` tool's JSON has it.
    pub setting: &'static str,
    /// What this release sets.
    pub expected: String,
    /// What the server has.
    pub found: String,
}

/// Collects the settings that differ.
#[derive(Debug, Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn compare<T: PartialEq + fmt::Debug>(&mut self, setting: &'static str, found: &T, wanted: &T) {
        if found != wanted {
            self.0.push(Difference { setting, expected: format!("{wanted:?}"), found: format!("{found:?}") });
        }
    }
}

pub(crate) fn stream_config(spec: &StreamSpec) -> Config {
    let work = spec.retention == StreamRetention::WorkQueue;
    Config {
        name: spec.name.clone(),
        description: Some(spec.description.to_owned()),
        subjects: spec.subjects.clone(),
        retention: if work { RetentionPolicy::WorkQueue } else { RetentionPolicy::Limits },
        discard: if work { DiscardPolicy::New } else { DiscardPolicy::Old },
        max_messages_per_subject: if work { 1 } else { -1 },
        discard_new_per_subject: work,
        max_messages: spec.max_messages,
        max_message_size: spec.max_message_size,
        max_age: spec.max_age.unwrap_or_default(),
        duplicate_window: DUPLICATE_WINDOW,
        storage: StorageType::File,
        num_replicas: 1,
        max_bytes: -1,
        max_consumers: -1,
        ..Config::default()
    }
}

/// The server's configuration, changed to what this release sets. The number of replicas and the storage stay as the
/// operator chose them.
pub(crate) fn mended(found: Config, wanted: Config) -> Config {
    Config {
        description: wanted.description,
        subjects: wanted.subjects,
        retention: wanted.retention,
        discard: wanted.discard,
        max_messages_per_subject: wanted.max_messages_per_subject,
        discard_new_per_subject: wanted.discard_new_per_subject,
        max_messages: wanted.max_messages,
        max_message_size: wanted.max_message_size,
        max_age: wanted.max_age,
        ..found
    }
}

/// Whether the stream has what this release sets.
pub(crate) fn same_stream(found: &Config, wanted: &Config) -> bool {
    stream_differences(found, wanted).is_empty()
}

/// The settings of this release that the stream does not have.
pub(crate) fn stream_differences(found: &Config, wanted: &Config) -> Vec<Difference> {
    let mut differences = Differences::default();
    differences.compare("subjects", &found.subjects, &wanted.subjects);
    differences.compare("description", &found.description, &wanted.description);
    differences.compare("retention", &found.retention, &wanted.retention);
    differences.compare("discard", &found.discard, &wanted.discard);
    differences.compare("max_msgs_per_subject", &found.max_messages_per_subject, &wanted.max_messages_per_subject);
    differences.compare("discard_new_per_subject", &found.discard_new_per_subject, &wanted.discard_new_per_subject);
    differences.compare("max_msgs", &found.max_messages, &wanted.max_messages);
    differences.compare("max_msg_size", &found.max_message_size, &wanted.max_message_size);
    differences.compare("max_age", &found.max_age, &wanted.max_age);
    differences.0
}

pub(crate) fn consumer_config(spec: &ConsumerSpec) -> pull::Config {
    pull::Config {
        durable_name: Some(spec.name.to_owned()),
        description: Some(spec.description.to_owned()),
        filter_subject: spec.filter.clone(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: spec.ack_wait,
        max_ack_pending: spec.max_ack_pending,
        // MongoDB counts the attempts; with a limit here, messages would stay in the stream that no worker gets.
        max_deliver: -1,
        ..pull::Config::default()
    }
}

pub(crate) fn consumer_differences(found: &consumer::Config, wanted: &consumer::Config) -> Vec<Difference> {
    let mut differences = Differences::default();
    differences.compare("description", &found.description, &wanted.description);
    differences.compare("deliver_subject", &found.deliver_subject, &wanted.deliver_subject);
    differences.compare("filter_subject", &found.filter_subject, &wanted.filter_subject);
    differences.compare("ack_policy", &found.ack_policy, &wanted.ack_policy);
    differences.compare("ack_wait", &found.ack_wait, &wanted.ack_wait);
    differences.compare("max_ack_pending", &found.max_ack_pending, &wanted.max_ack_pending);
    differences.compare("max_deliver", &found.max_deliver, &wanted.max_deliver);
    differences.0
}
