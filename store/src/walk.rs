//! Walks over what is stored, and removes what no longer counts.

use contract::FileId;
use ledger::{Layout, LedgerError};
use runtime::Service;

/// Files looked at between two pauses: two small reads each, so that a walk is never felt. A million files take two days.
const STEPS: usize = 16;

/// Where a walk is. Each store has its own, from the beginning; meeting another does no harm.
#[derive(Debug, Default)]
struct Walk {
    chunks: Option<FileId>,
    contents: Option<FileId>,
}

/// Walks, with pauses as long as a sweep's, until the process stops.
pub(crate) async fn run(service: Service) {
    let mut walk = Walk::default();
    loop {
        let pause = service.settings.work.sweep().mul_f64(0.5 + rand::random::<f64>());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.life.stopping() => return,
        }
        let walked = tokio::select! {
            walked = walk.go_on(&service) => walked,
            () = service.life.stopping() => return,
        };
        if let Err(error) = walked {
            tracing::debug!("the walk over stored content broke off; it goes on later: {error}");
        }
    }
}

impl Walk {
    async fn go_on(&mut self, service: &Service) -> Result<(), LedgerError> {
        for (layout, at) in [(Layout::Children, &mut self.chunks), (Layout::Embedded, &mut self.contents)] {
            for _ in 0..STEPS {
                let walked = service.ledger.collect_garbage(layout, *at).await?;
                *at = walked.map(|walked| walked.file);
                match walked {
                    // From the beginning again, after the pause.
                    None => break,
                    Some(walked) if walked.removed => {
                        tracing::info!(file = %walked.file, "removed content that no longer counts");
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}
