//! What a request passes on its way to a handler: the log, admission unless the address is open, limits.

pub(crate) mod admit;
pub(crate) mod limit;
pub(crate) mod log;
