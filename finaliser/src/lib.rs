//! Proves that stored files are whole and streams them to a remote.
//!
//! `handler` says what is done with one hint: `plan` judges the record, `deliver` compares and sends, `prove` reads the
//! chunks in order and hashes the whole file, `receipt` writes down what was done. `remote` has a folder per kind of
//! remote. `concurrency` limits the deliveries to one remote, and `garbage` removes what deliveries have left there.

mod concurrency;
mod deliver;
mod garbage;
mod handler;
mod plan;
mod prove;
mod receipt;
pub mod remote;
mod sabotage;

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{SigningKey, Step};
use runtime::{Service, StartError, status};
use settings::RemoteSettings;
use tokio::sync::Semaphore;

use crate::concurrency::{ConcurrencyLimit, Slots};
use crate::remote::Remote;

/// What all deliveries of a finaliser share.
#[derive(Debug)]
pub(crate) struct Finaliser {
    pub(crate) service: Service,
    /// The configured remotes by name.
    pub(crate) remotes: BTreeMap<String, Destination>,
    /// A permit for each large file that may be read ahead further.
    pub(crate) wide: Arc<Semaphore>,
    /// The key that signs receipts, if one is configured.
    pub(crate) signing_key: Option<SigningKey>,
}

/// A configured remote.
#[derive(Debug)]
pub(crate) struct Destination {
    pub(crate) settings: RemoteSettings,
    pub(crate) remote: Box<dyn Remote>,
    pub(crate) limit: ConcurrencyLimit,
}

/// Starts the finaliser's tasks, for up to `concurrency` files at once, or as many as the settings say.
pub async fn run(service: Service, concurrency: Option<usize>) -> Result<(), StartError> {
    let concurrency = concurrency.unwrap_or(service.settings.finaliser.concurrency);
    let slots = Slots::new(concurrency, service.settings.remotes.len());
    let most = service.settings.finaliser.per_remote;
    let open = |(name, settings): (&String, &RemoteSettings)| match remote::open(settings) {
        Ok(remote) => {
            let limit = ConcurrencyLimit::new(Arc::clone(&slots), most);
            Ok((name.clone(), Destination { settings: settings.clone(), remote, limit }))
        }
        Err(error) => Err(StartError::Own(format!("the remote {name} cannot be used: {error}"))),
    };
    let remotes = service.settings.remotes.iter().map(open).collect::<Result<_, _>>()?;
    let signing_key = service.settings.receipts.signing_key()?;
    match &signing_key {
        Some(key) => tracing::info!(key_id = key.public().id(), "receipts are signed"),
        None => tracing::info!("receipts are not signed: no receipts.signing_key is set"),
    }
    status::register(&service).await?;
    let wide = Arc::new(Semaphore::new(prove::WIDE));
    let finaliser = Arc::new(Finaliser { service: service.clone(), remotes, wide, signing_key });
    service.life.spawn("garbage collection at remotes", garbage::run(finaliser.clone()));
    let handle = move |job| handler::handle(finaliser.clone(), job);
    service.life.spawn("hints to finalise", service.hints(Step::Finalise, concurrency).consume(handle));
    Ok(())
}
