//! How a service runs: [`main`] is the recipe of its process, [`start`] starts the tasks that every service has.

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bus::{Announcer, Counters, Nats, NatsError, Use};
use contract::{Cause, Names, Role, indented};
use ledger::{Ledger, LedgerError, LedgerOptions};
use settings::{ServiceArgs, Settings, SettingsError, telemetry};

use crate::open_files::raise_open_files_max;
use crate::{Lifecycle, Service, health, sweep};

/// The longest pause between two tries to reach MongoDB at the start.
const CONNECT_RETRY: Duration = Duration::from_secs(3);

/// Maximum characters of a line of why a service does not start or is not ready.
const LINE: usize = 4000;

/// Why a service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// NATS cannot be used.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// MongoDB cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The address for health checks is taken.
    #[error("health checks cannot be answered at {address}: {source}")]
    Health {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The process was asked to stop before it had started.
    #[error("stopped before the start was complete")]
    Stopped,
    /// What only this service needs is missing or wrong.
    #[error("{0}")]
    Own(String),
}

/// Opens the connections to MongoDB and NATS, which may both come later, and starts the tasks that every service has:
/// announcements, the sweep and, except in the gateway, health checks.
pub async fn start(role: Role, settings: Arc<Settings>, life: Lifecycle) -> Result<Service, StartError> {
    raise_open_files_max();
    let names = Names::new(&settings.nats.prefix)
        .map_err(|e| SettingsError::Value { key: "nats.prefix".into(), why: e.to_string() })?;
    let worker = format!("{role}-{:08x}", rand::random::<u32>());
    let ledger = open_ledger(&settings, &worker, &life).await?;
    let nats = Nats::open(&settings.nats, &names, &worker, Use::Control, life.stopping_token()).await?;

    let cause = if role == Role::Gateway { Cause::Request } else { Cause::Progress };
    let announcer = Announcer::start(nats.clone(), ledger.clone(), cause);
    let (last, stopping) = (announcer.clone(), life.clone());
    life.spawn("announcements", async move {
        stopping.stopping().await;
        tokio::select! {
            () = last.drain() => {}
            () = stopping.handing_back() => {}
        }
    });

    let counters = Counters::default();
    let service = Service { role, worker, settings, names, ledger, nats, announcer, life, counters };
    service.life.spawn("sweep", sweep::run(service.clone()));

    // The gateway answers health checks at its own address.
    if let Some(address) = service.settings.health.listen.filter(|_| role != Role::Gateway) {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.map_err(|source| StartError::Health { address, source })?;
        service.life.spawn("health checks", health::serve(service.clone(), listener));
    }
    Ok(service)
}

/// Opens the ledger. Tries again while the name in `mongodb+srv://` is not resolved; settings that are wrong stay so.
async fn open_ledger(settings: &Settings, worker: &str, life: &Lifecycle) -> Result<Ledger, StartError> {
    let options = LedgerOptions::from_settings(settings, worker)?;
    loop {
        let error = match Ledger::open(&options).await {
            Ok(ledger) => return Ok(ledger),
            Err(error @ LedgerError::Settings(_)) => return Err(error.into()),
            Err(error) => error,
        };
        if !waited_for_mongodb(&error, life).await {
            return Err(StartError::Stopped);
        }
    }
}

/// Says why MongoDB is not ready, and waits for the next try. `false`: the process stops.
pub(crate) async fn waited_for_mongodb(error: &LedgerError, life: &Lifecycle) -> bool {
    tracing::warn!("MongoDB is not ready; trying again: {error}");
    tokio::select! {
        () = tokio::time::sleep(CONNECT_RETRY.mul_f64(0.2 + 0.8 * rand::random::<f64>())) => true,
        () = life.stopping() => false,
    }
}

/// The recipe of a service's `main`: settings, telemetry, connect, run, shut down. `run` starts the tasks that only
/// this service has.
pub async fn main<F, Fut>(role: Role, args: ServiceArgs, run: F) -> ExitCode
where
    F: FnOnce(Service) -> Fut,
    Fut: Future<Output = Result<(), StartError>> + Send + 'static,
{
    // Only in test builds: arms the crash points that the environment names.
    let _points = fail::FailScenario::setup();
    let settings = match Settings::load(args.config.as_deref()) {
        Ok(settings) => Arc::new(settings),
        Err(error) => return refuse(role, &error),
    };
    if args.probe {
        return probe(role, &settings).await;
    }
    if let Err(error) = telemetry::start(&settings.telemetry) {
        return refuse(role, &error);
    }
    let life = Lifecycle::new(settings.work.grace());
    if let Err(error) = life.stop_on_signals() {
        return refuse(role, &error);
    }
    let service = match start(role, settings, life.clone()).await {
        Ok(service) => service,
        Err(StartError::Stopped) => return ExitCode::SUCCESS,
        Err(error) => return refuse(role, &error),
    };
    let ledger = service.ledger.clone();
    if let Err(error) = run(service).await {
        life.stop();
        ledger.close().await;
        return refuse(role, &error);
    }
    let ended = life.ended().await;
    ledger.close().await;
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{role} ended: {error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(role: Role, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{role}: {}", indented(&error.to_string(), LINE));
    ExitCode::FAILURE
}

async fn probe(role: Role, settings: &Settings) -> ExitCode {
    let address = match role {
        Role::Gateway => Some(settings.gateway.listen),
        _ => settings.health.listen,
    };
    let Some(address) = address else {
        eprintln!("{role}: health.listen is not set, so there is nobody to ask");
        return ExitCode::FAILURE;
    };
    match health::probe(address).await {
        Ok((true, _)) => ExitCode::SUCCESS,
        Ok((false, answer)) => {
            eprintln!("{role}: not ready: {}", indented(&answer, LINE));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{role}: no answer from {address}: {error}");
            ExitCode::FAILURE
        }
    }
}
