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
/// x
pub struct Drained {
    pub delivered: u64,
    pub dead_lettered: u64,
    pub lost: u64,
}
impl Delivery {
    pub async fn drain(&self, _d: tokio::time::Instant) -> Drained {
        Drained {
            delivered: 0,
            dead_lettered: 0,
            lost: 0,
        }
    }
}
