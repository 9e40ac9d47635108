//! A Redis Cluster of a few masters for one test. The test can move its slots by hand, step by step.

use std::collections::BTreeSet;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, cmd};

use crate::authority::Protection;
use crate::redis::{TestRedis, scheme};
use crate::{LONGEST, Patience, until};

const SLOTS: u32 = 16_384;
const SETTINGS: [&str; 4] = ["--cluster-enabled", "yes", "--cluster-node-timeout", "3000"];

/// Its masters, local processes; they end with the value.
pub struct Cluster {
    /// The masters: the first has the lowest slots.
    pub nodes: Vec<TestRedis>,
    /// A replica of each, in the same order; none unless it was started [with them](Cluster::with_replicas).
    pub replicas: Vec<TestRedis>,
    tls: Option<Arc<Protection>>,
}

/// A slot on its way from one master to another.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    slot: u16,
    from: usize,
    to: usize,
}

impl Cluster {
    /// Starts a cluster of three masters and waits until all agree that it is in order.
    pub async fn start() -> Self {
        Self::of(3).await
    }

    /// As [`Cluster::start`], with this many masters. Each has the slots that `redis-cli --cluster create` would give it.
    pub async fn of(masters: u32) -> Self {
        Self::with(masters, &SETTINGS).await
    }

