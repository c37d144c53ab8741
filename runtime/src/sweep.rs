//! Searches periodically for files that nobody works on, content that nobody needs and events that nobody published.
//! Every service sweeps; none of them is special.

use std::time::Duration;

use bus::{BusError, NatsError, hint_once, make_streams, publish};
use contract::Cause;
use futures_util::{StreamExt, stream};
use ledger::{DueAction, Overdue};

use crate::Service;
use crate::run::waited_for_mongodb;

/// The most files that one sweep takes up, so that a backlog does not become a flood.
const AT_MOST: u16 = 256;

/// The most old records that one sweep deletes: four short operations each, one after the other.
const DELETED_AT_MOST: u16 = 64;

/// The most hints, and then the most outboxes, that one sweep publishes at once.
const AT_ONCE: usize = 16;

/// Sweeps from the moment that MongoDB answers until the process stops.
pub(crate) async fn run(service: Service) {
    loop {
        let answered = tokio::select! {
            answered = service.ledger.ping() => answered,
            () = service.life.stopping() => return,
        };
        match answered {
            Ok(()) => break,
            Err(error) if waited_for_mongodb(&error, &service.life).await => {}
            Err(_) => return,
        }
    }
    let interval = service.settings.work.sweep();
    let mut streams_are_there = false;
    loop {
        let swept = async {
            if !streams_are_there {
                make_streams(&service.nats, &service.ledger).await?;
                streams_are_there = true;
            }
            sweep(&service).await
        };
        let swept = tokio::select! {
            swept = swept => swept,
            () = service.life.stopping() => return,
        };
        match swept {
            Ok(()) => {}
            Err(BusError::Nats(NatsError::NoStream { .. })) => streams_are_there = false,
            Err(error) => tracing::warn!("a sweep broke off; the next one goes on: {error}"),
        }
        // From half the interval to one and a half intervals, so that the services do not sweep in step.
        let pause =
            if streams_are_there { interval.mul_f64(0.5 + rand::random::<f64>()) } else { Duration::from_millis(200) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.life.stopping() => return,
        }
    }
}

async fn sweep(service: &Service) -> Result<(), BusError> {
    let overdue = service.ledger.overdue(AT_MOST).await?;
    let hinted: Vec<Result<(), BusError>> = stream::iter(overdue)
        .map(|overdue| async move {
            match run_errand(service, &overdue).await {
                // It must not keep the sweep from others.
                Err(BusError::Ledger(error)) if error.is_corrupt_data() => {
                    tracing::error!(file = %overdue.file, "nothing can be done for a file: {error}");
                    Ok(())
                }
                ended => ended,
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    hinted.into_iter().collect::<Result<(), _>>()?;
    // The announcer is not used here, because it does not report that a stream is missing.
    let stale = service.ledger.stale_outboxes(AT_MOST).await?;
    let published: Vec<Result<(), BusError>> = stream::iter(stale)
        .map(|outbox| async move { publish(&service.nats, &service.ledger, &outbox).await })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    published.into_iter().collect::<Result<(), _>>()?;
    let deleted = service.ledger.delete_old_records(DELETED_AT_MOST).await?;
    if deleted > 0 {
        tracing::info!(deleted, "deleted records whose retention is over");
    }
    Ok(())
}

/// Does what a file is due for, unless another sweep took the file up first.
async fn run_errand(service: &Service, overdue: &Overdue) -> Result<(), BusError> {
    if !service.ledger.push_due(overdue).await? {
        return Ok(());
    }
    fail::fail_point!("sweep-after-push", |_| std::process::abort());
    match overdue.action {
        DueAction::Hint(step) => hint_once(&service.nats, &service.ledger, step, overdue.file, Cause::Sweep).await,
        DueAction::EndRest => match service.ledger.end_rest(overdue.file).await? {
            Some(record) => {
                tracing::warn!(file = %overdue.file, "nobody finalised it in time; it has failed");
                publish(&service.nats, &service.ledger, &record.outbox()).await
            }
            None => Ok(()),
        },
        DueAction::RemoveContent => {
            if service.ledger.remove_content(overdue.file).await? {
                tracing::info!(file = %overdue.file, "its retention is over; its content was removed");
            }
            Ok(())
        }
    }
}
