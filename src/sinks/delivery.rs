//! stub
use crate::event::Event;
use std::sync::Arc;
/// x
#[derive(Debug)]
pub struct Delivery;
/// x
#[derive(Debug)]
pub struct Slot;
impl Delivery {
    /// x
    pub fn try_reserve(&self, _b: usize) -> Option<Slot> {
        Some(Slot)
    }
    /// x
    pub async fn reserve(&self, _b: usize) -> Slot {
        Slot
    }
    /// x
    pub fn enqueue(&self, _s: Slot, _e: Arc<Event>) {}
}
