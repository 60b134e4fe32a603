//! Places in the counts of connections by address.
//!
//! A part of the registry, which hands them out before an upgrade.

use std::net::IpAddr;
use std::sync::Arc;

use super::Registry;
use crate::sparse;

/// One connection's place in its address's count; given back on drop.
#[derive(Debug)]
pub struct AddressPlace {
    pub(super) registry: Arc<Registry>,
    pub(super) address: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut shard = self
            .registry
            .shard(&self.registry.by_address, &self.address)
            .write();
        if let Some(held) = shard.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                shard.remove(&self.address);
                sparse::shrink(&mut shard);
            }
        }
    }
}
