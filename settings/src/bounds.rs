use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::SettingsError;

/// Refuses a value outside its bounds.
pub(crate) fn within<T: PartialOrd + Display>(
    key: &str,
    value: T,
    bounds: RangeInclusive<T>,
) -> Result<(), SettingsError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(wrong(key, format!("expected {} to {}, found {value}", bounds.start(), bounds.end())))
}

/// The error for a wrong value.
pub(crate) fn wrong(key: &str, why: impl Display) -> SettingsError {
    SettingsError::Value { key: key.to_owned(), why: why.to_string() }
}
