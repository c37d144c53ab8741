//! The life of a service: how it starts, answers questions about itself, sweeps, works under leases and stops.
//!
//! `service` is what its tasks share; `run` starts its tasks; `lifecycle` ends them; `health` and `status` answer
//! questions about it; `sweep` finds what was left; `work` is one attempt at a file under a lease.

mod health;
mod lifecycle;
mod open_files;
mod reserve;
mod run;
mod service;
pub mod status;
mod sweep;
pub mod work;

pub use lifecycle::{EndedBadly, Lifecycle};
pub use open_files::open_files_max;
pub use reserve::Reserve;
pub use run::{StartError, main, start};
pub use service::Service;
