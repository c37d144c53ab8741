//! The command `waybill`: runs all of Waybill on one machine, with the same services as the four binaries, and has the
//! tools of an operator.

pub mod client;
pub mod connection;
pub mod data_dir;
pub mod dead;
pub mod demo;
pub mod doctor;
pub mod files;
mod progress;
pub mod receipt;
pub mod scale;
pub mod up;
pub mod users;
