//! Goes through all keys of a Redis that fit a pattern, in a cluster on each of its servers.
//!
//! Stands beside the link. A server is asked for a page at a time, so that it is never held up for long.

use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr};
use redis::{Cmd, Value, cmd};

use super::connect::{self, Connection};
use super::{Atomicity, LinkError, RedisLink};

/// Keys that a server looks at for one page.
const LOOKED_AT: usize = 1000;

/// A pass through the keys.
#[derive(Debug)]
pub struct Scan {
    pattern: String,
    kind: &'static str,
    /// A hash slot of each server that is still to be asked; none where there is but one server.
    servers: Vec<Option<u16>>,
    cursor: String,
}

impl RedisLink {
    /// Begins a pass through the keys that begin with a text and are of a type, such as `stream`.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn scan(&self, begin: &str, kind: &'static str) -> Result<Scan, LinkError> {
        let mut pattern = String::with_capacity(begin.len() + 8);
        for character in begin.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push('*');
        let servers = if self.is_cluster() {
            self.primaries().await?
        } else {
            vec![None]
        };
        Ok(Scan {
            pattern,
            kind,
            servers,
            cursor: "0".to_owned(),
        })
    }

    /// The next keys of a pass, perhaps none of them; `None` at its end. Keys that are no text are passed over, and a
    /// key may come twice.
    ///
    /// # Errors
    /// When Redis does not answer; the same page may be asked for again.
    pub async fn scan_on(&self, scan: &mut Scan) -> Result<Option<Vec<String>>, LinkError> {
        let Some(server) = scan.servers.last() else {
            return Ok(None);
        };
        let mut command = cmd("SCAN");
        command.arg(&scan.cursor).arg("MATCH").arg(&scan.pattern);
        command.arg("COUNT").arg(LOOKED_AT);
        command.arg("TYPE").arg(scan.kind);
        let answer = self.run_at(*server, command).await?;
        let (cursor, keys): (String, Vec<Vec<u8>>) = redis::from_redis_value(answer)
            .map_err(|_| LinkError("SCAN was answered by something else".to_owned()))?;
        if cursor == "0" {
            scan.servers.pop();
        }
        scan.cursor = cursor;
        let texts = keys
            .into_iter()
            .filter_map(|key| String::from_utf8(key).ok());
        Ok(Some(texts.collect()))
    }

    /// A hash slot of each primary of the cluster.
    async fn primaries(&self) -> Result<Vec<Option<u16>>, LinkError> {
        let mut command = cmd("CLUSTER");
        command.arg("SLOTS");
        let unknown = || LinkError("CLUSTER SLOTS was answered by something else".to_owned());
        let Value::Array(ranges) = self.run_at(None, command).await? else {
            return Err(unknown());
        };
        let mut primaries: Vec<(Value, Option<u16>)> = Vec::new();
        for range in ranges {
            let Value::Array(range) = range else {
                return Err(unknown());
            };
            // First slot, last slot, primary, replicas.
            let mut range = range.into_iter();
            let (Some(Value::Int(first)), Some(Value::Array(primary))) =
                (range.next(), range.nth(1))
            else {
                return Err(unknown());
            };
            let first = u16::try_from(first).map_err(|_| unknown())?;
            let id = primary.into_iter().nth(2).ok_or_else(unknown)?;
            if !primaries.iter().any(|(known, _)| *known == id) {
                primaries.push((id, Some(first)));
            }
        }
        Ok(primaries.into_iter().map(|(_, slot)| slot).collect())
    }

    /// Sends a command that names no key to the primary of a hash slot.
    async fn run_at(&self, slot: Option<u16>, command: Cmd) -> Result<Value, LinkError> {
        let Some(slot) = slot.and_then(Slot::new) else {
            let mut answers = self.run_owned(vec![command], Atomicity::Each).await?;
            let answer = answers.pop().unwrap_or(Ok(Value::Nil));
            return answer.map_err(|error| LinkError(error.0));
        };
        let shared = self.kept.shared.borrow().clone();
        let Some(Connection::Cluster(mut cluster)) = shared.map(|shared| shared.connection) else {
            return Err(LinkError("not connected".to_owned()));
        };
        let route = Route::with_slot(slot, SlotAddr::Master);
        let route = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route));
        let answer = cluster.route_command(command, route).await;
        answer
            .and_then(Value::extract_error)
            .map_err(|error| LinkError(connect::reason(&error)))
    }
}
