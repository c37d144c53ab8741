//! What strangers, hostile clients and forged messages cannot do.

mod messages;
mod up;
