//! Workers and coordinators are killed, stopped, continued and told to end, at random and all the time, while runs of
//! all shapes go through. Every run must end with the right answer, each of its steps committed once, and nothing may
//! be left over.
//!
//! The short form runs with all tests; `make test-chaos` runs for `STEPFLEET_CHAOS_SECONDS` (600 by default). A failure
//! prints the seed; `STEPFLEET_CHAOS_SEED` sets it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::history::Kind;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const WORKERS: usize = 4;
const AT_ONCE: usize = 40;
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn chaos_for_a_short_time() {
    chaos(Duration::from_secs(12)).await;
}

#[tokio::test]
#[ignore = "long: make test-chaos"]
async fn chaos_for_a_long_time() {
    let seconds = std::env::var("STEPFLEET_CHAOS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(600);
    chaos(Duration::from_secs(seconds)).await;
}

async fn chaos(time: Duration) {
    let seed = std::env::var("STEPFLEET_CHAOS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("chaos for {time:?} with STEPFLEET_CHAOS_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let fleet = Fleet::new().await;
    let mut victims = Victims::new(&fleet);
    let until = Instant::now() + time;
    let (mut open, mut ended) = (Vec::new(), 0);
    while Instant::now() < until {
        while open.len() < AT_ONCE {
            open.push(start(&fleet, &mut rng).await);
        }
        victims.torment(&fleet, &mut rng);
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..400))).await;
        ended += settle(&fleet, &mut open).await;
    }
    victims.relieve();
    for (run, expected) in &open {
        check(&fleet, run, expected).await;
    }
    assert_nothing_is_left(&fleet).await;
    println!("{} runs ended as they should; {:?}", ended + open.len(), victims.done);
    assert!(ended > 0, "no run got through while processes were dying");
}

/// A run of a random shape, and the answer that it must come to.
async fn start(fleet: &Fleet, rng: &mut StdRng) -> (RunHandle, Value) {
    let n: u64 = rng.random_range(0..30);
    let (workflow, input, expected) = match rng.random_range(0..4) {
        0 => ("loop", json!({ "n": n }), json!({ "answer": (n + 1).to_string() })),
        1 => {
            let count = n * 10; // up to 290: the larger ones are staged
            let sum: u64 = (1..=count).map(|n| n * n).sum();
            ("squares", json!({ "count": count }), json!({ "count": count, "sum": sum }))
        }
        2 => {
            let rows = n % 6;
            let sums: Vec<u64> = (0..rows).map(|row| (1..=row).sum()).collect();
            ("nested", json!({ "n": rows }), json!({ "answer": format!("{sums:?}") }))
        }
        _ => ("chain", json!({ "n": n }), Value::Null),
    };
    let run = fleet.client.start(workflow, &input).enqueue().await.expect("Redis is there");
    let expected = match expected {
        Value::Null => json!({ "answer": format!("hello {n} {}", run.id()) }),
        expected => expected,
    };
    (run, expected)
}

/// Checks the runs that have ended, and takes them out; answers how many.
async fn settle(fleet: &Fleet, open: &mut Vec<(RunHandle, Value)>) -> usize {
    let before = open.len();
    let mut still = Vec::new();
    for (run, expected) in open.drain(..) {
        let over = run.status().await.expect("Redis is there").is_some_and(|r| r.status.is_over());
        if over {
            check(fleet, &run, &expected).await;
        } else {
            still.push((run, expected));
        }
    }
    *open = still;
    before - open.len()
}

async fn check(fleet: &Fleet, run: &RunHandle, expected: &Value) {
    let answer: Value = run.result(LIMIT).await.unwrap_or_else(|e| panic!("{}: {e}", run.id()));
    assert_eq!(&answer, expected, "{}", run.id());
    let mut commits: BTreeMap<u64, u32> = BTreeMap::new();
    for record in fleet.store.history(run.id(), 0, 100_000).await.expect("Redis is there") {
        if record.kind == Kind::Done {
            *commits.entry(record.seq).or_default() += 1;
        }
    }
    let last = commits.keys().next_back().copied().unwrap_or(0);
    assert!(commits.values().all(|n| *n == 1), "{}: committed more than once: {commits:?}", run.id());
    assert_eq!(commits.len() as u64, last, "{}: step executions are missing: {commits:?}", run.id());
}

