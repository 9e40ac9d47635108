//! What the scenarios share: their size, a Redis, worker processes, runs.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, InProcess};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_shared::Client;

use crate::Fallible;
use crate::crew::Crew;
use crate::floor::{Floor, PAYLOAD};
use crate::serve::Serve;
use crate::stats::number;
use crate::usage::{Cost, Usage};

/// Requests that are on their way at once.
const SENT_AT_ONCE: usize = 512;
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Redis without a file.
pub(crate) const OFF: &[&str] = &["--appendonly", "no"];

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Repetitions.
    pub(crate) times: usize,
    /// How long a rate is measured each time.
    pub(crate) length: Duration,
    /// Counts are divided by this.
    pub(crate) part: u64,
}

impl Effort {
    pub(crate) const FULL: Self = Self { times: 3, length: Duration::from_millis(1200), part: 1 };
    pub(crate) const QUICK: Self = Self { times: 1, length: Duration::from_millis(60), part: 50 };

    /// This many, or fewer if it must be quick.
    pub(crate) fn count(self, full: u64) -> u64 {
        (full / self.part).max(2)
    }
}

/// A Redis with a coordinator.
pub(crate) struct Site {
    pub(crate) fleet: Fleet,
    pub(crate) redis: MultiplexedConnection,
    _coordinator: InProcess,
}

/// The outcome of some runs.
pub(crate) struct Pass {
    /// From the first body to the last.
    pub(crate) took: Duration,
    /// From the first request to the last result.
    pub(crate) in_all: Duration,
    pub(crate) cost: Cost,
    /// CPU time of the worker process for each body, in microseconds.
    pub(crate) worker_us: f64,
}

/// Requests for runs of the same kind.
pub(crate) struct Runs {
    pub(crate) workflow: &'static str,
    pub(crate) input: Value,
    pub(crate) context: Option<Value>,
    pub(crate) count: u64,
    /// Bodies that all of them make.
    pub(crate) bodies: u64,
}

impl Runs {
    /// Runs of a workflow that takes turns.
    pub(crate) fn of_turns(workflow: &'static str, count: u64, turns: u64) -> Self {
        let input = json!({ "left": turns - 1, "pad": "x".repeat(PAYLOAD - 16) });
        Self { workflow, input, context: None, count, bodies: count * turns }
    }

    /// Runs that fan out.
    pub(crate) fn of_branches(count: u64, branches: u64) -> Self {
        let input = json!({ "branches": branches });
        Self { workflow: "fan", input, context: None, count, bodies: count * (branches + 2) }
    }
}

