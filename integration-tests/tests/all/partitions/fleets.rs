//! Some of everything, on fleets of processes, one server, several, and clusters.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use futures_util::future::join_all;
use redis::cmd;
use serde_json::{Value, json};
use stepfleet_integration_tests::cluster::Cluster;
use stepfleet_integration_tests::fleet::Process;
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::until;
use stepfleet_shared::Partitions;
use stepfleet_shared::client::{Client, RunHandle};
use stepfleet_shared::history::Kind;
use stepfleet_shared::partition::partition_of;
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{Store, Topology};

use super::{LIMIT, STEPFLEET, WORKER};

/// Two worker and two coordinator processes of a namespace with this many partitions.
struct Cast {
    url: String,
    partitions: Partitions,
    client: Client,
    workers: Vec<Process>,
    _coordinators: Vec<Process>,
}

impl Cast {
    async fn on(url: &str, count: Option<u16>) -> Self {
        let settings = [("STEPFLEET_REDIS", url), ("RUST_LOG", "info"), ("STEPFLEET_CONCURRENCY", "4")];
        // The workers come first: they wait for a coordinator to make the namespace.
        let workers: Vec<_> = (0..2).map(|_| Process::start(Path::new(WORKER), &[], &settings)).collect();
        let mut arguments = vec!["coordinator".to_owned()];
        arguments.extend(count.map(|count| format!("--partitions={count}")));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let coordinator = || Process::start(Path::new(STEPFLEET), &arguments, &settings);
        let coordinators = vec![coordinator(), coordinator()];
        let client = Client::connect(url).unwrap();
        until(async || count_of(&client).await > 0).await;
        let partitions = Partitions::find(&Topology::new(url).unwrap(), "sf").await.unwrap().unwrap();
        let cast = Self { url: url.to_owned(), partitions, client, workers, _coordinators: coordinators };
        cast.workers_serve_all(2).await;
        cast
    }

    async fn workers_serve_all(&self, count: usize) {
        let serves = async |store: &Arc<dyn Store>| store.workers().await.is_ok_and(|workers| workers.len() == count);
        until(async || join_all(self.partitions.all().iter().map(serves)).await.into_iter().all(|all| all)).await;
    }

    /// Writes to any inbox, like a caller that does not know about partitions.
    async fn request(&self, inbox: u16, fields: &[(&str, &str)]) -> String {
        let owned: Vec<_> = fields.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        self.partitions.get(inbox).enqueue(&owned).await.unwrap()
    }

    /// A partition other than the run's, if there is one.
    fn wrong_inbox(&self, run: &str) -> u16 {
        (partition_of(run, self.partitions.count()) + 1) % self.partitions.count()
    }

    async fn ends(&self, run: &str) -> Run {
        self.client.run(run).wait(LIMIT).await.unwrap_or_else(|error| panic!("{run}: {error}"))
    }

    /// Asserts that the run completed once, and that only its own partition knows it.
    async fn ended_once(&self, run: &str) {
        let ended = self.ends(run).await;
        assert_eq!(ended.status, Status::Completed, "{ended:?}");
        assert_eq!(ended.id, run);
        let history = self.partitions.of(run).history(run, 0, 10_000).await.unwrap();
        let times = |kind| history.iter().filter(|record| record.kind == kind).count();
        assert_eq!((times(Kind::Start), times(Kind::Completed)), (1, 1), "{run}: {history:?}");
        for store in self.partitions.all() {
            let is_own = store.namespace() == self.partitions.of(run).namespace();
            assert_eq!(store.run(run).await.unwrap().is_some(), is_own, "{run} in {:?}", store.namespace());
        }
    }

    async fn nothing_is_left(&self) {
        for store in self.partitions.on_redis() {
            let mut length = cmd("XLEN");
            length.arg(store.namespace().key("inbox"));
            until(async || store.command(&length).await.is_ok_and(|left| left == redis::Value::Int(0))).await;
        }
        let doctor = self.stepfleet(&["doctor", "--runs"]);
        assert!(doctor.0, "{}", doctor.1);
    }

