//! The store as chunkers meet it: over NATS, with a real mongod behind it.

mod answers;
mod pressure;
mod record;
mod stage;