impl Site {
    /// Starts Redis and a coordinator.
    pub(crate) async fn open(settings: &'static [&'static str]) -> Fallible<Self> {
        let redis = TestRedis::process_with(settings).await;
        let connection = redis.connection().await;
        let fleet = Fleet::on(redis);
        let coordinator = fleet.coordinator();
        Ok(Self { fleet, redis: connection, _coordinator: coordinator })
    }

    /// The floor of this Redis.
    pub(crate) async fn floor(&self, effort: Effort) -> Fallible<Floor> {
        Floor::find(&self.fleet.redis.url, effort.length / 2).await
    }

    /// The arguments for a worker process that serves these.
    pub(crate) fn serve(&self, workflows: &[&str]) -> Serve {
        let workflows = workflows.iter().map(|&name| name.to_owned()).collect();
        Serve { url: self.fleet.redis.url.clone(), workflows, workers: 1, concurrency: 64 }
    }

    /// Starts a worker process and waits until the fleet has this many workers in all.
    pub(crate) async fn crew(&self, serve: &Serve, in_all: usize) -> Fallible<Crew> {
        let crew = Crew::start(serve)?;
        let until = Instant::now() + PATIENCE;
        while self.fleet.store.workers().await?.len() != in_all {
            if Instant::now() > until {
                return Err(format!("{in_all} workers did not get ready").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(crew)
    }

    /// Sends the requests; returns the ids of the runs in the order in which they were sent.
    pub(crate) async fn send(&self, runs: &Runs) -> Fallible<Vec<String>> {
        send_later(&self.fleet.client, runs, |_| None).await
    }

    /// As [`Site::send`], each with a delay that is computed when it is sent.
    pub(crate) async fn send_later(
        &self,
        runs: &Runs,
        delay: impl Fn(u64) -> Option<Duration>,
    ) -> Fallible<Vec<String>> {
        send_later(&self.fleet.client, runs, delay).await
    }

    /// Waits until these runs have completed; fails if one has ended otherwise.
    pub(crate) async fn completed(&self, ids: &[String]) -> Fallible<()> {
        completed(&self.fleet.client, ids).await
    }

    /// The result of a run.
    pub(crate) async fn result(&self, id: &str) -> Fallible<Value> {
        result(&self.fleet.client, id).await
    }

    /// Waits until a run exists.
    pub(crate) async fn started(&self, id: &str) -> Fallible<()> {
        let run = self.fleet.client.run(id);
        let until = Instant::now() + PATIENCE;
        while run.status().await?.is_none() {
            if Instant::now() > until {
                return Err(format!("run {id} was not started").into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Sends the requests, and waits for the runs. Fails unless each body began exactly once.
    pub(crate) async fn pass(&mut self, crew: &mut Crew, runs: &Runs) -> Fallible<Pass> {
        pass(&self.fleet.client, std::slice::from_mut(&mut self.redis), crew, runs).await
    }

    /// How many turns these runs should take, so that a pass lasts as long as the effort says.
    pub(crate) async fn turns(&mut self, crew: &mut Crew, effort: Effort, trial: &Runs) -> Fallible<u64> {
        let pass = self.pass(crew, trial).await?;
        let rate = number(trial.bodies) / pass.took.as_secs_f64();
        let turns = rate * effort.length.as_secs_f64() / number(trial.count);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        Ok((turns as u64).clamp(5, 10_000))
    }

    /// Bytes that Redis uses for its data.
    pub(crate) async fn used_memory(&mut self) -> Fallible<f64> {
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut self.redis).await?;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        Ok(line.ok_or("Redis does not say how much memory it uses")?.trim().parse()?)
    }
}

/// Sends the requests, each with a delay that is computed when it is sent.
async fn send_later(client: &Client, runs: &Runs, delay: impl Fn(u64) -> Option<Duration>) -> Fallible<Vec<String>> {
    let input = runs.input.to_string();
    let numbers: Vec<u64> = (0..runs.count).collect();
    let mut ids = Vec::with_capacity(numbers.len());
    for chunk in numbers.chunks(SENT_AT_ONCE) {
        let requests = chunk.iter().map(|&n| {
            let mut start = client.start_json(runs.workflow, &input);
            if let Some(context) = &runs.context {
                start = start.context(context);
            }
            match delay(n) {
                Some(delay) => start.delay(delay).enqueue(),
                None => start.enqueue(),
            }
        });
        let handles = try_join_all(requests).await?;
        ids.extend(handles.into_iter().map(|handle| handle.id().to_owned()));
    }
    Ok(ids)
}

async fn completed(client: &Client, ids: &[String]) -> Fallible<()> {
    for chunk in ids.chunks(SENT_AT_ONCE) {
        try_join_all(chunk.iter().map(|id| result(client, id))).await?;
    }
    Ok(())
}

async fn result(client: &Client, id: &str) -> Fallible<Value> {
    Ok(client.run(id).result(PATIENCE).await?)
}

/// Sends the requests to a fleet on these servers, and waits for the runs. Fails unless each body began exactly once.
pub(crate) async fn pass(
    client: &Client,
    servers: &mut [MultiplexedConnection],
    crew: &mut Crew,
    runs: &Runs,
) -> Fallible<Pass> {
    crew.expect(runs.bodies).await?;
    let before = Usage::of_all(servers).await?;
    let begun = Instant::now();
    let ids = send_later(client, runs, |_| None).await?;
    let took = crew.reached().await?;
    // Those that were sent last end last; waiting for all would be extra work for Redis.
    let last = ids.len().saturating_sub(16);
    completed(client, &ids[last..]).await?;
    let in_all = begun.elapsed();
    let cost = Usage::of_all(servers).await?.per_step(before, runs.bodies);
    completed(client, &ids).await?;
    let taken = crew.take().await?;
    if taken.bodies != runs.bodies {
        return Err(format!("{} bodies began where {} were to", taken.bodies, runs.bodies).into());
    }
    let worker_us = taken.cpu.as_secs_f64() * 1e6 / number(runs.bodies);
    Ok(Pass { took, in_all, cost, worker_us })
}
