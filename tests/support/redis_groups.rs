//! Redis servers that belong together: a cluster, and a primary with a replica and a Sentinel.

use redis::FromRedisValue;

use super::{POLL, Redis, RedisSetup, within};

/// Hash slots of a cluster.
const SLOTS: u32 = 16_384;

/// A cluster of three primaries.
pub struct RedisCluster {
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts the servers and waits until each knows that the cluster is whole.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let bus = super::free_port();
            let node = RedisSetup::default()
                .line("cluster-enabled yes")
                .line(&format!("cluster-port {bus}"))
                .line("cluster-node-timeout 2000")
                .durable()
                .start()
                .await;
            nodes.push((node, bus));
        }
        let third = SLOTS / 3;
        for (n, (node, _)) in (0_u32..).zip(&nodes) {
            let first = (n * third).to_string();
            let last = if n == 2 {
                SLOTS - 1
            } else {
                (n + 1) * third - 1
            }
            .to_string();
            node.command::<()>("CLUSTER", &["ADDSLOTSRANGE", &first, &last])
                .await;
            let epoch = (n + 1).to_string();
            node.command::<()>("CLUSTER", &["SET-CONFIG-EPOCH", &epoch])
                .await;
        }
        for (node, bus) in &nodes[1..] {
            let (port, bus) = (node.port().to_string(), bus.to_string());
            nodes[0]
                .0
                .command::<()>("CLUSTER", &["MEET", "127.0.0.1", &port, &bus])
                .await;
        }
        let nodes = nodes.into_iter().map(|(node, _)| node).collect();
        let cluster = Self { nodes };
        cluster.whole().await;
        cluster
    }

    /// Waits until each node knows that the cluster is whole.
    pub async fn whole(&self) {
        for node in &self.nodes {
            within("the cluster to be whole", async {
                loop {
                    let info: String = node.command("CLUSTER", &["INFO"]).await;
                    if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                        return;
                    }
                    tokio::time::sleep(POLL).await;
                }
            })
            .await;
        }
    }

    /// The address of the whole.
    pub fn dsn(&self) -> String {
        let hosts: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis://{}?cluster=1", hosts.join(","))
    }

    /// The node that has a key.
    pub async fn node_of(&self, key: &str) -> &Redis {
        let slot: u32 = self.nodes[0].command("CLUSTER", &["KEYSLOT", key]).await;
        &self.nodes[usize::try_from(slot / (SLOTS / 3)).unwrap().min(2)]
    }

    /// Sends a command to the node that has a key.
    pub async fn command<T: FromRedisValue>(&self, key: &str, name: &str, arguments: &[&str]) -> T {
        self.node_of(key).await.command(name, arguments).await
    }
}

/// A primary, a replica, and a Sentinel that watches them.
pub struct RedisSentinel {
    pub primary: Redis,
    pub replica: Redis,
    pub sentinel: Redis,
}

impl RedisSentinel {
    /// Starts all three and waits until the replica follows.
    pub async fn start() -> Self {
        let primary = RedisSetup::default().start().await;
        let replica = RedisSetup::default()
            .line(&format!("replicaof 127.0.0.1 {}", primary.port()))
            .line("repl-diskless-sync-delay 0")
            .start()
            .await;
        let setup = RedisSetup::default()
            .line(&format!(
                "sentinel monitor main 127.0.0.1 {} 1",
                primary.port()
            ))
            .line("sentinel down-after-milliseconds main 500")
            .line("sentinel failover-timeout main 2000");
        let sentinel = setup.prepare_sentinel();
        sentinel.up_as_sentinel().await;
        within("the Sentinel to know the replica", async {
            loop {
                let known: Vec<redis::Value> =
                    sentinel.command("SENTINEL", &["REPLICAS", "main"]).await;
                let link: String = replica.command("INFO", &["replication"]).await;
                if !known.is_empty() && link.contains("master_link_status:up") {
                    return;
                }
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
        Self {
            primary,
            replica,
            sentinel,
        }
    }

    /// The address of whichever is the primary.
    pub fn dsn(&self) -> String {
        format!(
            "redis://127.0.0.1:{}/0?sentinel_master=main",
            self.sentinel.port()
        )
    }
}
