//! Each kind of key of a live run is deleted: the audit makes it again where the run's state says what it was, and fails
//! the run with a reason where it does not.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::history::Kind;
use stepfleet::run::{Run, Status};
use stepfleet::step::{Call, Claimed, Commit, Failure, Fan, Join, Outcome, Route};
use stepfleet::store::{Audit, Breach, Start, Store, Tick};
use stepfleet_coordinator::Config;
use stepfleet_integration_tests::double::{self, call, join_fleet, refill, route, slots, start};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use tokio_util::sync::CancellationToken;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const HOUR: Duration = Duration::from_secs(3600);

fn emits(count: usize) -> Vec<(Route, Vec<u8>)> {
    (0..count).map(|_| (route("next"), vec![1, 0xc0])).collect()
}

/// A run with something of each kind, and the means to go on with it.
struct Stage {
    fleet: Fleet,
    calls: u64,
}

impl Stage {
    async fn new() -> Self {
        let stage = Self { fleet: Fleet::new().await, calls: 0 };
        join_fleet(stage.store(), "a", HOUR).await;
        stage.store().start(&start("r")).await.unwrap();
        stage
    }

    fn store(&self) -> &dyn Store {
        &*self.fleet.store
    }

    fn call(&mut self) -> Call {
        self.calls += 1;
        call("a", self.calls, false)
    }

    async fn claim(&mut self, most: usize) -> Vec<Claimed> {
        let call = self.call();
        self.store().claim(&call, &slots(&call, most)).await.unwrap().unwrap_or_default()
    }

    async fn complete(&mut self, step: &Claimed, commit: Commit) -> Outcome {
        let (call, commit) = (self.call(), Commit { retention: HOUR, ..commit });
        double::complete(self.store(), &call, step, &commit, 0).await.0
    }

    async fn retry(&mut self, step: &Claimed, delay: Duration) {
        let (call, failure) = (self.call(), Failure::Retry { delay, error: "e".into() });
        self.store().fail(&call, step, &failure, &refill(0)).await.unwrap();
    }

    async fn tick(&self) {
        self.store().tick(&double::tick(&[])).await.unwrap();
    }

    /// A whole audit: looks first, which must change nothing, then mends, then looks again.
    async fn audit(&self) -> Vec<String> {
        let told = self.slices(false).await;
        assert_eq!(told, self.slices(false).await, "a look has changed something");
        let mended = self.slices(true).await;
        // One mend may settle several.
        assert!(!mended.is_empty() || told.is_empty());
        assert!(mended.iter().all(|breach| told.contains(breach)), "{mended:?} was not told of in {told:?}");
        assert_eq!(self.slices(false).await, [] as [Breach; 0], "nothing is left to mend");
        told.into_iter().map(|breach| format!("{}: {}", breach.of, breach.what)).collect()
    }

    async fn slices(&self, repair: bool) -> Vec<Breach> {
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let slice = Audit { repair, from: at, max_losses: 3, retention: HOUR };
            let audited = self.store().audit(&slice).await.unwrap();
            found.extend(audited.breaches);
            from = audited.next;
        }
        // SCAN lists keys in no order.
        found.sort_by(|a, b| (&a.of, &a.what).cmp(&(&b.of, &b.what)));
        found
    }

    async fn delete(&self, key: &str) {
        let mut redis = self.fleet.redis.connection().await;
        let key = format!("sf:{{0}}:{key}");
        let deleted: u64 = redis::cmd("DEL").arg(&key).query_async(&mut redis).await.unwrap();
        assert_eq!(deleted, 1, "{key} was not there");
    }

    async fn run(&self) -> Run {
        self.store().run("r").await.unwrap().unwrap()
    }

    /// Stops at the next step that can be had.
    async fn end(&mut self) {
        let step = self.claim(1).await.pop().expect("something to begin");
        assert_eq!(
            self.complete(&step, Commit { result: Some(b"1".to_vec()), ..Commit::default() }).await,
            Outcome::Committed
        );
        assert_eq!(self.run().await.status, Status::Completed);
        assert_eq!(self.audit().await, [] as [&str; 0]);
    }
}

