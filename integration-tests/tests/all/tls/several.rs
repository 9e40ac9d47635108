//! Clusters and Sentinels whose servers speak nothing but TLS, and ask for certificates: also each other.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use serde_json::{Value, json};
use stepfleet_integration_tests::authority::{Authority, Protection, servers_speak_tls};
use stepfleet_integration_tests::cluster::Cluster;
use stepfleet_integration_tests::fleet::Process;
use stepfleet_integration_tests::sentinel::Sentinels;
use stepfleet_integration_tests::until;
use stepfleet_shared::client::{Client, RunHandle};
use stepfleet_shared::partition::partition_of;

use super::{LIMIT, STEPFLEET, WORKER, ends_untrusting, said};

/// A worker and a coordinator, processes both, and a caller.
struct Cast {
    client: Client,
    partitions: u16,
    processes: [Process; 2],
}

impl Cast {
    async fn on(url: &str) -> Self {
        let settings = [("STEPFLEET_REDIS", url), ("RUST_LOG", "info")];
        let coordinator = Process::start(Path::new(STEPFLEET), &["coordinator"], &settings);
        let worker = Process::start(Path::new(WORKER), &[], &settings);
        let client = Client::connect(url).unwrap();
        let workers = async || Some(client.partitions().await.ok()?.workers().await.ok()?.len());
        until(async || workers().await == Some(1)).await;
        let partitions = client.partitions().await.unwrap().count();
        Self { client, partitions, processes: [coordinator, worker] }
    }

    /// A run in each partition, `turns` long.
    async fn start(&self, name: &str, turns: u32) -> Vec<RunHandle> {
        let mut served = HashSet::new();
        let ids = (0..).map(|n| format!("{name}-{n}")).filter(|id| served.insert(partition_of(id, self.partitions)));
        let start = async |id| {
            // While a master is replaced, a caller asks again.
            let start = || self.client.start("loop", &json!({ "n": turns })).id(&id);
            until(async || start().enqueue().await.is_ok()).await;
            self.client.run(&id)
        };
        join_all(ids.take(usize::from(self.partitions)).map(start)).await
    }

    async fn all_end_well(&self, runs: &[RunHandle], turns: u32) {
        let ends = try_join_all(runs.iter().map(|run| run.result::<Value>(LIMIT))).await.unwrap();
        let answer = (turns + 1).to_string();
        assert!(ends.iter().all(|end| end["answer"] == *answer), "{ends:?}");
    }

    /// All are in the middle.
    async fn under_way(&self, runs: &[RunHandle]) {
        let partitions = self.client.partitions().await.unwrap();
        for run in runs {
            let records = async || partitions.of(run.id()).history(run.id(), 0, 100).await.map_or(0, |all| all.len());
            until(async || records().await >= 10).await;
        }
    }

    fn has_heard_of_new_masters(&self) {
        for process in &self.processes {
            assert!(
                process.log().contains("the masters, or the slots that they own, have changed"),
                "{}",
                process.log()
            );
        }
    }
}

/// Each who trusts another authority is told what one server would have it told, and ends. So is who has no certificate.
async fn strangers_are_told(url: &str, tls: &Protection) {
    let stranger = Authority::new();
    ends_untrusting(&format!("{url}?{}", tls.options_with(&stranger))).await;
    let options = tls.options();
    let only_ca = options.split('&').next().unwrap();
    let said = said(&format!("{url}?{only_ca}")).await;
    assert!(said.contains("fatal alert") && said.contains("?ca=FILE"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_works_on_a_cluster_over_tls_and_outlives_one_of_its_masters() {
    if !servers_speak_tls() {
        return;
    }
    let tls = Arc::new(Protection::new());
    let mut cluster = Cluster::over_tls(tls.clone()).await;
    strangers_are_told(&cluster.url(), &tls).await;
    let cast = Cast::on(&format!("{}?{}", cluster.url(), tls.options())).await;
    assert_eq!(cast.partitions, 16);
    cast.all_end_well(&cast.start("first", 3).await, 3).await;

    let runs = cast.start("load", 300).await;
    cast.under_way(&runs).await;
    // What no replica has yet is lost with its master; the runs should not be among that.
    cluster.nodes[2].wait_for_a_replica("{0}").await;
    cluster.nodes[2].kill();
    cluster.wait_for_replica_of(2).await;
    cast.all_end_well(&runs, 300).await;
    cast.all_end_well(&cast.start("late", 3).await, 3).await;
    cast.has_heard_of_new_masters();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_outlives_a_failover_of_sentinels_over_tls() {
    if !servers_speak_tls() {
        return;
    }
    let tls = Arc::new(Protection::new());
    let servers = Sentinels::over_tls(tls.clone()).await;
    strangers_are_told(&servers.url(), &tls).await;
    let cast = Cast::on(&format!("{}?{}", servers.url(), tls.options())).await;
    let runs = cast.start("load", 300).await;
    cast.under_way(&runs).await;
    servers.fail_over().await;
    servers.wait_for_master(1).await;
    cast.all_end_well(&runs, 300).await;
    for run in &runs {
        until(async || servers.has_ended(1, run.id()).await).await;
    }
    cast.all_end_well(&cast.start("late", 3).await, 3).await;
    cast.has_heard_of_new_masters();
}
