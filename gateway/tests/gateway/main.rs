//! The gateway as its callers meet it: over HTTP, with a real nats-server and a real mongod behind it.

mod access;
mod files;
mod finalise;
mod limits;
mod outages;
mod prepare;
mod process;
mod routes;
mod sources;
mod stage;
mod strangers;
mod token;
