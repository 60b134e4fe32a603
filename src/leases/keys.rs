//! The keys of leases, and the scripts that act on several of them at once.
//!
//! Stands below everything in leases that talks to Redis. The time in every script is Redis' own, so that the
//! gateways' clocks need not agree.

use std::sync::Arc;
use std::time::Duration;

use redis::{Arg, Cmd, ToRedisArgs, cmd};
use uuid::Uuid;

/// Seconds for which it is remembered that a gateway was lost: far longer than one may be paused and come back.
const REMEMBERED: u64 = 86_400;

/// Expired leases that are told of at once.
const EXPIRED_AT_ONCE: usize = 16;

/// Defines `now` in milliseconds.
const NOW: &str = "local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
";

/// `nodes`, `lost`, `conns` of a lease: renews it unless it was declared lost. Gives how it was, how many records it
/// has, and whose leases have expired.
const RENEW: &str = "if redis.call('EXISTS', KEYS[2]) == 1 then return {'lost', now, 0} end
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
local answer = {known and 'held' or 'new', now, redis.call('HLEN', KEYS[3])}
for _, other in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now, 'LIMIT', 0, ARGV[3])) do
  answer[#answer + 1] = other
end
return answer";

/// `nodes`, `claim`, `lost` of a lease: declares it lost, if it has expired or is to be taken all the same, and if
/// nobody else speaks for it. Gives when it expired.
const CLAIM: &str = "local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or (ARGV[3] == '0' and tonumber(score) >= now) then return false end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[2] then return false end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
redis.call('SADD', KEYS[3], '')
redis.call('EXPIRE', KEYS[3], ARGV[5])
return score";

/// `claim`, `lost`, `conns` of a lease: takes over some connections, which from then on only the claim's holder
/// speaks for. Gives the records of those that nobody has spoken for yet.
const TAKE: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
local records = {}
for i = 4, #ARGV do
  local record = redis.call('HGET', KEYS[3], ARGV[i])
  if record then
    redis.call('SADD', KEYS[2], ARGV[i])
    records[#records + 1] = record
  end
end
return records";

/// `nodes`, `claim`, `lost`, `conns` of a lease: forgets it, unless it got records since. Gives how many.
const FINISH: &str = "if redis.call('GET', KEYS[2]) ~= ARGV[2] then return -1 end
for _, id in ipairs(redis.call('HKEYS', KEYS[4])) do
  if redis.call('SISMEMBER', KEYS[3], id) == 1 then redis.call('HDEL', KEYS[4], id) end
end
local left = redis.call('HLEN', KEYS[4])
if left == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
redis.call('DEL', KEYS[2])
return left";

/// `nodes`, `conns` of a lease: ends it, with all records or only if there are none.
const LEAVE: &str = "if ARGV[2] == '1' then redis.call('DEL', KEYS[2]) end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0";

/// `conns`, `lost` of a lease, and a stream: adds `disconnected`, unless someone else speaks for the connection.
const TELL: &str = "if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('XADD', KEYS[3], unpack(ARGV, 2))";

/// The same of a connection that was taken over: unless it was told.
const TELL_TAKEN: &str = "if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('SADD', KEYS[2], ARGV[1])
return redis.call('XADD', KEYS[3], unpack(ARGV, 2))";

/// The names of keys under one prefix, and the commands on them.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    /// In a cluster all keys share one hash slot, since every script needs several of them.
    pub(super) fn new(prefix: &str, is_cluster: bool) -> Self {
        let prefix = if is_cluster && !prefix.contains('{') {
            format!("{{{prefix}}}")
        } else {
            prefix.to_owned()
        };
        Self { prefix }
    }

    fn nodes(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    fn conns(&self, lease: &str) -> String {
        format!("{}conns:{lease}", self.prefix)
    }

    fn lost(&self, lease: &str) -> String {
        format!("{}lost:{lease}", self.prefix)
    }

    fn claim(&self, lease: &str) -> String {
        format!("{}claim:{lease}", self.prefix)
    }

    pub(super) fn renew(&self, lease: &str, ttl: Duration) -> Cmd {
        let keys = [self.nodes(), self.lost(lease), self.conns(lease)];
        timed(RENEW, &keys, (lease, millis(ttl), EXPIRED_AT_ONCE))
    }

    /// All leases.
    pub(super) fn leases(&self) -> Cmd {
        let mut command = cmd("ZRANGE");
        command.arg(self.nodes()).arg(0).arg(-1);
        command
    }

    pub(super) fn take_lease(&self, lease: &str, me: &str, held: bool, ttl: Duration) -> Cmd {
        let keys = [self.nodes(), self.claim(lease), self.lost(lease)];
        let anyway = u8::from(held);
        timed(CLAIM, &keys, (lease, me, anyway, millis(ttl), REMEMBERED))
    }

    pub(super) fn take(&self, lease: &str, me: &str, ttl: Duration, ids: &[String]) -> Cmd {
        let keys = [self.claim(lease), self.lost(lease), self.conns(lease)];
        script(TAKE, &keys, (me, millis(ttl), REMEMBERED, ids))
    }

    pub(super) fn finish(&self, lease: &str, me: &str) -> Cmd {
        let (conns, lost) = (self.conns(lease), self.lost(lease));
        let keys = [self.nodes(), self.claim(lease), lost, conns];
        script(FINISH, &keys, (lease, me))
    }

    pub(super) fn leave(&self, lease: &str, all_told: bool) -> Cmd {
        let keys = [self.nodes(), self.conns(lease)];
        script(LEAVE, &keys, (lease, u8::from(all_told)))
    }

    /// Writes records, and makes sure that the lease is known, so that someone finds them whatever comes; `expiry`
    /// counts only if it is not.
    pub(super) fn record(&self, lease: &str, records: &[(Uuid, &str)], expiry: u64) -> [Cmd; 2] {
        let mut write = cmd("HSET");
        write.arg(self.conns(lease));
        for (id, record) in records {
            write.arg(id.to_string()).arg(record);
        }
        let mut ensure = cmd("ZADD");
        ensure.arg(self.nodes()).arg("NX").arg(expiry).arg(lease);
        [write, ensure]
    }

    pub(super) fn scan(&self, lease: &str, cursor: &str, count: usize) -> Cmd {
        let mut command = cmd("HSCAN");
        command
            .arg(self.conns(lease))
            .arg(cursor)
            .arg("COUNT")
            .arg(count);
        command
    }

    pub(super) fn forget(&self, lease: &str, ids: &[Uuid]) -> Cmd {
        let mut command = cmd("HDEL");
        command.arg(self.conns(lease));
        for id in ids {
            command.arg(id.to_string());
        }
        command
    }

    /// Whether a connection has a record.
    pub(super) fn has_record(&self, lease: &str, id: Uuid) -> Cmd {
        let mut command = cmd("HEXISTS");
        command.arg(self.conns(lease)).arg(id.to_string());
        command
    }

    /// Whether someone else speaks for a connection.
    pub(super) fn is_taken(&self, lease: &str, id: Uuid) -> Cmd {
        let mut command = cmd("SISMEMBER");
        command.arg(self.lost(lease)).arg(id.to_string());
        command
    }

    /// The `XADD` of a `disconnected`, done only by whom it is up to.
    pub(super) fn tell(&self, lease: &str, id: Uuid, taken: bool, xadd: &Cmd) -> Cmd {
        let mut arguments = xadd
            .args_iter()
            .skip(1)
            .filter_map(|argument| match argument {
                Arg::Simple(bytes) => Some(bytes),
                _ => None,
            });
        let stream = arguments.next().unwrap_or_default();
        let mut command = cmd("EVAL");
        command
            .arg(if taken { TELL_TAKEN } else { TELL })
            .arg(3)
            .arg(self.conns(lease))
            .arg(self.lost(lease))
            .arg(stream)
            .arg(id.to_string());
        for argument in arguments {
            command.arg(argument);
        }
        command
    }
}

fn timed(text: &str, keys: &[String], arguments: impl ToRedisArgs) -> Cmd {
    script(&format!("{NOW}{text}"), keys, arguments)
}

fn script(text: &str, keys: &[String], arguments: impl ToRedisArgs) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(text).arg(keys.len()).arg(keys).arg(arguments);
    command
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The gateway that a lease is of: the lease is its id, a slash, and a UUID for the process.
pub(super) fn node_of(lease: &str) -> &str {
    lease.rsplit_once('/').map_or(lease, |(node, _)| node)
}

/// A lease for a process that begins, or begins anew.
pub(super) fn new_lease(node_id: &str) -> Arc<str> {
    format!("{node_id}/{}", Uuid::now_v7()).into()
}
