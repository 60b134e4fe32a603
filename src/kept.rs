//! State that outlives what uses it: one value of each type, made by whoever asks first.
//!
//! Stands beside the stacks. A generation is thrown away by a reload, so a stage keeps what must survive it with
//! the process (in [`crate::pipeline::Ingredients`]) or with the connection (in [`crate::session::Session`]).

use std::any::Any;
use std::sync::Arc;

use parking_lot::Mutex;

/// One value of each type. There are few, so that a list is smaller and no slower than a map.
#[derive(Debug, Default)]
pub struct Kept {
    values: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

impl Kept {
    /// The one value of its type; `make` must not ask for another of the same place.
    pub fn keep<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut values = self.values.lock();
        for value in values.iter() {
            if let Ok(found) = Arc::clone(value).downcast::<T>() {
                return found;
            }
        }
        let value = Arc::new(make());
        values.push(Arc::clone(&value) as Arc<dyn Any + Send + Sync>);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_first_value_of_each_type() {
        let kept = Kept::default();
        assert_eq!(*kept.keep(|| 1_u64), 1);
        assert_eq!(*kept.keep(|| "a"), "a");
        assert_eq!(*kept.keep(|| 2_u64), 1, "made once");
    }
}
