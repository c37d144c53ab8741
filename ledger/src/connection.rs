//! How the driver connects: what the connection string says, except where the promises depend on it.

use std::time::Duration;

use mongodb::options::{Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};

use crate::LedgerOptions;

/// Where MongoDB gives an operation up, as a share of the time that its caller waits for it: an operation that nobody
/// waits for any more must not go on in MongoDB, where it holds a connection.
const SERVER_SHARE: f64 = 0.75;

/// How long MongoDB may work on one operation, or wait for a majority to have it.
pub(crate) fn server_limit(operation_timeout: Duration) -> Duration {
    operation_timeout.mul_f64(SERVER_SHARE)
}

/// Completes what the connection string says. Reads go to the primary and writes to a majority's journal, whatever it
/// says: a secondary lags, and a sound file would look as if chunks were missing. Options that have no effect are
/// logged.
pub(crate) fn complete(client: &mut ClientOptions, options: &LedgerOptions) {
    let ignored = ignored(client);
    if !ignored.is_empty() {
        tracing::warn!("the connection string of MongoDB has options without effect: {}", ignored.join("; "));
    }
    client.app_name = Some(options.app_name.clone());
    client.max_pool_size = Some(options.pool_size);
    client.server_selection_timeout = Some(options.server_selection_timeout);
    client.connect_timeout = Some(options.server_selection_timeout);
    client.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    client.read_concern = Some(ReadConcern::local());
    client.write_concern = Some(majority(options.operation_timeout));
}

/// A majority's journal, or an error within the [`server_limit`]. After such an error the write may still take effect.
fn majority(operation_timeout: Duration) -> WriteConcern {
    let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true);
    durable.w_timeout(server_limit(operation_timeout)).build()
}

/// What the connection string asks for and does not get, with what there is instead.
fn ignored(parsed: &ClientOptions) -> Vec<&'static str> {
    let reads_elsewhere = parsed
        .selection_criteria
        .as_ref()
        .is_some_and(|criteria| !matches!(criteria, SelectionCriteria::ReadPreference(ReadPreference::Primary)));
    [
        (reads_elsewhere, "readPreference (Waybill reads from the primary)"),
        (parsed.read_concern.is_some(), "readConcernLevel (Waybill chooses it for each read)"),
        (parsed.write_concern.is_some(), "w, journal or wtimeoutMS (a majority's journal acknowledges every write)"),
    ]
    .into_iter()
    .filter_map(|(is_set, what)| is_set.then_some(what))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ignored_of(query: &str) -> Vec<&'static str> {
        ignored(&ClientOptions::parse(format!("mongodb://127.0.0.1:1/?{query}")).await.unwrap())
    }

    #[tokio::test]
    async fn reads_go_to_the_primary_and_writes_to_a_majority_whatever_the_connection_string_says() {
        let weak =
            "readPreference=secondaryPreferred&maxStalenessSeconds=120&readConcernLevel=available&w=1&journal=false";
        let options = LedgerOptions {
            uri: format!("mongodb://127.0.0.1:1/?replicaSet=rs0&{weak}"),
            database: "nowhere".into(),
            app_name: "ledger-test".into(),
            pool_size: 1,
            operation_timeout: Duration::from_secs(8),
            server_selection_timeout: Duration::from_secs(1),
            block_compressor: settings::BlockCompressor::None,
            hint_push: Duration::ZERO,
            settle: Duration::ZERO,
            retention: crate::RetentionPeriods {
                record: None,
                stored: Duration::ZERO,
                delivered: Duration::ZERO,
                failed: Duration::ZERO,
                cancelled: Duration::ZERO,
            },
        };
        let mut client = ClientOptions::parse(&options.uri).await.unwrap();
        complete(&mut client, &options);
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        assert_eq!(client.selection_criteria, Some(primary));
        assert_eq!(client.read_concern, Some(ReadConcern::local()));
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true);
        assert_eq!(client.write_concern, Some(durable.w_timeout(Duration::from_secs(6)).build()));
    }

    #[tokio::test]
    async fn options_without_effect_are_named() {
        for sound in ["directConnection=true", "replicaSet=rs0&readPreference=primary", "retryWrites=false"] {
            assert!(ignored_of(sound).await.is_empty(), "{sound}");
        }
        let all = ignored_of("readPreference=secondaryPreferred&readConcernLevel=available&w=1&journal=false").await;
        assert_eq!(all.len(), 3, "{all:?}");
        for write in ["w=0", "journal=false", "wtimeoutMS=1"] {
            assert_eq!(ignored_of(write).await.len(), 1, "{write}");
        }
    }
}
