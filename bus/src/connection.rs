//! The connection to NATS.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::{AuthError, Client, ConnectErrorKind, ConnectOptions, Event as ConnectionEvent};
use contract::{Names, PAYLOAD_HEADROOM};
use settings::{NatsSettings, SettingsError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{NatsError, credentials};

/// How long JetStream may take to acknowledge a publish, and the server to answer a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the client pings a silent connection. With the library's default it notices a partition after minutes.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// How often a service that cannot work logs why.
const NOT_READY_PERIOD: Duration = Duration::from_secs(5);

/// How often the end of a connection is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// The most commands that wait for the socket of a control connection; they are small.
const CONTROL_CAPACITY: usize = 1024;

/// The most commands that wait for the socket of a chunk connection; each carries up to 4 MiB.
const DATA_CAPACITY: usize = 16;

/// The most messages of one subscription that wait for their reader. The store's reader never blocks, so only messages
/// that arrive between two of its turns wait.
const DATA_SUBSCRIPTION_CAPACITY: usize = 128;

/// A connection to NATS. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Nats {
    client: Client,
    jetstream: jetstream::Context,
    names: Names,
    connects: watch::Receiver<u64>,
    /// What failed last at each server.
    failures: watch::Receiver<String>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Hints, events and acknowledgements: small, so they must not queue behind payloads.
    Control,
    /// Chunks.
    Data,
}