#[tokio::test]
async fn a_run_with_nothing_amiss_has_no_breach() {
    let mut stage = Stage::new().await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "queued");
    let step = stage.claim(1).await.remove(0);
    assert_eq!(stage.audit().await, [] as [&str; 0], "held");
    stage.retry(&step, HOUR).await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "waiting");
}

#[tokio::test]
async fn the_queue_is_deleted() {
    let mut stage = Stage::new().await;
    stage.delete("queue:w:1").await;
    assert_eq!(stage.audit().await, ["r: step execution 1 is queued and not in its queue"]);
    let kinds: Vec<Kind> = stage.store().history("r", 0, 10).await.unwrap().into_iter().map(|r| r.kind).collect();
    assert_eq!(kinds, [Kind::Start, Kind::Repaired]);
    stage.end().await;
}

#[tokio::test]
async fn the_names_of_the_queues_that_have_entries_are_deleted() {
    for again in [false, true] {
        let mut stage = Stage::new().await;
        if again {
            let step = stage.claim(1).await.remove(0);
            assert_eq!(stage.store().release("a", std::slice::from_ref(&step.fence)).await.unwrap(), 1);
        }
        let (set, queue) = if again { ("urgent", "requeued:w:1") } else { ("ready", "queue:w:1") };
        stage.delete(set).await;
        assert!(stage.claim(1).await.is_empty(), "nobody looks there");
        assert_eq!(stage.audit().await, [format!("r: {queue} has entries and is not named as such")]);
        stage.end().await;
    }
}

#[tokio::test]
async fn what_the_classes_of_workers_serve_is_deleted() {
    for kind in ["serves:", "classes:"] {
        let mut stage = Stage::new().await;
        let mut redis = stage.fleet.redis.connection().await;
        let pattern = format!("sf:{{0}}:{kind}*");
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
        assert_eq!(keys.len(), 1);
        stage.delete(keys[0].strip_prefix("sf:{0}:").unwrap()).await;
        assert_eq!(stage.audit().await, ["a: the worker would be given nothing of the queue w:1"]);
        stage.end().await;
    }
}

#[tokio::test]
async fn the_connections_of_the_workers_are_deleted() {
    let mut stage = Stage::new().await;
    let mut lease = stage.store().lease("a", HOUR).await.unwrap();
    lease.heartbeat().await.unwrap();
    let step = stage.claim(1).await.remove(0);
    stage.delete("clients").await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "one of the next heartbeats names it again");
    for _ in 0..4 {
        lease.heartbeat().await.unwrap();
    }
    assert!(stage.store().disconnected().await.unwrap().is_empty());
    drop(lease);
    // Closing takes a moment.
    let closed = async {
        loop {
            let suspects = stage.store().disconnected().await.unwrap();
            if !suspects.is_empty() {
                return suspects;
            }
        }
    };
    let suspects = tokio::time::timeout(Duration::from_secs(30), closed).await.expect("it is seen closed");
    let ticked = stage.store().tick(&Tick { suspects, ..double::tick(&[]) }).await.unwrap();
    assert_eq!((ticked.requeued, ticked.reaped), (1, vec!["a".to_owned()]));
    assert_eq!(stage.complete(&step, Commit::default()).await, Outcome::Fenced);
}

#[tokio::test]
async fn a_worker_is_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.delete("worker:a").await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "its lease says that it is there");
    let call = stage.call();
    let lost = stage.store().claim(&call, &slots(&call, 1)).await.unwrap();
    assert!(lost.is_none(), "it is told that it must begin anew");
    stage.store().tick(&double::tick(&["a"])).await.unwrap();
    assert_eq!(stage.complete(&step, Commit::default()).await, Outcome::Fenced);
    join_fleet(stage.store(), "a", HOUR).await;
    stage.end().await;
}

#[tokio::test]
async fn somebody_else_has_read_the_queue() {
    let mut stage = Stage::new().await;
    let mut redis = stage.fleet.redis.connection().await;
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg("workers").arg("stranger").arg("STREAMS").arg("sf:{0}:queue:w:1").arg(">");
    let read: redis::streams::StreamReadReply = read.query_async(&mut redis).await.unwrap();
    assert_eq!(read.keys[0].ids.len(), 1);
    assert_eq!(stage.audit().await, ["r: step execution 1 is queued and not in its queue"]);
    stage.end().await;
}

