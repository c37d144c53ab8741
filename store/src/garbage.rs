//! Garbage collection: removes stored content that no longer counts.

use contract::FileId;
use ledger::{Layout, LedgerError};
use runtime::Service;

/// Files checked between two pauses: two small reads each, so that the load is negligible. A million files take two
/// days.
const BATCH: usize = 16;

/// How far garbage collection has come in each collection. Every store starts from the beginning; two that meet do no harm.
#[derive(Debug, Default)]
struct Collector {
    chunks: Option<FileId>,
    contents: Option<FileId>,
}

/// Collects garbage until the process stops, with pauses as long as a sweep's.
pub(crate) async fn collect(service: Service) {
    let mut collector = Collector::default();
    loop {
        let pause = service.settings.work.sweep().mul_f64(0.5 + rand::random::<f64>());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.life.stopping() => return,
        }
        let collected = tokio::select! {
            collected = collector.collect_batch(&service) => collected,
            () = service.life.stopping() => return,
        };
        if let Err(error) = collected {
            tracing::debug!("garbage collection broke off and continues later: {error}");
        }
    }
}

impl Collector {
    async fn collect_batch(&mut self, service: &Service) -> Result<(), LedgerError> {
        for (layout, last) in [(Layout::Children, &mut self.chunks), (Layout::Embedded, &mut self.contents)] {
            for _ in 0..BATCH {
                let checked = service.ledger.collect_garbage(layout, *last).await?;
                *last = checked.map(|checked| checked.file);
                match checked {
                    // From the beginning again, after the pause.
                    None => break,
                    Some(checked) if checked.removed => {
                        tracing::info!(file = %checked.file, "removed content that no longer counts");
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}
