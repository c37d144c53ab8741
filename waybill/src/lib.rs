//! All of Waybill on one machine: starts the servers, runs the same services as the four binaries, and sends files through.

pub mod client;
pub mod dead;
pub mod demo;
pub mod doctor;
pub mod files;
mod line;
pub mod local;
pub mod place;
mod progress;
pub mod receipt;
pub mod scale;
pub mod up;
pub mod users;
