//! How the streams and consumers that there are differ from what this release sets; for `waybill doctor`.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::consumer::{Config, IntoConsumerConfig};
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use async_nats::jetstream::stream::Stream;
use contract::{ConsumerSpec, Step, StreamSpec};

use crate::nats::{Nats, NatsError};
use crate::streams;

/// A stream or consumer that is not as this release sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Which.
    pub of: Of,
    /// How it differs; nothing where it is not there at all.
    pub differences: Vec<Difference>,
}

/// A stream or a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// The stream of this name.
    Stream(String),
    /// A consumer.
    Consumer {
        /// Its stream.
        stream: String,
        /// Its durable name.
        name: &'static str,
    },
}

/// A setting that is otherwise. Written as its name and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The setting, as the `nats` tool's JSON has it.
    pub setting: &'static str,
    /// What this release sets.
    pub expected: String,
    /// What there is.
    pub found: String,
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(name) => f.write_str(name),
            Self::Consumer { stream, name } => write!(f, "{stream}/{name}"),
        }
    }
}

/// Gathers what differs.
#[derive(Debug, Default)]
pub(crate) struct Differences(pub(crate) Vec<Difference>);

impl Differences {
    pub(crate) fn compare<T: PartialEq + fmt::Debug>(&mut self, setting: &'static str, found: &T, wanted: &T) {
        if found != wanted {
            self.0.push(Difference { setting, expected: format!("{wanted:?}"), found: format!("{found:?}") });
        }
    }
}

/// Compares all streams and consumers with what this release sets, given the lease of the settings. Changes nothing.
pub async fn report(nats: &Nats, lease: Duration) -> Result<Vec<Drift>, NatsError> {
    let mut drifts = Vec::new();
    for spec in StreamSpec::all(nats.names()) {
        let of = Of::Stream(spec.name.clone());
        let stream = find_stream(nats, &spec.name).await?;
        let Some(stream) = stream else {
            drifts.push(Drift { of, differences: Vec::new() });
            continue;
        };
        let differences = streams::stream_differences(&stream.cached_info().config, &streams::stream_config(&spec));
        if !differences.is_empty() {
            drifts.push(Drift { of, differences });
        }
    }
    for step in [Step::Prepare, Step::Finalise] {
        drifts.extend(consumer_drift(nats, &ConsumerSpec::of(step, nats.names(), lease)).await?);
    }
    Ok(drifts)
}

/// Makes the streams and consumers that are missing and mends those that differ. `true`: the stream of hints was made, so that
/// everything in work must be made due.
pub async fn mend(nats: &Nats, lease: Duration) -> Result<bool, NatsError> {
    let made = streams::ensure(nats).await?;
    for step in [Step::Prepare, Step::Finalise] {
        streams::consumer(nats, step, lease).await?;
    }
    Ok(made)
}

/// The stream of this name; `None` where there is none.
pub(crate) async fn find_stream(nats: &Nats, name: &str) -> Result<Option<Stream>, NatsError> {
    match nats.jetstream().get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if streams::is_missing(&error) => Ok(None),
        Err(error) => Err(NatsError::Read { what: format!("the stream {name}"), why: error.to_string() }),
    }
}

async fn consumer_drift(nats: &Nats, spec: &ConsumerSpec) -> Result<Option<Drift>, NatsError> {
    let of = Of::Consumer { stream: spec.stream.clone(), name: spec.name };
    let missing = Drift { of: of.clone(), differences: Vec::new() };
    let Some(stream) = find_stream(nats, &spec.stream).await? else { return Ok(Some(missing)) };
    let found = match stream.consumer_info(spec.name).await {
        Ok(info) => info.config,
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => return Ok(Some(missing)),
        Err(error) => {
            return Err(NatsError::Read { what: format!("the consumer {of}"), why: error.to_string() });
        }
    };
    let differences = consumer_differences(&found, &streams::consumer_config(spec).into_consumer_config());
    Ok((!differences.is_empty()).then_some(Drift { of, differences }))
}

fn consumer_differences(found: &Config, wanted: &Config) -> Vec<Difference> {
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
