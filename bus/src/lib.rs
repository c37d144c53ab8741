//! What NATS carries: hints, events, dead letters and chunks.
//!
//! `connection` opens connections with the `credentials` of the settings; `publish` and `announce` send; `consume` is
//! the one loop that takes hints; `chunk_client` sends chunks; `streams` makes and mends the streams of
//! `stream_config`; `drift` and `dead_letters` are for operators.

mod announce;
pub mod chunk_client;
mod connection;
mod consume;
mod counters;
mod credentials;
pub mod dead_letters;
pub mod drift;
mod error;
mod publish;
mod stream_config;
mod streams;

pub use announce::{Announcer, hint_once, publish};
pub use connection::{Nats, Use};
pub use consume::{Hints, Job, Outcome};
pub use counters::{Counters, Running};
pub use error::{BusError, NatsError};
pub use publish::Hinted;
pub use stream_config::Difference;
pub use streams::make_streams;
