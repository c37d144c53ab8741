//! What every service has at hand, and the recipe by which each runs.

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use contract::{Cause, Names, Role};
use ledger::{Ledger, LedgerError, LedgerOptions};

use crate::args::ServiceArgs;
use crate::nats::{Nats, NatsError, Use};
use crate::settings::{Settings, SettingsError};
use crate::status::Counters;
use crate::{Announcer, Lifecycle, health, retry, status, sweep, telemetry};

/// How long to wait before MongoDB is tried again at the start, at most.
const CONNECT_RETRY: Duration = Duration::from_secs(3);

/// A service that runs: its settings, its connections, its life. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Service {
    /// Which of the four.
    pub role: Role,
    /// The name of this instance, unlike any other.
    pub worker: String,
    /// The settings.
    pub settings: Arc<Settings>,
    /// The names on NATS.
    pub names: Names,
    /// The truth.
    pub ledger: Ledger,
    /// The control connection.
    pub nats: Nats,
    /// Announces hints and events.
    pub announcer: Announcer,
    /// When to stop.
    pub life: Lifecycle,
    /// How much was done.
    pub counters: Counters,
}

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

impl Service {
    /// Connects to MongoDB (trying until it answers) and NATS (which may come later), and begins to sweep.
    pub async fn start(role: Role, settings: Arc<Settings>, life: Lifecycle) -> Result<Self, StartError> {
        let names = Names::new(&settings.nats.prefix)
            .map_err(|e| SettingsError::Value { key: "nats.prefix".into(), why: e.to_string() })?;
        let worker = format!("{role}-{:08x}", rand::random::<u32>());
        let ledger = connect_ledger(&settings, &worker, &life).await?;
        let nats = Nats::open(&settings.nats, &names, &worker, Use::Control, &life).await?;
        let cause = if role == Role::Gateway { Cause::Request } else { Cause::Progress };
        let announcer = Announcer::start(&life, nats.clone(), ledger.clone(), cause);
        let counters = Counters::default();
        let service = Self { role, worker, settings, names, ledger, nats, announcer, life, counters };
        service.life.spawn("sweep", sweep::run(service.clone()));
        if let Some(address) = service.settings.health.listen.filter(|_| role != Role::Gateway) {
            let listener = tokio::net::TcpListener::bind(address).await;
            let listener = listener.map_err(|source| StartError::Health { address, source })?;
            service.life.spawn("health checks", health::serve(service.clone(), listener));
        }
        Ok(service)
    }

    /// Registers in the NATS services API on the control connection, for services without endpoints of their own.
    pub async fn register(&self) -> Result<(), NatsError> {
        let micro = status::register(self, self.nats.client()).await?;
        let life = self.life.clone();
        self.life.spawn("services API", async move {
            life.stopping().await;
            drop(micro);
        });
        Ok(())
    }

    /// What keeps this service from working; nothing if it is ready.
    pub async fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.life.is_stopping() {
            problems.push("stopping".to_owned());
        }
        problems.extend(self.nats.problem(self.settings.files.chunk_size));
        if let Err(error) = self.ledger.ping().await {
            // The cause names hosts, and whoever asks needs no token.
            tracing::debug!("MongoDB is not ready: {error}");
            problems.push("MongoDB does not answer, or takes no writes".to_owned());
        }
        problems
    }

    /// Until nothing keeps this service from working.
    pub async fn wait_until_ready(&self) {
        let mut connects = self.nats.connects();
        while !self.problems().await.is_empty() {
            tokio::select! {
                _ = connects.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    /// Until NATS is connected and takes payloads as large as our chunks. Says every few seconds why it does not.
    pub async fn wait_until_payloads_fit(&self) {
        let mut connects = self.nats.connects();
        while let Some(problem) = self.nats.problem(self.settings.files.chunk_size) {
            tracing::warn!("not ready: {problem}");
            tokio::select! {
                _ = connects.changed() => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => {}
            }
        }
    }
}

/// How to reach MongoDB, as the settings say; `app_name` is what shows in its log.
pub fn ledger_options(settings: &Settings, app_name: &str) -> Result<LedgerOptions, SettingsError> {
    let mongodb = &settings.mongodb;
    Ok(LedgerOptions {
        uri: mongodb.uri()?.expose().to_owned(),
        database: mongodb.database.clone(),
        app_name: app_name.to_owned(),
        pool_size: mongodb.pool_size,
        operation_timeout: Duration::from_millis(mongodb.operation_timeout_ms),
        server_selection_timeout: Duration::from_millis(mongodb.server_selection_timeout_ms),
        block_compressor: mongodb.block_compressor,
        hint_push: settings.work.lease(),
        retention: settings.retention.spans(),
    })
}

async fn connect_ledger(settings: &Settings, worker: &str, life: &Lifecycle) -> Result<Ledger, StartError> {
    let options = ledger_options(settings, worker)?;
    loop {
        let error = match Ledger::connect(&options).await {
            Ok(ledger) => return Ok(ledger),
            Err(error) => error,
        };
        tracing::warn!("MongoDB is not ready; trying again: {error}");
        tokio::select! {
            () = tokio::time::sleep(CONNECT_RETRY.mul_f64(0.2 + 0.8 * retry::jitter())) => {}
            () = life.stopping() => return Err(StartError::Stopped),
        }
    }
}

/// The recipe of a service's `main`: settings, telemetry, connect, run, shut down.
pub async fn main<F, Fut>(role: Role, args: ServiceArgs, run: F) -> ExitCode
where
    F: FnOnce(Service) -> Fut,
    Fut: Future<Output = Result<(), StartError>> + Send + 'static,
{
    // Does something only in the build of the tests: the crash points that the environment names.
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
    let started = async {
        let service = Service::start(role, settings, life.clone()).await?;
        run(service).await
    };
    match started.await {
        Ok(()) => {}
        Err(StartError::Stopped) => return ExitCode::SUCCESS,
        Err(error) => return refuse(role, &error),
    }
    match life.ended().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{role} ended: {error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(role: Role, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{role}: {error}");
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
            eprintln!("{role}: not ready: {answer}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{role}: no answer from {address}: {error}");
            ExitCode::FAILURE
        }
    }
}
