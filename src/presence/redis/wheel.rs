//! When each connection is to be looked at next.
//!
//! Stands inside the keeper. One timer for all connections instead of one each; those that are due at about the
//! same time are looked at together. A connection's earlier appointments are not searched for when it gets another:
//! they are found stale when their time comes.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use uuid::Uuid;

use crate::sparse;

/// When each connection is to be looked at next, in milliseconds of the keeper's clock.
#[derive(Debug)]
pub(super) struct Wheel {
    granule: u64,
    due: HashMap<Uuid, u64, RandomState>,
    turns: BTreeMap<u64, Vec<Uuid>>,
}

impl Wheel {
    /// Makes an empty wheel; appointments are late by up to `granule` milliseconds.
    pub(super) fn new(granule: u64) -> Self {
        Self {
            granule: granule.max(1),
            due: HashMap::default(),
            turns: BTreeMap::new(),
        }
    }

    /// Sets a connection's next appointment, in place of the one that it had.
    pub(super) fn set(&mut self, id: Uuid, at: u64) {
        let turn = at.div_ceil(self.granule);
        if self.due.insert(id, turn) != Some(turn) {
            self.turns.entry(turn).or_default().push(id);
        }
    }

    /// Forgets a connection.
    pub(super) fn remove(&mut self, id: Uuid) {
        self.due.remove(&id);
        sparse::shrink(&mut self.due);
    }

    /// When the next look may be due.
    pub(super) fn next(&self) -> Option<u64> {
        self.turns
            .first_key_value()
            .map(|(turn, _)| turn * self.granule)
    }

    /// Takes those that are due now; they have no appointment any more.
    pub(super) fn take(&mut self, now: u64) -> Vec<Uuid> {
        let mut taken = Vec::new();
        while let Some(turn) = self.turns.first_entry()
            && turn.key() * self.granule <= now
        {
            let (turn, ids) = turn.remove_entry();
            for id in ids {
                if self.due.get(&id) == Some(&turn) {
                    self.due.remove(&id);
                    taken.push(id);
                }
            }
        }
        sparse::shrink(&mut self.due);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_appointment_counts() {
        let mut wheel = Wheel::new(10);
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        wheel.set(a, 5);
        wheel.set(a, 95);
        wheel.set(b, 20);
        assert_eq!(wheel.next(), Some(10));
        assert!(wheel.take(19).is_empty());
        assert_eq!(wheel.take(20), [b]);
        assert!(wheel.take(99).is_empty());
        assert_eq!(wheel.take(100), [a]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_connection_that_moves_back_and_forth_is_taken_once() {
        let mut wheel = Wheel::new(10);
        let id = Uuid::from_u128(1);
        for at in [30, 10, 30, 30] {
            wheel.set(id, at);
        }
        assert_eq!(wheel.take(100), [id]);
        wheel.set(id, 30);
        wheel.remove(id);
        assert!(wheel.take(200).is_empty());
    }
}
