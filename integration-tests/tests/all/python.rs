//! A worker and a caller in Python, written from docs/protocol.md alone, beside Rust.
//!
//! They need a Python 3 with redis-py, which `make test` installs with apt; without, the tests try pip, and then say that they did
//! not run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime;
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::found;
use stepfleet_integration_tests::proxy::Proxy;
use stepfleet_shared::history::{Kind, Record};
use stepfleet_shared::run::Status;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);
const SLOTS: usize = 4;
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

/// A Python that has redis-py, and its module path.
pub(super) struct Python {
    program: PathBuf,
    path: String,
}

/// The first one that has it; otherwise pip installs it, once for all tests.
pub(super) static PYTHON: LazyLock<Option<Python>> = LazyLock::new(|| {
    let there = ["python3", "/usr/bin/python3"].map(|program| Python { program: program.into(), path: SOURCES.into() });
    let found = there.into_iter().find(Python::has_redis).or_else(Python::with_pip);
    if found.is_none() {
        eprintln!("NOT RUN: there is no Python 3 with redis-py, and pip cannot install it");
    }
    found
});

impl Python {
    fn has_redis(&self) -> bool {
        self.command(&["-c", "import redis"]).output().is_ok_and(|output| output.status.success())
    }

    fn with_pip() -> Option<Self> {
        let target = concat!(env!("CARGO_TARGET_TMPDIR"), "/python");
        let python = Self { program: "python3".into(), path: format!("{SOURCES}:{target}") };
        let pip = ["-m", "pip", "install", "--quiet", "--target", target, "redis==5.2.1"];
        let is_there =
            python.has_redis() || Command::new(&python.program).args(pip).status().is_ok_and(|s| s.success());
        is_there.then_some(python)
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("PYTHONPATH", &self.path).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn worker(&self, fleet: &Fleet) -> Process {
        self.worker_at(&fleet.redis.url)
    }

    fn worker_at(&self, url: &str) -> Process {
        let settings = [("PYTHONPATH", self.path.as_str()), ("PYTHONDONTWRITEBYTECODE", "1"), ("STEPFLEET_REDIS", url)];
        Process::start(&self.program, &[&format!("{SOURCES}/tasks.py")], &settings)
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Number {
    n: u64,
    gate: Option<PathBuf>,
}

#[derive(Event, Serialize, Deserialize)]
struct Doubled {
    n: u64,
    by: String,
}

/// As `double` in tasks.py.
struct Doubling;

#[workflow(start = Number, stop = Doubled, name = "doubled", version = 1)]
impl Doubling {
    #[step]
    async fn double(&self, number: Number) -> Outcome<Doubled> {
        while number.gate.as_ref().is_some_and(|gate| !gate.exists()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Doubled { n: 2 * number.n, by: "rust".into() })
    }
}

/// Served in Rust only.
struct Halving;

#[workflow(start = Number, stop = Doubled, name = "halved", version = 1)]
impl Halving {
    #[step]
    async fn halve(&self, number: Number) -> Outcome<Doubled> {
        Ok(Doubled { n: number.n / 2, by: "rust".into() })
    }
}

/// A worker in Rust, inside of the test's process, until the token is cancelled.
fn rust_worker(fleet: &Fleet) -> CancellationToken {
    let config = runtime::Config::default().name("rust").concurrency(SLOTS);
    let worker = Worker::new(fleet.another_store(), config).serve(Doubling).and_then(|worker| worker.serve(Halving));
    let (worker, stop) = (worker.expect("its workflows can work"), CancellationToken::new());
    let told = stop.clone().cancelled_owned();
    tokio::spawn(async move { worker.run_until(told).await.expect("it works until it is told to stop") });
    stop
}

/// The runs that a worker with this process id holds, once it holds as many as it can.
async fn full(fleet: &Fleet, pid: u32) -> HashSet<String> {
    found(async || {
        let workers = fleet.store.workers().await.unwrap();
        let worker = workers.into_iter().find(|worker| worker.pid == pid)?;
        let holds = fleet.store.holds(&worker.id).await.unwrap();
        (holds.len() == SLOTS).then(|| holds.into_iter().map(|hold| hold.run).collect())
    })
    .await
}

async fn start(fleet: &Fleet, workflow: &str, n: usize, gate: Option<&Path>) {
    let input = json!({ "n": n, "gate": gate });
    fleet.client.start(workflow, &input).id(format!("{workflow}-{n}")).enqueue().await.unwrap();
}

async fn history(fleet: &Fleet, run: &str) -> Vec<Record> {
    fleet.store.history(run, 0, 1000).await.unwrap()
}

fn count(history: &[Record], kind: Kind) -> usize {
    history.iter().filter(|record| record.kind == kind).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_shared_with_rust_and_survive_kill_9() {
    let Some(python) = &*PYTHON else { return };
    let fleet = Fleet::new().await;
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let _coordinator = fleet.coordinator();
    let (mut killed, mut stopped, rust) = (python.worker(&fleet), python.worker(&fleet), rust_worker(&fleet));
    fleet.workers_ready(3).await;

    // While the gate is closed, each of the three holds as many as it can; the rest waits.
    let doubled = 3 * SLOTS..150;
    for n in 0..3 * SLOTS {
        start(&fleet, "doubled", n, Some(&gate)).await;
    }
    for pid in [stopped.id(), std::process::id()] {
        full(&fleet, pid).await;
    }
    let lost = full(&fleet, killed.id()).await;
    for n in doubled.clone() {
        start(&fleet, "doubled", n, None).await;
    }
    for n in 0..50 {
        start(&fleet, "halved", n, None).await;
    }
    killed.kill();
    // Before its death is noticed, a new worker would take new runs.
    fleet.workers_ready(2).await;
    let heir = python.worker(&fleet);
    let taken_over = full(&fleet, heir.id()).await;
    assert_eq!(taken_over, lost, "what the dead one held goes first");

    // It is told to stop and holds four: it ends them, and takes no more.
    let drained = full(&fleet, stopped.id()).await;
    stopped.signal(Signal::TERM);
    std::fs::write(&gate, "").unwrap();
    assert!(stopped.ended().await.success(), "{}", stopped.log());
    // It has deregistered: coordinators would notice its death later.
    let pid = stopped.id();
    assert!(fleet.store.workers().await.unwrap().iter().all(|worker| worker.pid != pid), "it has not deregistered");

    let mut by = HashSet::new();
    let (doubled, halved) = ((0..doubled.end).map(|n| ("doubled", n, 2 * n)), (0..50).map(|n| ("halved", n, n / 2)));
    for (workflow, n, expected) in doubled.chain(halved) {
        let run = format!("{workflow}-{n}");
        let result: Value = fleet.client.run(&run).result(LIMIT).await.unwrap();
        assert_eq!(result["n"], expected, "{run}");
        let history = history(&fleet, &run).await;
        assert_eq!((count(&history, Kind::Done), count(&history, Kind::Completed)), (1, 1), "{history:?}");
        assert_eq!(count(&history, Kind::Lost), usize::from(lost.contains(&run)), "{history:?}");
        assert!(!drained.contains(&run) || count(&history, Kind::Released) == 0, "{history:?}");
        by.insert(result["by"].as_str().unwrap().to_owned());
    }
    assert_eq!(by, HashSet::from(["python".to_owned(), "rust".to_owned()]));

    let workers = fleet.store.workers().await.unwrap();
    assert_eq!(workers.len(), 2, "{workers:?}");
    for worker in workers {
        assert!(fleet.store.holds(&worker.id).await.unwrap().is_empty(), "{worker:?}");
    }
    rust.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_raises_is_retried_and_then_fails_with_its_error() {
    let Some(python) = &*PYTHON else { return };
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = python.worker(&fleet);
    fleet.workers_ready(1).await;

    start(&fleet, "unlucky", 7, None).await;
    let run = fleet.client.run("unlucky-7").wait(LIMIT).await.unwrap();
    assert_eq!((run.status, run.error_step.as_deref(), run.error_attempt), (Status::Failed, Some("try_it"), Some(3)));
    assert_eq!(run.error.as_deref(), Some("ValueError: no luck with 7"));
    let told = history(&fleet, "unlucky-7").await;
    assert_eq!((count(&told, Kind::Retry), count(&told, Kind::Failed)), (2, 1), "{told:?}");

    // A result that is too large is refused, and the worker goes on.
    let input = json!({ "bytes": 1024 * 1024 });
    fleet.client.start("huge", &input).id("huge").enqueue().await.unwrap();
    let error = fleet.client.run("huge").wait(LIMIT).await.unwrap().error.unwrap();
    assert!(error.contains("the result has 1048578 bytes; at most 1048576 are allowed"), "{error}");
    start(&fleet, "doubled", 8, None).await;
    let result: Value = fleet.client.run("doubled-8").result(LIMIT).await.unwrap();
    assert_eq!(result, json!({ "n": 16, "by": "python" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_finds_its_functions_again_when_the_server_has_lost_them() {
    let Some(python) = &*PYTHON else { return };
    let fleet = Fleet::new().await;
    // It starts before any coordinator, and waits for one.
    let worker = python.worker(&fleet);
    found(async || worker.log().contains("no coordinator has written down").then_some(())).await;
    let _coordinator = fleet.coordinator();
    fleet.workers_ready(1).await;
    let mut redis = fleet.redis.connection().await;
    redis::cmd("HSET")
        .arg("sf:{0}:functions")
        .arg("1")
        .arg("stepfleet_of_before_v1_")
        .exec_async(&mut redis)
        .await
        .unwrap();
    redis::cmd("FUNCTION").arg("FLUSH").exec_async(&mut redis).await.unwrap();
    start(&fleet, "doubled", 1, None).await;
    let result: Value = fleet.client.run("doubled-1").result(LIMIT).await.unwrap();
    assert_eq!(result, json!({ "n": 2, "by": "python" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_task_is_done_twice_or_handed_back_when_replies_are_lost() {
    let Some(python) = &*PYTHON else { return };
    let fleet = Fleet::new().await;
    let proxy = Proxy::to(&fleet.redis.url).await;
    let _coordinator = fleet.coordinator();
    let _worker = python.worker_at(&proxy.url);
    fleet.workers_ready(1).await;
    for n in 0..24 {
        // Another call each time: a wake-up, a claim, a complete, now and then a heartbeat.
        proxy.lose_reply_after(i64::try_from(n % 5).unwrap());
        start(&fleet, "doubled", n, None).await;
        let result: Value = fleet.client.run(format!("doubled-{n}")).result(LIMIT).await.unwrap();
        assert_eq!(result["n"], 2 * n);
        // An idle worker keeps sending heartbeats.
        found(async || (proxy.lost() > n as u64).then_some(())).await;
    }
    for n in 0..24 {
        let told = history(&fleet, &format!("doubled-{n}")).await;
        let counts = [Kind::Done, Kind::Completed, Kind::Released, Kind::Retry].map(|kind| count(&told, kind));
        assert_eq!(counts, [1, 1, 0, 0], "{told:?}");
    }
}

/// With redis-py alone: `BLPOP` waits for start, rejection and end, and for the answer to a signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_waits_for_receipts_without_pub_sub() {
    let Some(python) = &*PYTHON else { return };
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = python.worker(&fleet);
    fleet.workers_ready(1).await;
    let script = r#"
import json, os, redis
r = redis.Redis.from_url(os.environ["STEPFLEET_REDIS"], decode_responses=True)
mine = "sf:{0}:reply:mine"

def ask(**fields):
    return r.xadd("sf:{0}:inbox", {**fields, "reply": mine})

def told():
    receipt = json.loads(r.blpop(mine, 60)[1])
    return receipt

run = ask(op="start", workflow="doubled", input='{"n": 21}')
started, ended = told(), told()
assert started["event"] == "started" and started["run"] == started["entry"] == run, started
print(ended["status"], ended["result"]["n"])
ask(op="start", workflow="unlucky", input='{"n": 1}', id="u")
print(told()["event"], told()["error"])
ask(op="start", workflow="doubled", input='{"n"')
print(told()["reason"])
ask(op="signal", run="u", name="word")
print(told()["reason"])
r.xadd("sf:{0}:inbox", {"op": "start", "workflow": "doubled", "input": '{"n": 1}', "id": "stolen", "reply": "sf:{0}:run:u"})
while r.hget("sf:{0}:run:stolen", "status") is None:
    pass
print(r.hget("sf:{0}:run:stolen", "error"))
print(r.llen(mine), r.ttl(mine), r.hget("sf:{0}:run:u", "status"))
"#;
    let mut command = python.command(&["-c", script]);
    command.env("STEPFLEET_REDIS", &fleet.redis.url);
    let output = tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        "completed 42",
        "started ValueError: no luck with 1",
        "the input cannot be read as JSON: EOF while parsing an object at line 1 column 4",
        "run u has ended: no step will take the signal word",
        "reply \"sf:{0}:run:u\" is not the name of a list for receipts; use sf:{0}:reply:<name>",
        "0 -2 failed",
    ];
    assert_eq!(lines, expected, "{}", String::from_utf8_lossy(&output.stderr));
}

/// The program at the end of docs/protocol.md, and what it prints when it starts a task and waits for it, twice by one key.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_caller_starts_and_awaits_a_task() {
    let Some(python) = &*PYTHON else { return };
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = python.worker(&fleet);
    fleet.workers_ready(1).await;
    let folder = tempfile::tempdir().unwrap();
    let documented = include_str!("../../../docs/protocol.md");
    let program = documented.split("## A caller in Python").nth(1).and_then(|text| text.split("```").nth(1)).unwrap();
    std::fs::write(folder.path().join("caller.py"), program.strip_prefix("python\n").unwrap()).unwrap();
    let script = r#"
import json, os, sys
sys.path.insert(0, sys.argv[1])
import redis, caller
r = redis.Redis.from_url(os.environ["STEPFLEET_REDIS"], decode_responses=True)
for _ in range(2):
    run = caller.start(r, "doubled", {"n": 21}, key="order-9")
    ended = caller.wait(r, run)
    print(ended["status"], json.loads(ended["result"])["n"])
run = caller.start(r, "unlucky", {"n": 1}, id="u")
print(caller.wait(r, run)["error"])
"#;
    let arguments = ["-c", script, folder.path().to_str().unwrap()];
    let mut command = python.command(&arguments);
    command.env("STEPFLEET_REDIS", &fleet.redis.url);
    let output = tokio::task::spawn_blocking(move || command.output().expect("it starts")).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "completed 42\ncompleted 42\nValueError: no luck with 1\n", "{errors}");
    assert_eq!(fleet.store.runs(0, 10).await.unwrap().len(), 2);
}
