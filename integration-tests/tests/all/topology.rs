//! A fleet on a Redis Cluster and behind Sentinels: partitions are where their slots are, the fleet waits while a slot
//! moves, and a failover strands no run.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::cmd;
use serde_json::{Value, json};
use stepfleet::Worker;
use stepfleet_coordinator::{Config, Coordinator};
use stepfleet_integration_tests::cluster::Cluster;
use stepfleet_integration_tests::fleet::Process;
use stepfleet_integration_tests::sentinel::Sentinels;
use stepfleet_integration_tests::until;
use stepfleet_integration_tests::workflows;
use stepfleet_shared::client::{Client, RunHandle};
use stepfleet_shared::history::Kind;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::run::Status;
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{RedisStore, Store, Topology};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(120);
/// The slot of partition 0, whose hash tag is `{0}`. The third master has it.
const SLOT: u16 = 13_907;
/// One for each master, the first one's first.
const PARTITIONS: [u16; 3] = [3, 1, 0];

/// Two worker and two coordinator processes on partition 0.
struct Cast {
    store: Arc<dyn Store>,
    client: Client,
    processes: Vec<Process>,
}

impl Cast {
    async fn on(url: &str) -> Self {
        let store: Arc<dyn Store> = Arc::new(RedisStore::new(url, Namespace::default()).unwrap());
        let settings = [
            ("STEPFLEET_REDIS", url),
            ("RUST_LOG", "info"),
            ("STEPFLEET_CONCURRENCY", "4"),
            ("STEPFLEET_PARTITIONS", "1"),
        ];
        let mut processes = Vec::new();
        for _ in 0..2 {
            processes.push(Process::start(Path::new(WORKER), &[], &settings));
            processes.push(Process::start(Path::new(STEPFLEET), &["coordinator"], &settings));
        }
        let this = Self { client: Client::with_store(store.clone()), store, processes };
        until(async || this.store.workers().await.is_ok_and(|workers| workers.len() == 2)).await;
        this
    }

    /// Long chains and a wide fan-out; returns when the fleet is in the middle of them.
    async fn load(&self, name: &str) -> Vec<RunHandle> {
        let mut handles = Vec::new();
        for n in 0..8 {
            let run = self.client.start("loop", &json!({ "n": 300 })).id(format!("{name}-{n}"));
            handles.push(run.enqueue().await.unwrap());
        }
        let wide = self.client.start("squares", &json!({ "count": 2000 })).id(format!("{name}-wide"));
        handles.push(wide.enqueue().await.unwrap());
        until(async || self.records(&format!("{name}-0")).await >= 30).await;
        handles
    }

    /// How long a run's history is; 0 while nobody can say.
    async fn records(&self, run: &str) -> usize {
        self.store.history(run, 0, 10_000).await.map_or(0, |records| records.len())
    }

    async fn all_end_well(&self, runs: &[RunHandle]) {
        for run in runs {
            let end: Value = run.result(LIMIT).await.unwrap_or_else(|e| panic!("{}: {e}", run.id()));
            let expected =
                if run.id().ends_with("-wide") { json!({ "count": 2000 }) } else { json!({ "answer": "301" }) };
            for (field, value) in expected.as_object().unwrap() {
                assert_eq!(&end[field], value, "{}", run.id());
            }
        }
    }

    /// From the histories: no step execution was committed twice, and none is missing.
    async fn each_step_was_committed_once(&self, runs: &[RunHandle]) {
        for run in runs {
            let history = self.store.history(run.id(), 0, 10_000).await.unwrap();
            let done: Vec<_> = history.iter().filter(|r| r.kind == Kind::Done).map(|r| r.seq).collect();
            let steps = if run.id().ends_with("-wide") { 2002 } else { 301 };
            assert_eq!(done.len(), steps, "{}: {history:?}", run.id());
            assert_eq!(done.iter().collect::<HashSet<_>>().len(), steps, "{}", run.id());
            assert_eq!(history.iter().filter(|r| r.kind == Kind::Start).count(), 1, "{}", run.id());
            assert_eq!(history.iter().filter(|r| r.kind == Kind::Completed).count(), 1, "{}", run.id());
            let blamed = history.iter().find(|r| matches!(r.kind, Kind::Retry | Kind::Failed | Kind::Repaired));
            assert_eq!(blamed, None, "{}", run.id());
        }
    }