#[tokio::test]
async fn the_timers_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.retry(&step, Duration::from_millis(1)).await;
    stage.delete("timers").await;
    stage.tick().await;
    assert_eq!(stage.audit().await, ["r: step execution 1 waits for a timer that is not set"]);
    // It keeps its time, which is over by now.
    stage.tick().await;
    stage.end().await;
    stage.delete("timers").await;
    assert_eq!(stage.audit().await, ["r: it has ended and would never expire"]);
}

#[tokio::test]
async fn the_timer_of_a_timeout_is_deleted() {
    let stage = Stage::new().await;
    let timeout = Some(Duration::from_millis(1));
    stage.store().start(&Start { timeout, ..start("t") }).await.unwrap();
    stage.delete("timers").await;
    assert_eq!(stage.audit().await, ["t: its timeout is not set"]);
    stage.tick().await;
    let run = stage.store().run("t").await.unwrap().unwrap();
    let error = "the run did not end within its timeout of 1ms; active steps: first (1 queued)";
    assert_eq!(run.error.as_deref(), Some(error));
}

#[tokio::test]
async fn the_holds_of_a_live_worker_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.delete("held:a").await;
    assert_eq!(stage.audit().await, ["r: step execution 1 is not among the holds of its worker a"]);
    assert_eq!(stage.complete(&step, Commit { emits: emits(1), ..Commit::default() }).await, Outcome::Committed);
    stage.end().await;
}

#[tokio::test]
async fn the_leases_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.delete("leases").await;
    let told = stage.audit().await;
    assert!(told.contains(&"r: step execution 1 is held by worker a, which is not there".into()), "{told:?}");
    assert!(told.contains(&"a: the worker has no lease, and its holds were left behind".into()), "{told:?}");
    assert_eq!(stage.complete(&step, Commit::default()).await, Outcome::Fenced);
    join_fleet(stage.store(), "a", HOUR).await;
    stage.end().await;
}

#[tokio::test]
async fn the_steps_are_deleted() {
    let stage = Stage::new().await;
    stage.delete("steps:r").await;
    assert_eq!(stage.audit().await, ["r: its step executions are gone"]);
    let run = stage.run().await;
    assert_eq!(run.status, Status::Failed);
    assert_eq!(run.error.unwrap(), "the run cannot go on: its step executions are gone; start it again");
}

#[tokio::test]
async fn the_input_is_deleted_before_it_was_given_to_a_step() {
    let stage = Stage::new().await;
    stage.delete("input:r").await;
    assert_eq!(stage.audit().await, ["r: its input is gone"]);
    let run = stage.run().await;
    assert_eq!(run.status, Status::Failed);
    assert_eq!(run.error.unwrap(), "the run cannot go on: its input is gone; start it again");
}

#[tokio::test]
async fn the_input_is_deleted_after_that() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { emits: emits(1), ..Commit::default() }).await;
    stage.delete("input:r").await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "nobody needs it any more");
    stage.end().await;
}

#[tokio::test]
async fn the_run_and_its_input_are_deleted() {
    let stage = Stage::new().await;
    stage.delete("run:r").await;
    stage.delete("input:r").await;
    let told = stage.slices(true).await;
    assert!(told.iter().any(|breach| breach.what == "its hash with its status is gone"), "{told:?}");
    assert_eq!(stage.run().await.error.unwrap(), "the run cannot go on: its input is gone; start it again");
    assert_eq!(stage.audit().await, [] as [&str; 0]);
}

#[tokio::test]
async fn the_run_is_deleted_before_it_has_begun() {
    let mut stage = Stage::new().await;
    stage.delete("run:r").await;
    assert_eq!(stage.audit().await, ["r: its hash with its status is gone"]);
    let run = stage.run().await;
    assert_eq!((run.workflow.as_str(), run.version, &*run.input), ("w", 1, &b"{}"[..]));
    stage.end().await;
}

#[tokio::test]
async fn the_run_is_deleted_after_that() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { emits: emits(1), ..Commit::default() }).await;
    stage.delete("run:r").await;
    assert_eq!(stage.audit().await, ["r: its hash with its status is gone"]);
    let run = stage.run().await;
    assert_eq!((run.status, run.workflow.as_str(), run.version), (Status::Running, "w", 1));
    stage.end().await;
}

