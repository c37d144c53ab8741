//! Streams and consumers: made where they are missing, mended where they differ.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use contract::{ConsumerSpec, Retention, Step, StreamSpec};

use crate::drift::{Difference, Differences};
use crate::nats::{Nats, NatsError};

/// How long a repetition of an event's id is noticed.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Makes all streams that are missing and mends those that differ. `true`: the stream of hints was made, so no hint is in it.
pub(crate) async fn ensure(nats: &Nats) -> Result<bool, NatsError> {
    let mut work_was_made = false;
    for spec in StreamSpec::all(nats.names()) {
        let made = ensure_stream(nats, &spec).await?;
        work_was_made |= made && spec.name == nats.names().work_stream();
    }
    Ok(work_was_made)
}

async fn ensure_stream(nats: &Nats, spec: &StreamSpec) -> Result<bool, NatsError> {
    let failed = |why: String| NatsError::Make { what: format!("the stream {}", spec.name), why };
    let wanted = stream_config(spec);
    match nats.jetstream().get_stream(&spec.name).await {
        Ok(stream) if same_stream(&stream.cached_info().config, &wanted) => Ok(false),
        Ok(stream) => {
            tracing::warn!(stream = spec.name, "the stream differs from what this release needs; mending it");
            let mended = mended(stream.cached_info().config.clone(), wanted);
            nats.jetstream().update_stream(&mended).await.map_err(|e| failed(e.to_string()))?;
            Ok(false)
        }
        Err(error) if !is_missing(&error) => Err(failed(error.to_string())),
        Err(_) => {
            // Another service may make it at the same moment; that is as good.
            nats.jetstream().get_or_create_stream(wanted).await.map_err(|e| failed(e.to_string()))?;
            tracing::info!(stream = spec.name, "made the stream");
            Ok(true)
        }
    }
}

pub(crate) fn stream_config(spec: &StreamSpec) -> Config {
    let work = spec.retention == Retention::WorkQueue;
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

pub(crate) fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// The stream as it is, with what this release sets. The number of replicas and the place of storage are the operator's.
fn mended(found: Config, wanted: Config) -> Config {
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
fn same_stream(found: &Config, wanted: &Config) -> bool {
    stream_differences(found, wanted).is_empty()
}

/// What of that which this release sets is otherwise.
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

/// The consumer of `step`, made or mended as needed.
pub(crate) async fn consumer(nats: &Nats, step: Step, lease: Duration) -> Result<PullConsumer, NatsError> {
    let spec = ConsumerSpec::of(step, nats.names(), lease);
    let made = nats.jetstream().create_consumer_on_stream(consumer_config(&spec), spec.stream.as_str()).await;
    made.map_err(|e: jetstream::stream::ConsumerError| NatsError::Make {
        what: format!("the consumer {} of {}", spec.name, spec.stream),
        why: e.to_string(),
    })
}

pub(crate) fn consumer_config(spec: &ConsumerSpec) -> pull::Config {
    pull::Config {
        durable_name: Some(spec.name.to_owned()),
        description: Some(spec.description.to_owned()),
        filter_subject: spec.filter.clone(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: spec.ack_wait,
        max_ack_pending: spec.max_ack_pending,
        // Attempts are counted in MongoDB; a limit here would leave a message behind that nobody gets.
        max_deliver: -1,
        ..pull::Config::default()
    }
}