    /// As [`Cluster::of`], with these settings, which include `--cluster-enabled`.
    pub async fn with(masters: u32, settings: &'static [&'static str]) -> Self {
        Self::make(masters, settings, None).await
    }

    async fn make(masters: u32, settings: &'static [&'static str], tls: Option<Arc<Protection>>) -> Self {
        let first = |node: u32| (SLOTS * node + masters / 2) / masters;
        let mut nodes = Vec::new();
        for master in 0..masters {
            let (first, last) = (first(master), first(master + 1) - 1);
            let node = TestRedis::process_like(settings, tls.as_ref()).await;
            let mut connection = node.connection().await;
            ask::<()>(&mut connection, cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(first).arg(last)).await;
            nodes.push(node);
        }
        let cluster = Self { nodes, replicas: Vec::new(), tls };
        for other in 1..cluster.nodes.len() {
            cluster.ask::<()>(0, cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(cluster.port(other))).await;
        }
        cluster.wait_until_ready().await;
        cluster
    }

    /// As [`Cluster::start`], with a replica of each master.
    pub async fn with_replicas() -> Self {
        Self::start().await.replicated().await
    }

    /// As [`Cluster::with_replicas`], of servers that speak nothing but TLS.
    pub async fn over_tls(tls: Arc<Protection>) -> Self {
        Self::make(3, &SETTINGS, Some(tls)).await.replicated().await
    }

    async fn replicated(self) -> Self {
        let mut cluster = self;
        for _ in 0..cluster.nodes.len() {
            let replica = TestRedis::process_like(&SETTINGS, cluster.tls.as_ref()).await;
            let port = port_of(&replica);
            cluster.ask::<()>(0, cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(port)).await;
            cluster.replicas.push(replica);
        }
        cluster.wait_until_ready().await;
        for (node, replica) in cluster.replicas.iter().enumerate() {
            let mut connection = replica.connection().await;
            ask::<()>(&mut connection, cmd("CLUSTER").arg("REPLICATE").arg(cluster.id(node).await)).await;
            until(async || replication(&mut connection).await.contains("master_link_status:up")).await;
        }
        // A master counts its replicas when their votes are asked for; the others must have heard of them before.
        for node in &cluster.nodes {
            let mut connection = node.connection().await;
            let knows = async || {
                let told: String = ask(&mut connection, cmd("CLUSTER").arg("NODES")).await;
                told.lines().filter(|line| line.contains("slave")).count() == cluster.replicas.len()
            };
            until(knows).await;
        }
        cluster
    }

    /// Waits until the replica of a master has taken its place.
    pub async fn wait_for_replica_of(&self, node: usize) {
        let mut connection = self.replicas[node].connection().await;
        until(async || replication(&mut connection).await.contains("role:master")).await;
    }

    /// What a fleet is told: `redis+cluster://...` with all masters, and without options.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = (0..self.nodes.len()).map(|node| self.address(node)).collect();
        format!("{}+cluster://{}", scheme(self.tls.as_deref()), addresses.join(","))
    }

    /// `host:port` of a master.
    pub fn address(&self, node: usize) -> String {
        self.nodes[node].address().to_owned()
    }

    fn port(&self, node: usize) -> String {
        port_of(&self.nodes[node])
    }

    /// Sends one command to one master.
    ///
    /// # Panics
    /// If the master answers with an error.
    pub async fn ask<T: FromRedisValue>(&self, node: usize, command: &Cmd) -> T {
        ask(&mut self.nodes[node].connection().await, command).await
    }

    /// The index of the master that says that it owns a slot.
    pub async fn owner(&self, slot: u16) -> usize {
        for node in 0..self.nodes.len() {
            let info: String = self.ask(node, cmd("CLUSTER").arg("NODES")).await;
            let myself = info.lines().find(|line| line.contains("myself")).expect("a node knows itself");
            let owns = |range: &str| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            };
            if myself.split(' ').skip(8).any(owns) {
                return node;
            }
        }
        panic!("nobody owns slot {slot}");
    }

    /// The keys of a slot that one master has.
    pub async fn keys(&self, node: usize, slot: u16) -> BTreeSet<String> {
        self.ask(node, cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(1_000_000)).await
    }

    /// How often a master has answered with errors of this code (`ASK`, `MOVED`).
    pub async fn errors(&self, node: usize, code: &str) -> u64 {
        let stats: String = self.ask(node, cmd("INFO").arg("errorstats")).await;
        let count = stats.lines().find_map(|line| line.strip_prefix(&format!("errorstat_{code}:count=")));
        count.map_or(0, |count| count.trim().parse().expect("a count"))
    }

    /// Begins to move a slot. Its keys are still where they were.
    pub async fn begin_move(&self, slot: u16, to: usize) -> Move {
        let from = self.owner(slot).await;
        let (source, target) = (self.id(from).await, self.id(to).await);
        self.set_slot(to, slot, "IMPORTING", &source).await;
        self.set_slot(from, slot, "MIGRATING", &target).await;
        Move { slot, from, to }
    }

    /// Moves this many of the remaining keys.
    ///
    /// # Panics
    /// If the target has a key already (`BUSYKEY`): somebody has written there.
    pub async fn move_keys(&self, moving: Move, count: usize) {
        let keys: Vec<String> =
            self.ask(moving.from, cmd("CLUSTER").arg("GETKEYSINSLOT").arg(moving.slot).arg(count)).await;
        if keys.is_empty() {
            return;
        }
        let mut migrate = cmd("MIGRATE");
        migrate.arg("127.0.0.1").arg(self.port(moving.to)).arg("").arg(0).arg(60_000).arg("KEYS").arg(keys);
        self.ask::<()>(moving.from, &migrate).await;
    }

    /// Moves the remaining keys and gives the slot to its new owner.
    pub async fn finish_move(&self, moving: Move) {
        while !self.keys(moving.from, moving.slot).await.is_empty() {
            self.move_keys(moving, 100).await;
        }
        let owner = self.id(moving.to).await;
        let others = (0..self.nodes.len()).filter(|node| ![moving.to, moving.from].contains(node));
        for node in [moving.to, moving.from].into_iter().chain(others) {
            self.set_slot(node, moving.slot, "NODE", &owner).await;
        }
    }

    async fn set_slot(&self, node: usize, slot: u16, state: &str, other: &str) {
        self.ask::<()>(node, cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(state).arg(other)).await;
    }

    async fn id(&self, node: usize) -> String {
        self.ask(node, cmd("CLUSTER").arg("MYID")).await
    }

    async fn wait_until_ready(&self) {
        let patience = Patience::new(LONGEST);
        let known = format!("cluster_known_nodes:{}\r", self.nodes.len() + self.replicas.len());
        for node in self.nodes.iter().chain(&self.replicas) {
            let mut connection = node.connection().await;
            let all = ["cluster_state:ok", "cluster_slots_assigned:16384", &known];
            loop {
                let info: String = ask(&mut connection, cmd("CLUSTER").arg("INFO")).await;
                if all.iter().all(|line| info.contains(line)) {
                    break;
                }
                patience.pause(|| format!(" for {}: {info}", node.url)).await;
            }
        }
    }
}

fn port_of(server: &TestRedis) -> String {
    server.url.rsplit_once(':').expect("a port").1.to_owned()
}

async fn replication(connection: &mut MultiplexedConnection) -> String {
    ask(connection, cmd("INFO").arg("replication")).await
}

async fn ask<T: FromRedisValue>(connection: &mut MultiplexedConnection, command: &Cmd) -> T {
    command.query_async(connection).await.unwrap_or_else(|e| panic!("{command:?}: {e}"))
}