#[tokio::test]
async fn the_context_is_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    let commit = Commit { set: vec![("x".into(), vec![1, 7])], emits: emits(1), ..Commit::default() };
    stage.complete(&step, commit).await;
    stage.delete("context:r").await;
    assert_eq!(stage.audit().await, ["r: its context is gone"]);
    assert_eq!(stage.run().await.status, Status::Failed);
    assert!(stage.claim(1).await.is_empty());
}

#[tokio::test]
async fn a_context_that_its_steps_emptied_is_no_breach() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { set: vec![("x".into(), vec![1, 7])], emits: emits(1), ..Commit::default() }).await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { unset: vec!["x".into()], emits: emits(1), ..Commit::default() }).await;
    assert_eq!(stage.audit().await, [] as [&str; 0]);
    stage.end().await;
}

#[tokio::test]
async fn the_history_and_the_list_of_runs_are_deleted() {
    let mut stage = Stage::new().await;
    stage.delete("history:r").await;
    stage.delete("runs").await;
    assert_eq!(stage.audit().await, ["r: it is not in the list of runs", "r: its history is gone"]);
    assert_eq!(stage.store().runs(0, 10).await.unwrap().len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn joined_events_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    let fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 0 });
    stage.complete(&step, Commit { emits: emits(2), fan, ..Commit::default() }).await;
    let branch = stage.claim(1).await.remove(0);
    stage.complete(&branch, Commit { joins: vec![("join".into(), vec![1, 7])], ..Commit::default() }).await;
    assert_eq!(stage.audit().await, [] as [&str; 0]);
    stage.delete("joined:r:1:join").await;
    assert_eq!(stage.audit().await, ["r: events that waited to be joined are gone"]);
    assert_eq!(stage.run().await.status, Status::Failed);
}

#[tokio::test]
async fn the_list_of_what_goes_with_a_run_is_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    let fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 0 });
    stage.complete(&step, Commit { emits: emits(2), fan, ..Commit::default() }).await;
    let branch = stage.claim(1).await.remove(0);
    stage.complete(&branch, Commit { joins: vec![("join".into(), vec![1, 7])], ..Commit::default() }).await;
    stage.delete("extra:r").await;
    assert_eq!(stage.audit().await, ["r: its joined would be left behind"]);
    stage.end().await;
    let mut redis = stage.fleet.redis.connection().await;
    let left: bool = redis::cmd("EXISTS").arg("sf:{0}:joined:r:1:join").query_async(&mut redis).await.unwrap();
    assert!(!left);
}

#[tokio::test]
async fn branches_of_a_large_fan_out_and_their_place_in_the_queue_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    for offset in [0, 100] {
        stage.store().stage("a", &step.fence, offset, &emits(100)).await.unwrap();
    }
    assert_eq!(stage.audit().await, [] as [&str; 0], "staged, not committed");
    let fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 200 });
    stage.complete(&step, Commit { fan, ..Commit::default() }).await;
    stage.delete("queue:w:1").await;
    assert_eq!(stage.audit().await, ["r: the next branches of fan-out 1 are not in their queue"]);
    stage.delete("ready").await;
    assert_eq!(stage.audit().await, ["r: queue:w:1 has entries and is not named as such"]);
    assert!(!stage.claim(3).await.is_empty());
    stage.delete("fan:r:1").await;
    assert_eq!(stage.audit().await, ["r: branches of a fan-out that were not begun are gone"]);
    assert_eq!(stage.run().await.status, Status::Failed);
}

#[tokio::test]
async fn staged_branches_that_vanish_before_their_commit_are_asked_for_again() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.store().stage("a", &step.fence, 0, &emits(100)).await.unwrap();
    stage.delete("fan:r:1").await;
    let fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 100 });
    let commit = Commit { fan, ..Commit::default() };
    assert_eq!(stage.complete(&step, commit.clone()).await, Outcome::Unstaged);
    stage.store().stage("a", &step.fence, 0, &emits(100)).await.unwrap();
    assert_eq!(stage.complete(&step, commit).await, Outcome::Committed);
}