async fn assert_nothing_is_left(fleet: &Fleet) {
    let mut redis = fleet.redis.connection().await;
    let until = Instant::now() + LIMIT;
    loop {
        let keys: Vec<String> = redis::cmd("KEYS").arg("sf:*").query_async(&mut redis).await.expect("Redis is there");
        let run_time = ["steps", "joined", "fan", "extra", "stopped", "deferred"];
        let mut left: Vec<_> = keys
            .iter()
            .filter(|k| run_time.iter().any(|kind| k.starts_with(&format!("sf:{{0}}:{kind}"))))
            .cloned()
            .collect();
        // A live worker's slots stay, and hold nothing; a dead one has left none.
        let workers = fleet.store.workers().await.expect("Redis is there");
        left.extend(workers.iter().filter(|worker| worker.held > 0).map(|worker| format!("holds of {}", worker.id)));
        let slots = keys.iter().filter_map(|key| key.strip_prefix("sf:{0}:held:"));
        left.extend(slots.filter(|id| !workers.iter().any(|worker| worker.id == *id)).map(str::to_owned));
        let queues = fleet.store.queues().await.expect("Redis is there");
        left.extend(
            queues.into_iter().filter(|queue| queue.waiting > 0).map(|queue| format!("queue of {}", queue.workflow)),
        );
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left over: {left:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Victims {
    workers: Vec<Process>,
    stopped: Vec<Process>,
    ending: Vec<Process>,
    coordinators: Vec<Process>,
    done: BTreeMap<&'static str, u32>,
}

impl Victims {
    fn new(fleet: &Fleet) -> Self {
        Self {
            workers: (0..WORKERS).map(|_| worker(fleet)).collect(),
            stopped: Vec::new(),
            ending: Vec::new(),
            coordinators: (0..2).map(|_| fleet.coordinator_process(STEPFLEET)).collect(),
            done: BTreeMap::new(),
        }
    }

    fn torment(&mut self, fleet: &Fleet, rng: &mut StdRng) {
        let what = ["kill a worker", "stop a worker", "continue a worker", "end a worker", "kill a coordinator"];
        let what = match what[rng.random_range(0..what.len())] {
            "kill a coordinator" => {
                let at = rng.random_range(0..self.coordinators.len());
                self.coordinators[at].kill();
                self.coordinators[at] = fleet.coordinator_process(STEPFLEET);
                "coordinators killed"
            }
            "continue a worker" if !self.stopped.is_empty() => {
                let process = self.stopped.remove(0);
                process.signal(Signal::CONT);
                self.workers.push(process);
                "workers continued"
            }
            "stop a worker" if self.stopped.len() < 2 && self.workers.len() > 1 => {
                let process = self.workers.remove(rng.random_range(0..self.workers.len()));
                process.signal(Signal::STOP);
                self.stopped.push(process);
                "workers stopped"
            }
            "end a worker" => {
                let at = rng.random_range(0..self.workers.len());
                self.workers[at].signal(Signal::TERM);
                let ending = std::mem::replace(&mut self.workers[at], worker(fleet));
                self.ending.push(ending);
                "workers told to end"
            }
            _ => {
                let at = rng.random_range(0..self.workers.len());
                self.workers[at].kill();
                self.workers[at] = worker(fleet);
                "workers killed"
            }
        };
        *self.done.entry(what).or_default() += 1;
    }

    fn relieve(&mut self) {
        for process in self.stopped.drain(..) {
            process.signal(Signal::CONT);
            self.workers.push(process);
        }
    }
}

fn worker(fleet: &Fleet) -> Process {
    fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "4"), ("RUST_LOG", "warn")])
}
