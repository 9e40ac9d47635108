//! What a step costs in four partitions on four servers.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use stepfleet_coordinator::{Config, Coordinator};
use stepfleet_integration_tests::cluster::Cluster;
use stepfleet_shared::store::Topology;
use stepfleet_shared::{Client, Partitions};
use tokio::task::JoinSet;

use crate::Fallible;
use crate::bench::{Effort, OFF, PATIENCE, Pass, Runs, Site, pass};
use crate::crew::Crew;
use crate::row::{Goal, Row};
use crate::serve::Serve;
use crate::usage::Usage;

const RUNS: u64 = 128;
const PARTITIONS: u16 = 4;
const CLUSTER: &[&str] = &["--cluster-enabled", "yes", "--appendonly", "no"];

/// A namespace of four partitions, each on a separate server, with a coordinator and a worker process.
struct Four {
    client: Client,
    crew: Crew,
    servers: Vec<MultiplexedConnection>,
    /// The coordinator; it ends with the value.
    _coordinator: JoinSet<()>,
    _cluster: Cluster,
}

impl Four {
    /// Like the arguments for a worker process of one partition, for each of four.
    async fn open(one: &Serve) -> Fallible<Self> {
        let cluster = Cluster::with(PARTITIONS.into(), CLUSTER).await;
        let topology = Topology::new(&cluster.url())?;
        let partitions = Partitions::open(&topology, "sf", Some(PARTITIONS)).await?;
        let coordinator = Coordinator::new(partitions.clone(), Config::default());
        let mut running = JoinSet::new();
        running.spawn(async move {
            coordinator.run(std::future::pending()).await;
        });
        let workflows = vec!["chain".to_owned()];
        let concurrency = usize::from(PARTITIONS) * one.concurrency;
        let serve = Serve { url: cluster.url(), workflows, workers: 1, concurrency };
        let crew = Crew::start(&serve)?;
        let until = Instant::now() + PATIENCE;
        for store in partitions.all() {
            while store.workers().await?.is_empty() {
                if Instant::now() > until {
                    return Err("the worker did not get ready in each partition".into());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let mut servers = Vec::new();
        for node in &cluster.nodes {
            servers.push(node.connection().await);
        }
        let client = Client::with_store(partitions);
        Ok(Self { client, crew, servers, _coordinator: running, _cluster: cluster })
    }

    /// Fails if a server has had less to do than its partition needs.
    async fn is_spread(&mut self, bodies: u64) -> Fallible<()> {
        for server in &mut self.servers {
            // A step needs several commands; one call may serve many steps.
            let commands = Usage::read(server).await?.commands;
            if commands < bodies / 4 {
                return Err(format!("a server has had {commands} commands for {bodies} steps").into());
            }
        }
        Ok(())
    }

    async fn pass(&mut self, runs: &Runs) -> Fallible<Pass> {
        pass(&self.client, &mut self.servers, &mut self.crew, runs).await
    }
}

/// The chain, compared with one partition on one server: each of the four has as many runs at once, and as many slots. A
/// machine of a few cores cannot do more steps a second with four servers; what a step costs is the same on any.
pub(super) async fn flat(effort: Effort) -> Fallible<Vec<Row>> {
    let mut one = Site::open(OFF).await?;
    let serve = one.serve(&["chain"]);
    let mut crew = one.crew(&serve, 1).await?;
    let turns = one.turns(&mut crew, effort, &Runs::of_turns("chain", RUNS, 10)).await?;
    let runs = Runs::of_turns("chain", RUNS, turns);
    let many = Runs::of_turns("chain", RUNS * u64::from(PARTITIONS), turns);
    let mut four = Four::open(&serve).await?;
    four.pass(&many).await?;
    four.is_spread(many.bodies).await?;
    let (mut on_redis, mut on_workers, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.times {
        let of_one = one.pass(&mut crew, &runs).await?;
        let of_four = four.pass(&many).await?;
        on_redis.push((of_four.cost.redis_us, of_four.cost.redis_us / of_one.cost.redis_us));
        on_workers.push((of_four.worker_us, of_four.worker_us / of_one.worker_us));
        costs.push(of_four.cost);
    }
    costs.sort_by(|a, b| a.redis_us.total_cmp(&b.redis_us));
    let row = |name, each| Row::named(name, Goal::AtMost(1.1)).measured("us/step", "x one partition", each);
    Ok(vec![
        row("partitions-redis", &on_redis).with_cost(costs[costs.len() / 2]),
        row("partitions-worker", &on_workers),
    ])
}