    /// The test's own client may be redirected once to another master; then its request goes there.
    async fn new_work_goes_through(&self) {
        let late = || self.client.start("chain", &json!({ "n": 1 })).id("late");
        until(async || late().enqueue().await.is_ok()).await;
        assert_eq!(self.client.run("late").wait(LIMIT).await.unwrap().status, Status::Completed);
    }

    /// Not a line for each try.
    fn assert_no_flood(&self) {
        for process in &self.processes {
            let log = process.log();
            let complaints = log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).count();
            assert!(complaints < 40, "{complaints} complaints:\n{log}");
        }
    }
}

#[tokio::test]
async fn a_fleet_works_on_each_of_three_masters() {
    let cluster = Cluster::start().await;
    let topology = Topology::new(&cluster.url()).unwrap();
    let mut at_work = tokio::task::JoinSet::new();
    let mut clients = Vec::new();
    for partition in PARTITIONS {
        let store = || Arc::new(RedisStore::on(&topology, Namespace::new("sf", partition).unwrap()));
        let (worker, coordinator) =
            (Worker::new(store(), <_>::default()), Coordinator::new(store(), Config::default()));
        let worker = workflows::serve(worker, &cluster.nodes[0].url).unwrap();
        at_work.spawn(async move { worker.run_until(std::future::pending()).await.unwrap() });
        at_work.spawn(coordinator.run(std::future::pending()));
        clients.push((partition, Client::with_store(store())));
    }
    for (node, (partition, client)) in clients.iter().enumerate() {
        let wide = client.start("squares", &json!({ "count": 1000 })).id("wide").enqueue().await.unwrap();
        let long = client.start("loop", &json!({ "n": 40 })).id("long").enqueue().await.unwrap();
        assert_eq!(wide.result::<Value>(LIMIT).await.unwrap()["count"], 1000);
        assert_eq!(long.result::<Value>(LIMIT).await.unwrap()["answer"], "41");
        assert_eq!(topology.address_of(&format!("sf:{{{partition}}}:inbox")), Some(cluster.address(node)));
        let here: Vec<String> = cluster.ask(node, cmd("KEYS").arg("sf:*:run:*")).await;
        assert_eq!(here.len(), 2, "{here:?}");
    }
    assert!(topology.looks() < 20, "{} looks", topology.looks());
}

#[tokio::test]
async fn stores_of_one_server_share_a_connection() {
    let cluster = Cluster::start().await;
    let topology = Topology::new(&cluster.url()).unwrap();
    let id = async |partition| {
        let store = RedisStore::on(&topology, Namespace::new("sf", partition).unwrap());
        store.command(cmd("CLIENT").arg("ID")).await.unwrap()
    };
    // 0 and 4 are with the third master, 1 with the second.
    assert_eq!(topology.address_of("sf:{0}:x"), None, "nothing is asked before the first call");
    assert_eq!((id(0).await, topology.looks()), (id(4).await, 1));
    assert_eq!(topology.address_of("sf:{4}:x"), Some(cluster.address(2)));
    assert_eq!(topology.address_of("sf:{1}:x"), Some(cluster.address(1)));
}

#[tokio::test]
async fn a_slot_that_moves_under_load_is_waited_out() {
    let cluster = Cluster::start().await;
    let cast = Cast::on(&cluster.url()).await;
    for target in [0, 1] {
        let runs = cast.load(&format!("to-{target}")).await;
        let source = cluster.owner(SLOT).await;
        let moving = cluster.begin_move(SLOT, target).await;
        cluster.move_keys(moving, cluster.keys(source, SLOT).await.len() / 2).await;
        let (stayed, moved) = (cluster.keys(source, SLOT).await, cluster.keys(target, SLOT).await);
        assert!(stayed.len() > 5 && moved.len() > 5, "half of the keys have moved: {stayed:?}, {moved:?}");

        // All processes ask the old owner, and are redirected.
        let asked = cluster.errors(source, "ASK").await;
        until(async || cluster.errors(source, "ASK").await > asked + 100).await;
        assert_eq!(cluster.keys(target, SLOT).await, moved, "nothing was written where the slot is not yet");
        let left = cluster.keys(source, SLOT).await;
        assert!(left.is_subset(&stayed), "nothing was made anew at the source: {:?}", left.difference(&stayed));

        cluster.finish_move(moving).await;
        cast.all_end_well(&runs).await;
        cast.each_step_was_committed_once(&runs).await;
        for node in 0..3 {
            let keys = cluster.keys(node, SLOT).await.len();
            assert_eq!(keys > 0, node == target, "node {node} has {keys} keys of the slot");
        }
    }
    cast.assert_no_flood();
}

