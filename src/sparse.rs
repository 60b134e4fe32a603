//! Maps that give their memory back: of as many connections as there were once, not all may come again.
//!
//! Stands below the registry and what else keeps an entry for each connection. The standard maps never shrink by
//! themselves.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash};

/// Room for entries that is kept, however few there are.
const KEPT: usize = 16;

/// Shrinks a map that holds less than a quarter of what it has room for, to twice what it holds; to be called after a
/// removal. That spreads the cost of moving the entries over at least as many removals or insertions as are moved.
pub(crate) fn shrink<K: Eq + Hash, V, S: BuildHasher + Default>(map: &mut HashMap<K, V, S>) {
    // An empty one is let go whatever it says: places of removed entries may not count as room.
    if map.is_empty() {
        *map = HashMap::default();
    } else if is_sparse(map.len(), map.capacity()) {
        map.shrink_to(map.len() * 2);
    }
}

/// As [`shrink`], of a set.
pub(crate) fn shrink_set<K: Eq + Hash, S: BuildHasher + Default>(set: &mut HashSet<K, S>) {
    if set.is_empty() {
        *set = HashSet::default();
    } else if is_sparse(set.len(), set.capacity()) {
        set.shrink_to(set.len() * 2);
    }
}

fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity > KEPT && len < capacity / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_room_for_about_what_it_holds() {
        let mut map: HashMap<u32, u32> = (0..10_000).map(|n| (n, n)).collect();
        let mut moved = 0;
        for n in 0..10_000 {
            map.remove(&n);
            let before = map.capacity();
            shrink(&mut map);
            if map.capacity() != before {
                moved += map.len();
            }
            assert!(map.capacity() <= KEPT.max(4 * map.len() + 3));
        }
        assert_eq!(map.capacity(), 0);
        assert!(moved < 10_000, "{moved} entries were moved");
        map.insert(1, 1);
        assert_eq!(map[&1], 1);
    }

    #[test]
    fn a_set_does_likewise() {
        let mut set: HashSet<u32> = (0..1_000).collect();
        for n in 0..999 {
            set.remove(&n);
            shrink_set(&mut set);
        }
        assert!(set.capacity() <= KEPT && set.contains(&999));
        set.remove(&999);
        shrink_set(&mut set);
        assert_eq!(set.capacity(), 0);
    }
}
