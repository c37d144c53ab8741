//! How services run: what they are told, how they take hints, hold files, announce and end. On a real nats-server and a
//! real mongod.

mod announce;
mod attempt;
mod connect;
mod consume;
mod health;
mod hold;
mod lifecycle;
mod stage;
mod sweep;