    fn stepfleet(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(STEPFLEET).args(arguments).env("STEPFLEET_REDIS", &self.url).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

async fn count_of(client: &Client) -> usize {
    match client.partitions().await {
        Ok(partitions) => partitions.workers().await.map_or(0, |workers| workers.len()),
        Err(_) => 0,
    }
}

/// Some of everything; the second worker is killed in the middle.
async fn play(cast: &mut Cast, runs: usize) {
    let (mut ends, mut handles): (Vec<String>, Vec<RunHandle>) = (Vec::new(), Vec::new());
    for n in 0..runs {
        let chain = cast.client.start("chain", &json!({"n": n})).enqueue().await.unwrap();
        let squares = cast.client.start("squares", &json!({"count": 20})).id(format!("squares-{n}"));
        let long = cast.client.start("loop", &json!({"n": 40})).id(format!("loop-{n}")).enqueue().await.unwrap();
        handles.extend([chain, squares.enqueue().await.unwrap(), long]);
    }
    for n in 0..10 {
        asking(cast, n).await;
        ends.push(format!("asking-{n}"));
    }
    for n in 0..3 {
        let family = cast.client.start("family", &json!({"members": 10})).id(format!("family-{n}"));
        handles.push(family.enqueue().await.unwrap());
    }
    // Plain entries in every inbox, with an id and without one.
    for inbox in 0..cast.partitions.count() {
        let (id, n) = (format!("plain-{inbox}"), inbox.to_string());
        let begin = format!("{{\"n\":{n}}}");
        let wrong = cast.wrong_inbox(&id);
        cast.request(wrong, &[("op", "start"), ("workflow", "chain"), ("id", &id), ("input", &begin)]).await;
        let entry = cast.request(inbox, &[("op", "start"), ("workflow", "chain"), ("input", &begin)]).await;
        ends.push(id);
        ends.push(if inbox == 0 { entry } else { format!("{entry}-p{inbox}") });
    }
    cast.workers[1].kill();
    ends.extend(handles.iter().map(|handle| handle.id().to_owned()));
    for run in &ends {
        cast.ended_once(run).await;
    }
    let listed = cast.client.runs().list(10_000).await.unwrap();
    let (children, others): (Vec<_>, Vec<_>) = listed.iter().partition(|run| run.parent.is_some());
    assert_eq!((children.len(), others.len()), (30, ends.len()));
    for child in children {
        cast.ended_once(&child.id).await;
    }
    assert!(listed.is_sorted_by(|a, b| a.created_ms >= b.created_ms));
    cast.nothing_is_left().await;
}

/// A run that begins with the context of another, usually in another partition, and gets two signals through the wrong inbox.
async fn asking(cast: &Cast, n: usize) {
    let (source, run) = (format!("loop-{n}"), format!("asking-{n}"));
    cast.ends(&source).await;
    let start = cast.client.start("asking", &json!({"n": n})).context(&json!({"n": 5})).context_from(&source);
    let handle = start.id(&run).enqueue().await.unwrap();
    until(async || handle.status().await.is_ok_and(|run| run.is_some())).await;
    for word in ["\"good\"", "\"morning\""] {
        let signal = [("op", "signal"), ("run", &run), ("name", "word"), ("input", word)];
        let inbox = cast.wrong_inbox(&run);
        let entry = cast.request(inbox, &signal).await;
        // Either of two coordinators may be the first to process its entry.
        until(async || cast.partitions.get(inbox).inbox_entry(&entry).await.is_ok_and(|left| left.is_none())).await;
    }
    let end: Value = handle.result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], format!("good morning {}", 5 + n));
    let turns = handle.snapshot().await.unwrap().unwrap().context["turns"].clone();
    assert_eq!(turns, json!(41));
}

/// One cancelled run, and requests that are rejected.
async fn refuse(cast: &Cast) {
    let handle = cast.client.start("asking", &json!({"n": 1})).id("stopped").enqueue().await.unwrap();
    until(async || handle.waits().await.is_ok_and(|waits| !waits.is_empty())).await;
    cast.request(cast.wrong_inbox("stopped"), &[("op", "cancel"), ("run", "stopped")]).await;
    assert_eq!(cast.ends("stopped").await.status, Status::Cancelled);
    let inbox = cast.wrong_inbox("oops");
    cast.request(inbox, &[("op", "start"), ("workflow", "chain"), ("id", "oops"), ("input", "{")]).await;
    let oops = cast.ends("oops").await;
    assert_eq!(oops.status, Status::Rejected);
    assert!(cast.partitions.of("oops").run("oops").await.unwrap().is_some());
    let store = cast.partitions.on_redis()[usize::from(inbox)].clone();
    let mut length = cmd("XLEN");
    length.arg(store.namespace().key("rejected"));
    until(async || store.command(&length).await.is_ok_and(|kept| kept == redis::Value::Int(1))).await;
    let missing =
        cast.client.start("chain", &json!({"n": 1})).id("orphan").context_from("nobody").enqueue().await.unwrap();
    let missing = missing.wait(LIMIT).await.unwrap();
    assert!(missing.error.unwrap().contains("which does not exist"));
}

