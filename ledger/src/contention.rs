use crate::LedgerError;

/// How many times one operation reads, decides and writes before it gives up. A try fails if somebody else changes the
/// record in between.
const TRIES: u32 = 8;

/// The tries of an operation that reads a record, decides, and writes only if nobody changed the record in between.
pub(crate) struct Tries {
    operation: &'static str,
    begun: u32,
}

impl Tries {
    pub(crate) const fn of(operation: &'static str) -> Self {
        Self { operation, begun: 0 }
    }

    /// Begins a try. Fails if there have been [`TRIES`] already.
    pub(crate) fn begin(&mut self) -> Result<(), LedgerError> {
        if self.begun == TRIES {
            return Err(LedgerError::Contended { operation: self.operation, tries: TRIES });
        }
        self.begun += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_come_to_an_end() {
        let mut tries = Tries::of("changing a record");
        let begun = std::iter::from_fn(|| tries.begin().ok()).take(100).count();
        assert_eq!(begun, 8);
        let error = tries.begin().unwrap_err();
        assert_eq!(error.to_string(), "changing a record met other changes of the same record 8 times in a row");
    }
}
