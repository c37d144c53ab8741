//! The gateway as its callers meet it: over HTTP, with a real nats-server and a real mongod behind it.

#[path = "gateway/access.rs"]
mod access;
#[path = "gateway/call.rs"]
mod call;
#[path = "gateway/files.rs"]
mod files;
#[path = "gateway/finalise.rs"]
mod finalise;
#[path = "gateway/limits.rs"]
mod limits;
#[path = "gateway/outages.rs"]
mod outages;
#[path = "gateway/prepare.rs"]
mod prepare;
#[path = "gateway/process.rs"]
mod process;
#[path = "gateway/routes.rs"]
mod routes;
#[path = "gateway/sources.rs"]
mod sources;
#[path = "gateway/stage.rs"]
mod stage;
#[path = "gateway/token.rs"]
mod token;