/// The same key, again and again, through all inboxes at once.
async fn share_keys(cast: &Cast) {
    let count = cast.partitions.count();
    for key in 0..4 {
        let key = format!("key-{key}");
        let begin = |id: String, inbox: u16| {
            let key = key.clone();
            async move {
                let start =
                    [("op", "start"), ("workflow", "chain"), ("id", &id), ("key", &key), ("input", "{\"n\":3}")];
                cast.request(inbox, &start).await;
                id
            }
        };
        let asked = join_all((0..12).map(|n| begin(format!("{key}-{n}"), n % count))).await;
        let ended = join_all(asked.iter().map(|id| cast.ends(id))).await;
        let first = ended[0].id.clone();
        assert!(asked.contains(&first), "{first}");
        assert!(ended.iter().all(|run| run.id == first && run.status == Status::Completed), "{ended:?}");
        for id in &asked {
            let found = cast.partitions.of(id).run(id).await.unwrap();
            assert!(found.is_none_or(|run| run.id == first), "{id} is a run of its own");
        }
        cast.ended_once(&first).await;
    }
}

async fn all_of_it(url: &str, count: Option<u16>, partitions: u16, runs: usize) -> Cast {
    let mut cast = Cast::on(url, count).await;
    assert_eq!(cast.partitions.count(), partitions);
    let (fine, said) = cast.stepfleet(&["doctor"]);
    assert!(said.contains(&format!("partitions        {partitions}")), "{fine}: {said}");
    play(&mut cast, runs).await;
    refuse(&cast).await;
    share_keys(&cast).await;
    cast.nothing_is_left().await;
    let (fine, workers) = cast.stepfleet(&["workers", "--json"]);
    assert!(fine && serde_json::from_str::<Vec<Value>>(&workers).unwrap().len() == 1, "{workers}");
    cast
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_on_one_server() {
    let redis = TestRedis::start().await;
    all_of_it(&redis.url, None, 1, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_partitions_on_one_server() {
    let redis = TestRedis::start().await;
    all_of_it(&redis.url, Some(4), 4, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_partitions_on_one_server() {
    let redis = TestRedis::start().await;
    let _cast = all_of_it(&redis.url, Some(16), 16, 60).await;
    // Each process has one blocking connection and one that renews the leases, however many partitions there are.
    let clients: String = cmd("CLIENT").arg("LIST").query_async(&mut redis.connection().await).await.unwrap();
    let named = |name: &str| clients.lines().filter(|line| line.contains(&format!(" name=stepfleet-{name}-"))).count();
    assert_eq!((named("inbox"), named("lease"), named("idle")), (2, 1, 1), "{clients}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_three_masters() {
    let cluster = Cluster::start().await;
    all_of_it(&cluster.url(), None, 16, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_partitions_on_four_servers() {
    let cluster = Cluster::of(4).await;
    all_of_it(&cluster.url(), Some(4), 4, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_partitions_is_fixed() {
    let redis = TestRedis::start().await;
    let topology = Topology::new(&redis.url).unwrap();
    assert!(Partitions::find(&topology, "sf").await.unwrap().is_none());
    assert_eq!(Partitions::open(&topology, "sf", Some(4)).await.unwrap().count(), 4);
    assert_eq!(Partitions::open(&topology, "sf", None).await.unwrap().count(), 4);
    let refused = Partitions::open(&topology, "sf", Some(5)).await.unwrap_err();
    assert!(refused.is_invalid() && refused.to_string().contains("created with 4 partitions, not with 5"), "{refused}");
    assert!(Partitions::open(&topology, "other", Some(0)).await.unwrap_err().is_invalid());
    let mut coordinator = Command::new(STEPFLEET);
    coordinator.args(["coordinator", "--partitions", "2", "--allow-unpersisted"]).env("STEPFLEET_REDIS", &redis.url);
    let output = coordinator.output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("created with 4 partitions"), "{output:?}");
}
