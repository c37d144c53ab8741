//! The gateway: takes requests over HTTP, records them in MongoDB, announces them on NATS.
//!
//! Nothing is answered before it is durable, and nothing waits for NATS: a hint that is not published now is published by
//! a sweep.

mod answer;
mod auth;
mod body;
mod files;
mod finalise;
mod health;
mod prepare;
mod problem;
mod query;
mod register;
mod routes;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;

use ledger::FreeSpace;
use runtime::{Service, StartError};

use auth::Auth;
pub use files::File;
use health::Readiness;
use prepare::Storage;

/// What every request needs.
#[derive(Debug)]
struct Gateway {
    service: Service,
    auth: Auth,
    storage: Storage,
    readiness: Readiness,
    space: FreeSpace,
}

impl Gateway {
    fn new(service: Service) -> Result<Self, StartError> {
        let settings = &service.settings;
        Ok(Self {
            auth: Auth::new(&settings.auth)?,
            storage: Storage::open(&settings.files.roots).map_err(StartError::Own)?,
            readiness: Readiness::default(),
            space: FreeSpace::new(&service.ledger, settings.gateway.free_space_floor),
            service,
        })
    }
}

/// Serves requests until the process is asked to stop. Returns the address it listens at as soon as it does.
///
/// # Errors
///
/// `auth.jwt_secret` is missing or shorter than 32 bytes, `files.roots` is empty or names what is no folder that can be
/// opened, or `gateway.listen` cannot be bound.
pub async fn run(service: Service) -> Result<SocketAddr, StartError> {
    let gateway = Arc::new(Gateway::new(service.clone())?);
    let (listener, address) = serve::bind(service.settings.gateway.listen).await.map_err(StartError::Own)?;
    service.life.spawn("registration", register::run(service.clone()));
    service.life.spawn("http", serve::run(gateway, listener));
    tracing::info!(%address, "listening");
    Ok(address)
}
