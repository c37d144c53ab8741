//! The folders beneath which files may be read, and the one way to open a file there.

mod error;
mod fingerprint;
mod roots;

pub use error::SourceError;
pub use fingerprint::Fingerprint;
pub use roots::{PATH_MAX, Roots, SourcePath};
