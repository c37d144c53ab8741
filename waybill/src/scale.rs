//! How many of each worker run.

use std::str::FromStr;

use contract::Role;

/// The maximum number of workers of one kind in one process.
const MOST: u8 = 16;

/// How many of each worker run; one of each unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Chunkers.
    pub chunker: u8,
    /// Stores.
    pub store: u8,
    /// Finalisers.
    pub finaliser: u8,
}

impl Default for Scale {
    fn default() -> Self {
        Self { chunker: 1, store: 1, finaliser: 1 }
    }
}

impl Scale {
    /// How many of `role` run.
    pub const fn of(&self, role: Role) -> u8 {
        match role {
            // A gateway has an address of its own.
            Role::Gateway => 1,
            Role::Chunker => self.chunker,
            Role::Store => self.store,
            Role::Finaliser => self.finaliser,
        }
    }
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut scale = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let refuse =
                || format!("expected WORKER=N with chunker, store or finaliser and 1 to {MOST}, found {part:?}");
            let (role, count) = part.split_once('=').ok_or_else(refuse)?;
            let count = count.parse().ok().filter(|count| (1..=MOST).contains(count)).ok_or_else(refuse)?;
            match role {
                "chunker" => scale.chunker = count,
                "store" => scale.store = count,
                "finaliser" => scale.finaliser = count,
                _ => return Err(refuse()),
            }
        }
        Ok(scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_is_parsed_as_documented() {
        assert_eq!("".parse::<Scale>().unwrap(), Scale::default());
        let scale: Scale = "chunker=2,store=3".parse().unwrap();
        assert_eq!((scale.of(Role::Chunker), scale.of(Role::Store), scale.of(Role::Finaliser)), (2, 3, 1));
        for wrong in ["chunker", "chunker=0", "chunker=17", "gateway=2", "chunker=two"] {
            assert!(wrong.parse::<Scale>().unwrap_err().contains(wrong));
        }
    }
}
