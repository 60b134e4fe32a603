//! State that outlives what uses it: one value of each type and name, made by whoever asks first.
//!
//! Stands beside the stacks. A generation is thrown away by a reload, so a stage keeps what must survive it with
//! the process (in [`crate::pipeline::Ingredients`]) or with the connection (in [`crate::session::Session`]).

use std::any::Any;
use std::sync::Arc;

use parking_lot::Mutex;

/// One value of each type and name. There are few, so that a list is smaller and no slower than a map.
#[derive(Debug, Default)]
pub struct Kept {
    values: Mutex<Vec<Value>>,
}

#[derive(Debug)]
struct Value {
    /// None for what is there once.
    name: Option<Arc<str>>,
    value: Arc<dyn Any + Send + Sync>,
}

impl Kept {
    /// The one value of its type; `make` must not ask for another of the same place.
    pub fn keep<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.keep_for(None, make)
    }

    /// The one value of its type and name, where several of one type live beside each other, as those of a stage
    /// that stands twice in a pipeline ([`crate::condition::identity`] names them); `make` as for [`Kept::keep`].
    pub fn keep_for<T: Any + Send + Sync>(
        &self,
        name: Option<&Arc<str>>,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let mut values = self.values.lock();
        for kept in values.iter().filter(|kept| kept.name.as_ref() == name) {
            if let Ok(found) = Arc::clone(&kept.value).downcast::<T>() {
                return found;
            }
        }
        let value = Arc::new(make());
        values.push(Value {
            name: name.cloned(),
            value: Arc::clone(&value) as Arc<dyn Any + Send + Sync>,
        });
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
        let (a, b) = ("a".into(), "b".into());
        assert_eq!(*kept.keep_for(Some(&a), || 3_u64), 3);
        assert_eq!(*kept.keep_for(Some(&b), || 4_u64), 4);
        assert_eq!(*kept.keep_for(Some(&Arc::from("a")), || 5_u64), 3);
        assert_eq!(*kept.keep(|| 6_u64), 1, "apart from those with names");
    }
}
