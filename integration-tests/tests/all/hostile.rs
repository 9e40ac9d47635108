//! Foreign data in our keys: a run whose state is damaged fails and says what is wrong with it; everything else
//! goes on.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stepfleet_coordinator::Config;
use stepfleet_integration_tests::double::{self, call, complete, join_fleet, refill, requested, slots, start};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::until;
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::step::{CallId, Checkpoint, Claimed, Commit, CommitStatus, Failure, Wait};
use stepfleet_shared::store::{Audit, Start, Started, Store};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const HOUR: Duration = Duration::from_secs(3600);

/// Two runs that are queued, `bad` first.
struct Stage {
    fleet: Fleet,
    redis: MultiplexedConnection,
    calls: u64,
}

impl Stage {
    async fn new() -> Self {
        let fleet = Fleet::new().await;
        let redis = fleet.redis.connection().await;
        let stage = Self { fleet, redis, calls: 0 };
        stage.join().await;
        for run in ["bad", "good"] {
            stage.store().start(&start(run)).await.unwrap();
        }
        stage
    }

    async fn join(&self) {
        join_fleet(self.store(), "a", HOUR).await;
    }

    fn store(&self) -> &dyn Store {
        &*self.fleet.store
    }

    async fn write(&mut self, command: &[&[u8]]) {
        let mut all = redis::cmd(std::str::from_utf8(command[0]).unwrap());
        for (at, argument) in command[1..].iter().enumerate() {
            let key = [b"sf:{0}:", *argument].concat();
            all.arg(if at == 0 { &key } else { *argument });
        }
        let _: redis::Value = all.query_async(&mut self.redis).await.unwrap();
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        call("a", self.calls, false)
    }

    async fn claim(&mut self, most: usize) -> Vec<Claimed> {
        let call = self.call();
        self.store().claim(&call, &slots(&call, most)).await.unwrap().unwrap_or_default().steps
    }

    async fn catch_up(&self, suspects: &[&str]) {
        double::catch_up(self.store(), suspects).await;
    }

    async fn audit(&self) -> Vec<String> {
        let (mut found, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let slice = Audit { repair: true, from: at, max_losses: 3, retention: HOUR };
            let audited = self.store().audit(&slice).await.unwrap();
            found.extend(audited.breaches.into_iter().map(|breach| format!("{}: {}", breach.of, breach.what)));
            from = audited.next;
        }
        found
    }

    async fn run(&self, id: &str) -> Run {
        self.store().run(id).await.unwrap().unwrap()
    }

    /// Asserts that the bad run has failed and says why, and that the good one ends.
    async fn assert_only_bad_fails(&mut self, held: Vec<Claimed>, why: &str) {
        let bad = self.run("bad").await;
        assert_eq!(bad.status, Status::Failed);
        assert!(bad.error.as_ref().unwrap().contains(why), "{:?} does not say {why:?}", bad.error);
        self.end_good(held).await;
    }

    async fn end_good(&mut self, mut held: Vec<Claimed>) {
        // Each call handles some of the foreign data.
        for _ in 0..5 {
            held.extend(self.claim(4).await);
        }
        let step = held.into_iter().find(|step| step.fence.run == "good").expect("the good run goes on");
        let (call, commit) =
            (self.call(), Commit { result: Some(b"1".to_vec()), retention: HOUR, ..Commit::default() });
        let (outcome, _) = complete(self.store(), &call, &step, &commit, 0).await;
        assert_eq!(outcome, CommitStatus::Committed);
    }
}

const GARBAGE: [&[u8]; 8] = [
    b"",
    b"x",
    b"Q",
    b"Q x y z",
    b"Q 999999999999999999999999 0 0 0 q1-0",
    b"\xff\xfe\x00",
    b"H 1 0 0 0",
    b"Z 1 0 0 0 q1-0",
];

#[tokio::test]
async fn states_that_cannot_be_read() {
    for garbage in GARBAGE {
        let mut stage = Stage::new().await;
        stage.write(&[b"HSET", b"steps:bad", b"1", garbage]).await;
        let claimed = stage.claim(1).await;
        assert!(claimed.iter().all(|step| step.fence.run != "bad"), "{garbage:?} was begun");
        stage.catch_up(&["a"]).await;
        stage.join().await;
        stage.audit().await;
        stage.assert_only_bad_fails(vec![], "cannot").await;
    }
}

