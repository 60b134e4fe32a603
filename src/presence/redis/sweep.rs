//! Removes what a gateway that is no more has left in its index.
//!
//! Stands between the keeper, which sweeps after an earlier process of its own gateway, or whoever speaks for a lost
//! one, and the link.

use redis::Cmd;

use super::keys::{Fields, Place, add, entry};
use super::{Store, StoreError};

/// Connections looked at in one round trip.
const CHUNK: usize = 250;

impl Store {
    /// Removes the connections of a gateway's index, but for those that are to be kept.
    pub(super) async fn sweep(
        &self,
        node_id: &str,
        keep: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<(), StoreError> {
        let index = self.keys.node(node_id);
        let mut after = "-".to_owned();
        let mut kept = 0;
        loop {
            let page = add("ZRANGEBYLEX", &index, (&after, "+", "LIMIT", 0, CHUNK));
            let ids: Vec<String> = self.ask_one(page).await?;
            let Some(last) = ids.last() else { break };
            after = format!("({last}");
            let count = ids.len();
            let strays: Vec<String> = ids.into_iter().filter(|id| !keep(id)).collect();
            kept += count - strays.len();
            if strays.is_empty() {
                continue;
            }
            let read: Vec<Cmd> = strays.iter().map(|id| self.keys.read(id)).collect();
            let read: Vec<Fields> = self.ask(&read).await?;
            let mut commands = Vec::new();
            for (id, fields) in strays.iter().zip(read) {
                if let Some(entry) = entry(id, fields) {
                    let place = Place {
                        id,
                        user_id: &entry.user_id,
                        subjects: &entry.subjects,
                    };
                    self.keys.remove(&place, &mut commands);
                }
            }
            commands.push(add("ZREM", &index, strays));
            self.run(&commands).await?;
        }
        if kept == 0 {
            self.run(&[add("ZREM", &self.keys.nodes(), node_id)])
                .await?;
        }
        Ok(())
    }
}