impl Nats {
    /// Opens a connection that reconnects by itself for ever. This returns before the server is reached.
    ///
    /// Once `stopping` is cancelled, connection events are logged at debug only.
    ///
    /// # Errors
    ///
    /// What the settings name cannot be used: a URL, or a file with a password, credentials or certificates.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub async fn open(
        settings: &NatsSettings,
        names: &Names,
        worker: &str,
        usage: Use,
        stopping: &CancellationToken,
    ) -> Result<Self, NatsError> {
        // Errors are returned now: later they would only be logged, at every try to connect.
        credentials::read(settings.clone(), Vec::new()).await?;
        let (connected, connects) = watch::channel(0_u64);
        let (failing, failures) = watch::channel(String::new());
        let (stopping, identity) = (stopping.clone(), settings.clone());
        let ending = stopping.clone();
        let authenticate = move |nonce| {
            let reading = credentials::read(identity.clone(), nonce);
            async move { reading.await.map_err(AuthError::new) }
        };
        let mut options = ConnectOptions::with_auth_callback(authenticate)
            .name(format!("{worker} ({})", if usage == Use::Data { "chunks" } else { "control" }))
            .retry_on_initial_connect()
            .max_reconnects(None)
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .connection_timeout(REQUEST_TIMEOUT)
            .reconnect_delay_callback(reconnect_delay)
            .reconnect_to_server_callback(move |servers, _| {
                note_failures(&servers, &failing, ending.is_cancelled());
                // The library chooses the server.
                std::future::ready(None)
            })
            .event_callback(move |event| {
                log(&event, stopping.is_cancelled());
                if matches!(event, ConnectionEvent::Connected) {
                    connected.send_modify(|count| *count += 1);
                }
                std::future::ready(())
            });
        options = match usage {
            Use::Control => options.client_capacity(CONTROL_CAPACITY),
            Use::Data => options.client_capacity(DATA_CAPACITY).subscription_capacity(DATA_SUBSCRIPTION_CAPACITY),
        };
        if let Some(file) = &settings.ca_file {
            credentials::check_certificates(file)?;
            options = options.add_root_certificates(file.clone());
        }
        let servers: Vec<&str> = settings.url().split(',').map(str::trim).collect();
        let client = options.connect(servers.as_slice()).await.map_err(|error| match error.kind() {
            ConnectErrorKind::ServerParse => {
                NatsError::Settings(SettingsError::Value { key: "nats.url".into(), why: error.to_string() })
            }
            _ => NatsError::Connect(error),
        })?;
        let jetstream = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(REQUEST_TIMEOUT)
            .build(client.clone());
        Ok(Self { client, jetstream, names: names.clone(), connects, failures })
    }

    /// Opens a connection for small messages and waits at most `within` for the server. Commands use it: they would
    /// rather fail than wait.
    pub async fn reach(
        settings: &NatsSettings,
        names: &Names,
        worker: &str,
        within: Duration,
    ) -> Result<Self, NatsError> {
        let nats = Self::open(settings, names, worker, Use::Control, &CancellationToken::new()).await?;
        let mut connects = nats.connects();
        match tokio::time::timeout(within, connects.wait_for(|count| *count > 0)).await {
            Ok(Ok(_)) => {}
            _ => return Err(NatsError::Unreachable { within, why: nats.failures.borrow().clone() }),
        }
        Ok(nats)
    }

    /// The connection itself.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// JetStream over it.
    pub const fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The names below the configured prefix.
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// How often the connection has been made. Each new connection ends the pull that was in flight.
    pub fn connects(&self) -> watch::Receiver<u64> {
        self.connects.clone()
    }

    /// Waits until there is no connection.
    pub async fn lost(&self) {
        while self.client.connection_state() == State::Connected {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Why NATS cannot carry chunks of `chunk_size` bytes now; `None` if it can.
    pub fn problem(&self, chunk_size: u32) -> Option<String> {
        if self.client.connection_state() != State::Connected {
            return Some("NATS is not connected".into());
        }
        let needed = u64::from(chunk_size) + u64::from(PAYLOAD_HEADROOM);
        match self.client.try_server_info() {
            None => Some("NATS has not said yet what it takes".into()),
            Some(info) if (info.max_payload as u64) < needed => Some(format!(
                "NATS takes payloads of up to {} bytes, but chunks of {chunk_size} bytes need {needed}: raise max_payload \
                 in the server's configuration, or lower files.chunk_size",
                info.max_payload
            )),
            Some(_) => None,
        }
    }

    /// Waits until NATS is connected and takes chunks of `chunk_size` bytes. Logs every few seconds why it does not.
    pub async fn wait_until_payloads_fit(&self, chunk_size: u32) {
        let mut connects = self.connects();
        // A connection is made in the background, so a normal start has none for a moment.
        let _made = tokio::time::timeout(NOT_READY_PERIOD, connects.wait_for(|count| *count > 0)).await.is_ok();
        while let Some(problem) = self.problem(chunk_size) {
            tracing::warn!("not ready: {problem}");
            tokio::select! {
                _ = connects.changed() => {}
                () = tokio::time::sleep(NOT_READY_PERIOD) => {}
            }
        }
    }
}

/// 100 ms, doubled up to 2 s; the upper half is random, so that services that lost the same server do not all return at
/// once.
fn reconnect_delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.min(5)).unwrap_or(5);
    let span = Duration::from_millis(100 * 2_u64.pow(doublings)).min(Duration::from_secs(2));
    span.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// Logs what failed at the last tries to connect, when that has changed: the library's events name only its kind.
fn note_failures(servers: &[async_nats::Server], failing: &watch::Sender<String>, stopping: bool) {
    let failure = |server: &async_nats::Server| {
        Some(format!("{}:{}: {}", server.addr.host(), server.addr.port(), server.last_error.as_ref()?))
    };
    let found = servers.iter().filter_map(failure).collect::<Vec<_>>().join("; ");
    if !found.is_empty() && *failing.borrow() != found {
        match stopping {
            true => tracing::debug!("NATS cannot be used: {found}"),
            false => tracing::warn!("NATS cannot be used: {found}"),
        }
    }
    failing.send_replace(found);
}

fn log(event: &ConnectionEvent, stopping: bool) {
    match event {
        // At the end connections close, and in `waybill up` the server goes away after the services.
        other if stopping => tracing::debug!("NATS connection: {other}"),
        ConnectionEvent::Connected => tracing::info!("connected to NATS"),
        ConnectionEvent::SlowConsumer(_) => {
            tracing::warn!("NATS messages came faster than they were read; some are dropped")
        }
        other => tracing::warn!("NATS connection: {other}"),
    }
}