#[tokio::test]
async fn events_and_descriptions_that_cannot_be_read() {
    let fields: [(&[u8], &[u8]); 9] = [
        (b"e1", b""),
        (b"e1", b"no line feed"),
        (b"e1", b"0 first c\n{}"),
        (b"e1", b"zero first c E\n{}"),
        (b"e1", b"0 fir\xffst c E\n{}"),
        (b"e1", b"0 first j E\nseven of nine"),
        (b"meta", b"w"),
        (b"meta", b"w one json"),
        (b"meta", b"w 1 xml"),
    ];
    for (field, garbage) in fields {
        let mut stage = Stage::new().await;
        stage.write(&[b"HSET", b"steps:bad", field, garbage]).await;
        let mut held = stage.claim(1).await;
        // Data that only workers read is reported by the worker that gets it.
        if let Some(at) = held.iter().position(|step| step.fence.run == "bad") {
            let step = held.remove(at);
            let damage = step.damage.clone().unwrap_or_else(|| panic!("{garbage:?} was begun"));
            let (call, failure) =
                (stage.call(), Failure::Fail { error: damage, retention: HOUR, forget: Vec::new(), upon: None });
            stage.store().fail(&call, &step, &failure, &refill(0)).await.unwrap();
        }
        stage.assert_only_bad_fails(held, "in Redis is damaged").await;
    }
}

#[tokio::test]
async fn a_state_that_is_damaged_while_it_is_held() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.write(&[b"HSET", b"steps:bad", b"1", b"H"]).await;
    let call = stage.call();
    let (outcome, _) = complete(stage.store(), &call, &step, &Commit::default(), 0).await;
    assert_eq!(outcome, CommitStatus::Fenced);
    assert_eq!(stage.audit().await, ["bad: step execution 1 cannot be read: its state is damaged"]);
    stage.assert_only_bad_fails(vec![], "in Redis is damaged").await;
}

#[tokio::test]
async fn an_event_that_is_damaged_while_its_worker_dies() {
    let mut stage = Stage::new().await;
    stage.claim(1).await;
    stage.write(&[b"HSET", b"steps:bad", b"e1", b"?"]).await;
    stage.catch_up(&["a"]).await;
    stage.join().await;
    stage.assert_only_bad_fails(vec![], "its event in Redis is damaged").await;
}

#[tokio::test]
async fn entries_that_nobody_of_us_wrote() {
    let mut stage = Stage::new().await;
    let stream = b"requeued:w:1";
    let entries: [&[&[u8]]; 9] = [
        &[b"bad", b"x"],
        &[b"bad", b"99"],
        &[b"bad", b""],
        &[b"\xff\xfe", b"1"],
        &[b"bad", b"f0"],
        &[b"bad", b"f"],
        &[b"nobody", b"f-1"],
        &[b"run", b"bad", b"seq", b"1"],
        &[b"colour", b"red"],
    ];
    for fields in entries {
        let mut command: Vec<&[u8]> = vec![b"XADD", stream, b"*"];
        command.extend_from_slice(fields);
        stage.write(&command).await;
    }
    stage.write(&[b"ZADD", b"timers", b"1", b"garbage"]).await;
    stage.write(&[b"ZADD", b"timers", b"1", b"step bad"]).await;
    stage.write(&[b"ZADD", b"timers", b"1", b"wait bad 1"]).await;
    stage.write(&[b"ZADD", b"timers", b"1", b"wait bad name seq"]).await;
    let holds: [&[u8]; 6] = [b"", b"garbage", b"1 o", b"1 o bad x 1", b"1 o bad 1 not-an-attempt", b"x o bad 1 1"];
    for (slot, garbage) in holds.iter().enumerate() {
        stage.write(&[b"HSET", b"held:a", slot.to_string().as_bytes(), garbage]).await;
    }
    stage.write(&[b"HSET", b"held:a", b"garbage", b"1 o bad 1 1"]).await;
    for set in [&b"ready"[..], b"urgent"] {
        stage.write(&[b"SADD", set, b"w:1", b"nonsense", b"\xff", b"", b"w:2"]).await;
    }
    stage.write(&[b"SADD", b"classes:w:1", b"nonsense", b"\xff"]).await;
    stage.write(&[b"SADD", b"idle:nonsense", b"nobody"]).await;
    stage.write(&[b"RPUSH", b"wake:a", b"garbage"]).await;
    stage.write(&[b"HSET", b"clients", b"a", b"garbage", b"nobody", b"7"]).await;
    stage.write(&[b"SADD", b"queues", b"timers"]).await;
    stage.write(&[b"SADD", b"queues", b"nonsense"]).await;
    stage.write(&[b"ZADD", b"runs", b"1", b"\xff"]).await;
    stage.write(&[b"HSET", b"workflows", b"w:1", b"{"]).await;
    stage.write(&[b"HSET", b"deferred", b"\xff", b"x"]).await;
    stage.write(&[b"RPUSH", b"history:bad", b"\xff\xfe"]).await;
    stage.catch_up(&["a"]).await;
    stage.join().await;
    assert!(stage.store().wake_reader("a").await.unwrap().next().await.unwrap());
    stage.audit().await;
    stage.store().holds("a").await.unwrap();
    stage.store().deferred().await.unwrap();
    stage.store().registrations().await.unwrap();
    stage.store().history("bad", 0, 10).await.unwrap();
    stage.end_good(vec![]).await;
    assert_eq!(stage.run("bad").await.status, Status::Running, "it was only talked about");
}

