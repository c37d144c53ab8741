//! Makes the streams and consumers that are missing, and mends those that differ.

use std::time::Duration;

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, ErrorCode};
use contract::{ConsumerSpec, Step, StreamSpec};
use ledger::Ledger;

use crate::stream_config::{consumer_config, mended, same_stream, stream_config};
use crate::{BusError, Nats, NatsError};

/// Makes the streams that are missing. If the stream of hints was among them, every file in work becomes due.
pub async fn make_streams(nats: &Nats, ledger: &Ledger) -> Result<(), BusError> {
    // Making every file due needs MongoDB, and must follow if the stream of hints is made now: a second try would find
    // the stream and make nothing due.
    ledger.ping().await?;
    if ensure(nats).await? {
        // All hints are gone, so every file in work needs a new one.
        let due = ledger.make_all_due().await?;
        if due > 0 {
            tracing::warn!(
                files = due,
                "the stream of hints was missing and was created again; all files in work are due now"
            );
        }
    }
    Ok(())
}

/// Makes all streams that are missing and mends those that differ. `true`: the stream of hints was made, so it is
/// empty.
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
            // If another service makes the stream at the same moment, that one is used.
            nats.jetstream().get_or_create_stream(wanted).await.map_err(|e| failed(e.to_string()))?;
            tracing::info!(stream = spec.name, "made the stream");
            Ok(true)
        }
    }
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(answer) if answer.error_code() == ErrorCode::STREAM_NOT_FOUND)
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

/// The stream of this name; `None` if there is none.
pub(crate) async fn find_stream(nats: &Nats, name: &str) -> Result<Option<Stream>, NatsError> {
    match nats.jetstream().get_stream(name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(NatsError::Read { what: format!("the stream {name}"), why: error.to_string() }),
    }
}
