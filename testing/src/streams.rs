use async_nats::jetstream;
use async_nats::jetstream::message::StreamMessage;

/// All messages of a stream, oldest first; `None` where there is no such stream.
pub async fn messages(nats: &async_nats::Client, stream: &str) -> Option<Vec<StreamMessage>> {
    let stream = jetstream::new(nats.clone()).get_stream(stream).await.ok()?;
    let state = stream.cached_info().state.clone();
    let mut messages = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        // A removed message leaves a gap.
        messages.extend(stream.get_raw_message(sequence).await.ok());
    }
    Some(messages)
}