#[tokio::test]
async fn names_in_a_context_and_numbers_in_a_journal_that_nobody_of_us_wrote() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    let checkpoint = Checkpoint {
        set: vec![("x".into(), vec![1, 7])],
        entries: vec![(1, vec![1, 9])],
        waits: vec![Wait { number: 2, name: "n".into(), ..Wait::default() }],
        ..Checkpoint::default()
    };
    stage.store().checkpoint("a", &step.fence, &checkpoint).await.unwrap();
    stage.write(&[b"HSET", b"context:bad", b"\xff", b"y"]).await;
    stage.write(&[b"HSET", b"journal:bad:1", b"not a number", b"y"]).await;
    stage.catch_up(&["a"]).await;
    stage.join().await;
    let again = stage.claim(1).await.remove(0);
    assert_eq!(again.journal, [(1, vec![1, 9])]);
    assert_eq!(again.context.len(), 2);
    stage.end_good(vec![]).await;
}

/// Calls at the same time travel together.
#[tokio::test]
async fn a_damaged_list_of_runs_harms_the_starts_and_not_the_commits_beside_them() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    let commit = Commit { result: Some(b"1".to_vec()), retention: HOUR, ..Commit::default() };
    stage.write(&[b"SET", b"runs", b"mine"]).await;
    let call = stage.call();
    let store = stage.store();
    let [one, two, three] =
        &[requested(store, "one").await, requested(store, "two").await, requested(store, "three").await];
    let (_, second, third, (outcome, _)) =
        tokio::join!(store.start(one), store.start(two), store.start(three), complete(store, &call, &step, &commit, 0));
    assert_eq!(outcome, CommitStatus::Committed);
    for answer in [second, third] {
        assert!(matches!(answer, Ok(Started::Known(_)) | Err(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_timer_that_somebody_set_early_ends_no_run() {
    let mut stage = Stage::new().await;
    let timed = Start { timeout: Some(HOUR), ..start("timed") };
    stage.store().start(&timed).await.unwrap();
    stage.write(&[b"ZADD", b"timers", b"1", b"timeout timed"]).await;
    stage.catch_up(&[]).await;
    assert_eq!(stage.run("timed").await.status, Status::Queued);
}

#[tokio::test]
async fn a_run_never_removes_the_keys_of_others() {
    let mut stage = Stage::new().await;
    stage.write(&[b"SET", b"joined:good:1:join", b"1"]).await;
    stage.write(&[b"SADD", b"extra:bad", b"sf:{0}:joined:good:1:join", b"sf:{0}:run:good", b"mine"]).await;
    let _: () = redis::cmd("SET").arg("mine").arg(1).query_async(&mut stage.redis).await.unwrap();
    let step = stage.claim(1).await.remove(0);
    let (call, commit) = (stage.call(), Commit { result: Some(b"1".to_vec()), ..Commit::default() });
    complete(stage.store(), &call, &step, &commit, 0).await;
    // Its retention was nothing: its timer is due.
    stage.catch_up(&[]).await;
    assert!(stage.store().run("bad").await.unwrap().is_none());
    let keys = ["mine", "sf:{0}:run:good", "sf:{0}:joined:good:1:join"];
    let left: u64 = redis::cmd("EXISTS").arg(&keys).query_async(&mut stage.redis).await.unwrap();
    assert_eq!(left, 3);
}

/// Real workers and a coordinator keep working while somebody writes into their keys.
#[tokio::test]
async fn a_fleet_at_work_ends_every_run_and_lives_on() {
    let fleet = Fleet::new().await;
    let mut worker = fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "4")]);
    let _coordinator = fleet.coordinator_with(Config { audit: Duration::from_millis(20), ..Config::default() });
    fleet.workers_ready(1).await;
    let mut redis = fleet.redis.connection().await;
    for (n, garbage) in GARBAGE.iter().enumerate() {
        let id = format!("bad-{n}");
        let run = fleet.client.start("loop", &json!({ "n": 100_000 })).id(&id).enqueue().await.unwrap();
        until(async || fleet.store.history(&id, 0, 20).await.unwrap().len() >= 20).await;
        // The current step execution, and the one after it.
        let steps = format!("sf:{{0}}:steps:{id}");
        let last: u64 = redis::cmd("HGET").arg(&steps).arg("last").query_async(&mut redis).await.unwrap();
        for seq in last..last + 3 {
            let _: u64 = redis::cmd("HSET").arg(&steps).arg(seq).arg(*garbage).query_async(&mut redis).await.unwrap();
        }
        let ended = run.wait(Duration::from_secs(60)).await.unwrap();
        assert_eq!(ended.status, Status::Failed);
        assert!(ended.error.unwrap().contains("cannot"), "{garbage:?}");
    }
    let good = fleet.client.start("loop", &json!({ "n": 50 })).enqueue().await.unwrap();
    let answer: Value = good.result(Duration::from_secs(60)).await.unwrap();
    assert_eq!(answer["answer"], "51");
    worker.signal(stepfleet_integration_tests::fleet::Signal::TERM);
    assert!(worker.ended().await.success());
}
