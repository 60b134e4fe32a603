//! Lists connections from Redis: those of all gateways, in the order of their ids.
//!
//! Stands between the API and the link. Ids are read first, a page of them or a whole set, then the entries;
//! an id whose entry has expired is skipped, and removed from where it was found.

use redis::Cmd;

use super::keys::{Fields, add, entry};
use super::{Store, StoreError};
use crate::presence::{Entry, Page, Query};

/// Entries read in one round trip.
const CHUNK: usize = 500;

/// Where ids were found: a key, and how members are removed from it.
struct Source {
    key: String,
    remove: &'static str,
}

impl Store {
    pub(super) async fn page(&self, query: &Query) -> Result<Page, StoreError> {
        let set = match (&query.user_id, &query.subject) {
            (Some(user), _) => Some(self.keys.user(user)),
            (None, Some(subject)) => Some(self.keys.subject(subject)),
            (None, None) => None,
        };
        match set {
            Some(key) => self.page_of_set(key, query).await,
            None => self.page_of_all(query).await,
        }
    }

    async fn page_of_set(&self, key: String, query: &Query) -> Result<Page, StoreError> {
        let mut ids: Vec<String> = self.ask_one(add("SMEMBERS", &key, None::<&str>)).await?;
        if let Some(after) = &query.after {
            ids.retain(|id| id > after);
        }
        ids.sort_unstable();
        let sources = [Source {
            key,
            remove: "SREM",
        }];
        let found: Vec<(String, usize)> = ids.into_iter().map(|id| (id, 0)).collect();
        let mut entries = Vec::new();
        self.collect(&found, &sources, query, &mut entries).await?;
        Ok(Page::first(entries, query.limit))
    }

    async fn page_of_all(&self, query: &Query) -> Result<Page, StoreError> {
        let nodes = add("ZRANGE", &self.keys.nodes(), (0, -1));
        let nodes: Vec<String> = self.ask_one(nodes).await?;
        let sources: Vec<Source> = nodes
            .iter()
            .map(|node| Source {
                key: self.keys.node(node),
                remove: "ZREM",
            })
            .collect();
        let wanted = query.limit + 1;
        let mut after = query.after.clone();
        let mut entries = Vec::new();
        while !sources.is_empty() {
            let from = after.as_ref().map_or("-".to_owned(), |id| format!("({id}"));
            let read =
                |source: &Source| add("ZRANGEBYLEX", &source.key, (&from, "+", "LIMIT", 0, wanted));
            let commands: Vec<Cmd> = sources.iter().map(read).collect();
            let ids: Vec<Vec<String>> = self.ask(&commands).await?;
            if query.after.is_none() && after.is_none() {
                self.drop_empty(&nodes, &ids).await?;
            }
            let more = ids.iter().any(|ids| ids.len() == wanted);
            let mut found: Vec<(String, usize)> = Vec::new();
            for (source, ids) in ids.into_iter().enumerate() {
                found.extend(ids.into_iter().map(|id| (id, source)));
            }
            found.sort_unstable();
            // Of a node with more than this there may be ids in between that were not read.
            found.truncate(wanted);
            after = found.last().map(|(id, _)| id.clone());
            self.collect(&found, &sources, query, &mut entries).await?;
            if !more && found.len() < wanted || entries.len() >= wanted || after.is_none() {
                break;
            }
        }
        Ok(Page::first(entries, query.limit))
    }

    /// Reads entries until there is one more than a page has.
    async fn collect(
        &self,
        found: &[(String, usize)],
        sources: &[Source],
        query: &Query,
        entries: &mut Vec<Entry>,
    ) -> Result<(), StoreError> {
        for found in found.chunks(CHUNK) {
            if entries.len() > query.limit {
                break;
            }
            let read: Vec<Cmd> = found.iter().map(|(id, _)| self.keys.read(id)).collect();
            let read: Vec<Fields> = self.ask(&read).await?;
            let mut expired = Vec::new();
            for ((id, source), fields) in found.iter().zip(read) {
                match entry(id, fields) {
                    Some(entry) => entries.extend(Some(entry).filter(|entry| fits(entry, query))),
                    None => expired.push(add(sources[*source].remove, &sources[*source].key, id)),
                }
            }
            // Where nothing expires, an entry that is missing is one that is being written or removed.
            if self.expires && !expired.is_empty() {
                self.run(&expired).await?;
            }
        }
        Ok(())
    }

    /// Removes gateways whose index has expired: they are lost.
    async fn drop_empty(&self, nodes: &[String], ids: &[Vec<String>]) -> Result<(), StoreError> {
        let empty: Vec<&String> = nodes
            .iter()
            .zip(ids)
            .filter(|(_, ids)| ids.is_empty())
            .map(|(node, _)| node)
            .collect();
        if self.expires && !empty.is_empty() {
            self.ask_one::<i64>(add("ZREM", &self.keys.nodes(), empty))
                .await?;
        }
        Ok(())
    }
}

fn fits(entry: &Entry, query: &Query) -> bool {
    let of_user = query.user_id.as_ref().is_none_or(|id| *id == entry.user_id);
    let subject = query.subject.as_ref();
    of_user && subject.is_none_or(|wanted| entry.subjects.contains(wanted))
}