#[tokio::test]
async fn what_a_run_that_is_no_more_left_behind_is_removed() {
    let stage = Stage::new().await;
    stage.delete("run:r").await;
    stage.delete("steps:r").await;
    assert_eq!(stage.audit().await, ["r: its history was left behind", "r: its input was left behind"]);
    let mut redis = stage.fleet.redis.connection().await;
    let mut add = redis::cmd("XADD");
    let _: String = add.arg("sf:{0}:events:r").arg(&["*", "kind", "event"]).query_async(&mut redis).await.unwrap();
    assert_eq!(stage.audit().await, ["r: its events was left behind"]);
    let left: u64 = redis::cmd("EXISTS").arg("sf:{0}:events:r").query_async(&mut redis).await.unwrap();
    assert_eq!(left, 0);
}

/// Keys vanish under the feet of a fleet at work, again and again; its coordinators audit all the time.
#[tokio::test]
async fn a_fleet_at_work_ends_every_run() {
    let fleet = Fleet::new().await;
    let _workers: Vec<Process> = (0..3).map(|_| fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "4")])).collect();
    let _coordinators: Vec<_> = (0..2)
        .map(|_| fleet.coordinator_with(Config { audit: Duration::from_millis(50), ..Config::default() }))
        .collect();
    fleet.workers_ready(3).await;
    let mut runs = Vec::new();
    for n in 0..12 {
        runs.push(fleet.client.start("loop", &json!({ "n": 200 })).id(format!("l-{n}")).send().await.unwrap());
    }
    let done = CancellationToken::new();
    let vandal = tokio::spawn(vandalise(fleet.redis.url.clone(), done.clone()));
    for run in &runs {
        // What cannot be made again ends the run with a reason; what can, ends it well.
        let ended: Result<Value, _> = run.result(Duration::from_secs(120)).await;
        if let Err(error) = ended {
            assert!(error.to_string().contains("cannot go on"), "{}: {error}", run.id());
        }
    }
    done.cancel();
    assert!(vandal.await.unwrap() > 5);
}

async fn vandalise(url: String, done: CancellationToken) -> u64 {
    let client = redis::Client::open(url).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let mut deeds = 0;
    for kind in [
        "queue:loop:3",
        "requeued:loop:3",
        "timers",
        "held:",
        "leases",
        "runs",
        "queues",
        "ready",
        "urgent",
        "serves:",
        "classes:",
        "clients",
        "idle:",
        "wake:",
    ]
    .iter()
    .cycle()
    {
        if done.run_until_cancelled(tokio::time::sleep(Duration::from_millis(30))).await.is_none() {
            break;
        }
        let pattern = format!("sf:{{0}}:{kind}*");
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
        for key in keys {
            let _: u64 = redis::cmd("DEL").arg(key).query_async(&mut redis).await.unwrap();
            deeds += 1;
        }
    }
    deeds
}

/// A fleet's operator looks, and has it mended.
#[tokio::test]
async fn the_doctor_tells_of_breaches_and_mends_them_when_asked() {
    let stage = Stage::new().await;
    stage.delete("queue:w:1").await;
    let doctor = async |arguments: &[&str]| {
        let mut all = vec!["--redis", stage.fleet.redis.url.as_str(), "--json", "doctor", "--runs"];
        all.extend_from_slice(arguments);
        let mut process = Process::start(std::path::Path::new(STEPFLEET), &all, &[]);
        let code = process.ended().await;
        (code.success(), serde_json::from_str::<Value>(&process.log()).unwrap())
    };
    let (fine, found) = doctor(&[]).await;
    assert!(!fine);
    assert_eq!(found["breaches"], json!([{ "of": "r", "what": "step execution 1 is queued and not in its queue" }]));
    assert_eq!(found["repaired"], false);
    let (fine, found) = doctor(&["--repair"]).await;
    assert!(fine);
    assert_eq!((found["breaches"].as_array().unwrap().len(), &found["repaired"]), (1, &json!(true)));
    assert_eq!(found["repaired_ever"], 1, "the look before it was none");
    let (fine, found) = doctor(&[]).await;
    assert!(fine);
    assert_eq!(found["breaches"], json!([]));
}
