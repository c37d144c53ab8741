//! Places that are counted, all together and for each key, such as the connections of a peer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// A number of places, of which one key may take only some.
#[derive(Debug)]
pub(crate) struct Seats<K> {
    taken: Arc<Mutex<Taken<K>>>,
    all: usize,
    each: usize,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    each: HashMap<K, usize>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat<K: Eq + Hash> {
    key: K,
    taken: Arc<Mutex<Taken<K>>>,
}

impl<K: Eq + Hash + Clone> Seats<K> {
    /// `all` places, of which each key may take `each`.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { taken: Arc::new(Mutex::new(Taken { all: 0, each: HashMap::new() })), all, each }
    }

    /// A place for `key`; `None` if all places are taken, or those that the key may take.
    pub(crate) fn take(&self, key: K) -> Option<Seat<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.each.get(&key).copied().unwrap_or(0);
        if taken.all >= self.all || own >= self.each {
            return None;
        }
        taken.all += 1;
        taken.each.insert(key.clone(), own + 1);
        Some(Seat { key, taken: self.taken.clone() })
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        match taken.each.get_mut(&self.key) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.each.remove(&self.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_for_each_key_and_all_together() {
        let seats = Seats::new(3, 2);
        let (first, second) = (seats.take("a"), seats.take("a"));
        assert!(first.is_some() && second.is_some() && seats.take("a").is_none());
        let third = seats.take("b");
        assert!(third.is_some() && seats.take("c").is_none());
        drop(first);
        let fourth = seats.take("c");
        assert!(fourth.is_some() && seats.take("a").is_none());
        drop((second, third, fourth));
        assert_eq!(seats.taken.lock().unwrap().each.len(), 0, "a key without a seat takes no memory");
        assert!(seats.take("a").is_some());
    }
}
