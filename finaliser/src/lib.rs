//! Proves stored files whole and streams them to a remote.
//!
//! `handler` says what is done with one hint; `deliver` asks the remote and sends; `prove` reads the chunks in order and hashes
//! the whole; `remote` knows the kinds of remotes; `receipt` writes down what was done; `places` bounds what runs to each remote;
//! `tidy` removes what was left there.

mod deliver;
mod handler;
mod places;
mod prove;
mod receipt;
pub mod remote;
mod sabotage;
mod tidy;

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{SigningKey, Step};
use runtime::{Service, StartError, status};
use tokio::sync::Semaphore;

use crate::places::Places;
use crate::remote::Remote;

/// What all deliveries of a finaliser share.
#[derive(Debug)]
pub(crate) struct Finaliser {
    pub(crate) service: Service,
    pub(crate) remotes: BTreeMap<String, Box<dyn Remote>>,
    pub(crate) places: Places,
    /// Places for large files that are read ahead further.
    pub(crate) wide: Arc<Semaphore>,
    /// What receipts are signed with, if anything.
    pub(crate) signing_key: Option<SigningKey>,
}

/// Starts the finaliser's tasks: up to `concurrency` files at once, or as many as the settings say.
pub async fn run(service: Service, concurrency: Option<usize>) -> Result<(), StartError> {
    let open = |(name, settings): (&String, _)| match remote::open(settings) {
        Ok(remote) => Ok((name.clone(), remote)),
        Err(error) => Err(StartError::Own(format!("the remote {name} cannot be used: {error}"))),
    };
    let remotes: BTreeMap<_, _> = service.settings.remotes.iter().map(open).collect::<Result<_, _>>()?;
    let places = Places::new(remotes.keys(), service.settings.finaliser.per_remote);
    let signing_key = service.settings.receipts.signing_key()?;
    match &signing_key {
        Some(key) => tracing::info!(key_id = key.public().id(), "receipts are signed"),
        None => tracing::info!("receipts are not signed: no receipts.signing_key is set"),
    }
    status::register(&service).await?;
    let wide = Arc::new(Semaphore::new(prove::WIDE));
    let finaliser = Arc::new(Finaliser { service: service.clone(), remotes, places, wide, signing_key });
    service.life.spawn("tidying", tidy::run(finaliser.clone()));
    let concurrency = concurrency.unwrap_or(service.settings.finaliser.concurrency);
    let handle = move |job| handler::handle(finaliser.clone(), job);
    service.life.spawn("hints to finalise", service.hints(Step::Finalise, concurrency).consume(handle));
    Ok(())
}