#[tokio::test]
async fn a_master_is_replaced_while_it_lives() {
    let servers = Sentinels::start().await;
    let cast = Cast::on(&servers.url()).await;
    let runs = cast.load("load").await;
    servers.fail_over().await;
    servers.wait_for_master(1).await;
    cast.all_end_well(&runs).await;
    // For ten seconds the old master does not know that it was replaced. Nobody may work there meanwhile.
    for run in &runs {
        until(async || servers.has_ended(1, run.id()).await).await;
    }
    let told = "the masters, or the slots that they own, have changed";
    assert!(cast.processes.iter().any(|process| process.log().contains(told)), "nobody has heard of the new master");

    // All processes are idle: their readers are blocked on the server that is now replaced.
    servers.wait_for_replica(0).await;
    servers.fail_over().await;
    servers.wait_for_master(0).await;
    cast.new_work_goes_through().await;
    until(async || servers.has_ended(0, "late").await).await;
    cast.assert_no_flood();
}

#[tokio::test]
async fn a_master_dies_under_load_and_its_replica_takes_over() {
    let mut servers = Sentinels::start().await;
    let cast = Cast::on(&servers.url()).await;
    let runs = cast.load("load").await;
    // Writes that no replica has yet are lost with their master; the runs should not be among them.
    servers.servers[0].wait_for_a_replica("{0}").await;
    servers.servers[0].kill();
    servers.wait_for_master(1).await;
    cast.all_end_well(&runs).await;

    // It comes back as a master with its old data, and nobody goes there.
    servers.servers[0].start_again().await;
    cast.new_work_goes_through().await;
    servers.wait_for_replica(0).await;
    cast.assert_no_flood();
}

#[tokio::test]
async fn a_master_of_a_cluster_dies_under_load_and_its_replica_takes_over() {
    let mut cluster = Cluster::with_replicas().await;
    let cast = Cast::on(&cluster.url()).await;
    let runs = cast.load("load").await;
    let owner = cluster.owner(SLOT).await;
    // Writes that no replica has yet are lost with their master; the runs should not be among them.
    cluster.nodes[owner].wait_for_a_replica("{0}").await;
    cluster.nodes[owner].kill();
    cluster.wait_for_replica_of(owner).await;
    cast.all_end_well(&runs).await;
    cast.new_work_goes_through().await;

    // It comes back, learns that it was replaced, and nobody goes there.
    cluster.nodes[owner].start_again().await;
    let role = async || cluster.ask::<String>(owner, cmd("INFO").arg("replication")).await;
    until(async || role().await.contains("master_link_status:up")).await;
    assert!(role().await.contains("role:slave"));
    cast.assert_no_flood();
}

#[tokio::test]
async fn many_calls_that_fail_make_few_looks() {
    let topology = Topology::new("redis+sentinel://127.0.0.1:1,127.0.0.1:2/main").unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for partition in 0..100 {
        let store = RedisStore::on(&topology, Namespace::new("sf", partition).unwrap());
        calls.spawn(async move {
            for _ in 0..50 {
                let error = store.now_ms().await.unwrap_err();
                assert!(error.is_unavailable() && error.to_string().contains("no Sentinel says"), "{error}");
            }
        });
    }
    calls.join_all().await;
    assert!(topology.looks() < 100, "{} looks for 5,000 calls", topology.looks());
}

#[tokio::test]
async fn a_url_of_a_single_cluster_node_is_refused_with_the_right_url() {
    let cluster = Cluster::start().await;
    let store = RedisStore::new(&cluster.nodes[0].url, Namespace::default()).unwrap();
    let error = store.run("x").await.unwrap_err();
    assert!(error.to_string().contains("write redis+cluster://"), "{error}");
}
