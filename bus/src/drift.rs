//! How the streams and consumers of the server differ from what this release sets; for `waybill doctor`.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::consumer::IntoConsumerConfig;
use async_nats::jetstream::context::ConsumerInfoErrorKind;
use contract::{ConsumerSpec, Step, StreamSpec};

use crate::stream_config::{Difference, consumer_config, consumer_differences, stream_config, stream_differences};
use crate::streams::{self, find_stream};
use crate::{Nats, NatsError};

/// A stream or consumer that is missing or differs from what this release sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// The stream or consumer.
    pub of: Of,
    /// How it differs; empty if it is missing.
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

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(name) => f.write_str(name),
            Self::Consumer { stream, name } => write!(f, "{stream}/{name}"),
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
        let differences = stream_differences(&stream.cached_info().config, &stream_config(&spec));
        if !differences.is_empty() {
            drifts.push(Drift { of, differences });
        }
    }
    for step in [Step::Prepare, Step::Finalise] {
        drifts.extend(consumer_drift(nats, &ConsumerSpec::of(step, nats.names(), lease)).await?);
    }
    Ok(drifts)
}

/// Makes the streams and consumers that are missing and mends those that differ. `true`: the stream of hints was made,
/// so everything in work must be made due.
pub async fn mend(nats: &Nats, lease: Duration) -> Result<bool, NatsError> {
    let made = streams::ensure(nats).await?;
    for step in [Step::Prepare, Step::Finalise] {
        streams::consumer(nats, step, lease).await?;
    }
    Ok(made)
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
    let differences = consumer_differences(&found, &consumer_config(spec).into_consumer_config());
    Ok((!differences.is_empty()).then_some(Drift { of, differences }))
}
