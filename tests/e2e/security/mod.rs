//! What strangers, hostile clients and forged messages cannot do.

mod forged_lines;
mod messages;
mod remote_texts;
mod up;
