//! Erases all entries of one user, of whichever gateway.
//!
//! Stands between `erase` and the link. The user's set names the entries; since sets may have expired before what they
//! name, or been evicted, all entries are looked at as well.

use redis::Cmd;

use super::keys::{Fields, Place, add, entry};
use super::{RedisPresence, Store, StoreError};
use crate::svc::BoxError;

/// Entries looked at in one round trip.
const CHUNK: usize = 250;

/// What is told of each round trip: how many entries were looked at, and how many of them are the user's.
type Counted<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

impl RedisPresence {
    /// Erases the entries of a user, or counts them; members of the set of the user's subject that are nobody's go too.
    ///
    /// A connection that is open is written again by its gateway.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn erase(
        &self,
        user_id: &str,
        subject: &str,
        dry_run: bool,
        mut counted: impl FnMut(u64, u64) + Send,
    ) -> Result<(), BoxError> {
        let user = User {
            store: &self.store,
            id: user_id,
            dry_run,
        };
        Ok(user.erase(subject, &mut counted).await?)
    }
}

struct User<'a> {
    store: &'a Store,
    id: &'a str,
    dry_run: bool,
}

impl User<'_> {
    async fn erase(&self, subject: &str, counted: Counted<'_>) -> Result<(), StoreError> {
        let keys = &self.store.keys;
        let nodes: Vec<String> = self
            .store
            .ask_one(add("ZRANGE", &keys.nodes(), (0, -1)))
            .await?;
        let begin = keys.connection("");
        let mut scan = self.store.link.scan(&begin, "hash").await?;
        while let Some(found) = self.store.link.scan_on(&mut scan).await? {
            let started = tokio::time::Instant::now();
            let ids: Vec<&str> = found
                .iter()
                .filter_map(|key| key.strip_prefix(&begin))
                .collect();
            for ids in ids.chunks(CHUNK) {
                self.erase_entries(ids, &nodes, counted).await?;
            }
            crate::erase::pause(started.elapsed()).await;
        }
        if !self.dry_run {
            // What is left in it has no entry any more.
            let set = keys.user(self.id);
            self.store.run(&[add("DEL", &set, None::<&str>)]).await?;
            self.drop_strays(&keys.subject(subject)).await?;
        }
        Ok(())
    }

    /// Erases those of some entries that are the user's.
    async fn erase_entries(
        &self,
        ids: &[&str],
        nodes: &[String],
        counted: Counted<'_>,
    ) -> Result<(), StoreError> {
        let keys = &self.store.keys;
        let read: Vec<Cmd> = ids.iter().map(|id| keys.read(id)).collect();
        let read: Vec<Fields> = self.store.ask(&read).await?;
        let entries = ids
            .iter()
            .zip(read)
            .filter_map(|(id, fields)| entry(id, fields));
        let theirs: Vec<_> = entries.filter(|entry| entry.user_id == self.id).collect();
        let mut commands = Vec::new();
        for entry in &theirs {
            let place = Place {
                id: &entry.connection_id,
                user_id: &entry.user_id,
                subjects: &entry.subjects,
            };
            keys.remove(&place, &mut commands);
            let indexes = nodes.iter().map(|node| keys.node(node));
            commands.extend(indexes.map(|index| add("ZREM", &index, &entry.connection_id)));
        }
        if !self.dry_run && !commands.is_empty() {
            self.store.run(&commands).await?;
        }
        counted(ids.len() as u64, theirs.len() as u64);
        Ok(())
    }

    /// Removes members of a set whose entry is gone; the others are connections of other users.
    async fn drop_strays(&self, set: &str) -> Result<(), StoreError> {
        let ids: Vec<String> = self
            .store
            .ask_one(add("SMEMBERS", set, None::<&str>))
            .await?;
        for ids in ids.chunks(CHUNK) {
            let read: Vec<Cmd> = ids.iter().map(|id| self.store.keys.read(id)).collect();
            let read: Vec<Fields> = self.store.ask(&read).await?;
            let entries = ids.iter().zip(read);
            let strays = entries.filter_map(|(id, fields)| {
                let known = entry(id, fields).is_some();
                (!known).then(|| add("SREM", set, id))
            });
            let strays: Vec<Cmd> = strays.collect();
            if !strays.is_empty() {
                self.store.run(&strays).await?;
            }
        }
        Ok(())
    }
}
