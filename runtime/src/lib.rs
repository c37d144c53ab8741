//! How every service runs: settings, telemetry, the NATS connection, the one consume loop, leases, sweeps, shutdown.

pub mod announce;
pub mod args;
pub mod consume;
pub mod drift;
pub mod health;
pub mod hold;
pub mod letters;
pub mod lifecycle;
pub mod nats;
pub mod retry;
pub mod sabotage;
pub mod service;
pub mod settings;
pub mod source;
pub mod space;
pub mod status;
mod streams;
mod sweep;
pub mod telemetry;

pub use announce::Announcer;
pub use consume::{Job, Outcome};
pub use hold::{Ended, Holding};
pub use lifecycle::Lifecycle;
pub use service::Service;
