//! The ledger on a real mongod: what becomes of a file, whoever else is at it.

mod audit;
mod cancel;
mod claim;
mod connect;
mod content;
mod create;
mod delivery;
mod dump;
mod expect;
mod failures;
mod faults;
mod generation;
mod hold;
mod laws;
mod list;
mod outbox;
mod requeue;
mod retention;
mod stage;
mod stored;
mod sweep;
mod upload;
mod users;
