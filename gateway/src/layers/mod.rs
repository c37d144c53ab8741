//! What every request passes on its way to a handler.

pub(crate) mod admit;
pub(crate) mod limit;
pub(crate) mod log;
