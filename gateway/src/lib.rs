//! The gateway: takes requests over HTTP, records them in MongoDB, announces them on NATS.
//!
//! The gateway answers a request only when its effect is durable, and it never waits for NATS: a hint that cannot be
//! published now is published by a sweep.
//!
//! `serve` accepts connections; `layers` is what a request passes on its way; `routes` lists the addresses; `auth`,
//! `upload`, `files` and `health` answer at them; `body` and `query` parse; `refusal` is every answer that is not a
//! success; `register` puts the gateway into the NATS services API; `seats` counts who takes how much.

mod auth;
mod body;
mod files;
mod health;
mod layers;
mod query;
mod refusal;
mod register;
mod routes;
mod seats;
mod serve;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;

use ledger::FreeSpace;
use runtime::{Service, StartError};

use auth::Auth;
pub use files::File;
use files::Lists;
use health::Readiness;
use layers::limit::Limits;
use upload::prepare::Storage;

/// What the handlers share.
#[derive(Debug)]
struct Gateway {
    service: Service,
    limits: Limits,
    auth: Auth,
    storage: Storage,
    lists: Lists,
    readiness: Readiness,
    space: FreeSpace,
}

impl Gateway {
    fn new(service: Service) -> Result<Self, StartError> {
        let settings = &service.settings;
        Ok(Self {
            limits: Limits::new(settings),
            auth: Auth::new(&settings.auth)?,
            storage: Storage::open(&settings.files.roots).map_err(StartError::Own)?,
            lists: Lists::default(),
            readiness: Readiness::default(),
            space: FreeSpace::new(&service.ledger, settings.gateway.free_space_floor),
            service,
        })
    }
}

/// Serves requests until the process is asked to stop. Returns as soon as it listens, with its address.
///
/// # Errors
///
/// `auth.jwt_secret` is missing or shorter than 32 bytes, `files.roots` is empty or a root cannot be opened as a
/// folder, or `gateway.listen` cannot be bound.
pub async fn run(service: Service) -> Result<SocketAddr, StartError> {
    let gateway = Arc::new(Gateway::new(service.clone())?);
    let (listener, address) = serve::bind(service.settings.gateway.listen).map_err(StartError::Own)?;
    service.life.spawn("registration", register::run(service.clone()));
    service.life.spawn("http", serve::run(gateway, listener));
    tracing::info!(%address, "listening");
    Ok(address)
}
