//! The floor: the least that Redis needs for one step commit, and for one call alone.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline};
use tokio::task::JoinSet;

use crate::Fallible;
use crate::stats::{number, percentile};
use crate::usage::Usage;

const LIBRARY: &str = include_str!("floor.lua");

/// Connections, and calls that each sends at once. The best of them is the floor.
const SHAPES: [(usize, usize); 6] = [(1, 128), (2, 32), (2, 128), (4, 64), (4, 256), (8, 32)];

/// The default size of an event.
pub(crate) const PAYLOAD: usize = 256;

/// How fast step commits of the floor are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Commits a second.
    pub(crate) per_second: f64,
    /// CPU time of Redis for one of them, in microseconds.
    pub(crate) redis_us: f64,
}

impl Rate {
    /// Half way between two.
    pub(crate) fn between(self, other: Self) -> Self {
        let middle = f64::midpoint;
        Self { per_second: middle(self.per_second, other.per_second), redis_us: middle(self.redis_us, other.redis_us) }
    }
}

/// A Redis with the floor's function, and the fastest way to call it.
pub(crate) struct Floor {
    url: String,
    length: Duration,
    shape: (usize, usize),
}

impl Floor {
    /// Loads the function and finds the fastest shape.
    pub(crate) async fn find(url: &str, length: Duration) -> Fallible<Self> {
        let mut floor = Self { url: url.to_owned(), length, shape: SHAPES[0] };
        let mut load = redis::cmd("FUNCTION");
        load.arg("LOAD").arg("REPLACE").arg(LIBRARY);
        let () = load.query_async(&mut floor.connection().await?).await?;
        let mut best = 0.0;
        for shape in SHAPES {
            let rate = floor.try_shape(shape, PAYLOAD, length / 4).await?.per_second;
            if rate > best {
                (best, floor.shape) = (rate, shape);
            }
        }
        Ok(floor)
    }

    /// With events of 256 bytes.
    pub(crate) async fn rate(&self) -> Fallible<Rate> {
        self.try_shape(self.shape, PAYLOAD, self.length).await
    }

    /// With events of this many bytes.
    pub(crate) async fn rate_with(&self, payload: usize) -> Fallible<Rate> {
        // Large events fill buffers: fewer at once.
        let shape = if payload > 4096 { (2, 8) } else { self.shape };
        self.try_shape(shape, payload, self.length).await
    }

    async fn connection(&self) -> Fallible<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        Ok(redis::Client::open(self.url.as_str())?.get_multiplexed_async_connection_with_config(&config).await?)
    }

    async fn try_shape(
        &self,
        (connections, depth): (usize, usize),
        payload: usize,
        length: Duration,
    ) -> Fallible<Rate> {
        let mut tasks = JoinSet::new();
        let mut redis = self.connection().await?;
        let before = Usage::read(&mut redis).await?;
        let begun = Instant::now();
        for c in 0..connections {
            let mut connection = self.connection().await?;
            let batch = batch(c, depth, payload);
            tasks.spawn(async move {
                let mut calls = 0;
                while begun.elapsed() < length {
                    let () = batch.query_async(&mut connection).await?;
                    calls += depth as u64;
                }
                Fallible::Ok(calls)
            });
        }
        let mut calls = 0;
        while let Some(counted) = tasks.join_next().await {
            calls += counted??;
        }
        let per_second = number(calls) / begun.elapsed().as_secs_f64();
        let redis_us = Usage::read(&mut redis).await?.per_step(before, calls).redis_us;
        self.clean(connections, depth).await?;
        Ok(Rate { per_second, redis_us })
    }

    async fn clean(&self, connections: usize, depth: usize) -> Fallible<()> {
        let mut connection = self.connection().await?;
        for c in 0..connections {
            let mut remove = redis::cmd("DEL");
            for run in 0..depth {
                remove.arg(&keys(c, run));
            }
            let () = remove.query_async(&mut connection).await?;
        }
        Ok(())
    }

    /// How long a single call takes, in microseconds: p50 and p99.
    pub(crate) async fn one_call(&self, calls: usize) -> Fallible<(f64, f64)> {
        let mut connection = self.connection().await?;
        let mut took = Vec::with_capacity(calls);
        let call = call(0, 0, PAYLOAD);
        for _ in 0..calls {
            let begun = Instant::now();
            let () = call.query_async(&mut connection).await?;
            took.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        self.clean(1, 1).await?;
        took.sort_by(f64::total_cmp);
        Ok((percentile(&took, 50.0), percentile(&took, 99.0)))
    }
}

fn keys(connection: usize, run: usize) -> [String; 3] {
    // As in Stepfleet: runs share a queue, and have a history each.
    [
        format!("floor:{{0}}:run:{connection}:{run}"),
        format!("floor:{{0}}:queue:{connection}"),
        format!("floor:{{0}}:history:{connection}:{run}"),
    ]
}

fn call(connection: usize, run: usize, payload: usize) -> redis::Cmd {
    let mut call = redis::cmd("FCALL");
    call.arg("sfload_step").arg(3).arg(&keys(connection, run));
    // Written beside the event: a state line and a history record.
    call.arg("x".repeat(payload)).arg("s".repeat(48)).arg("r".repeat(64));
    call
}

fn batch(connection: usize, depth: usize, payload: usize) -> Pipeline {
    let mut batch = Pipeline::with_capacity(depth);
    for run in 0..depth {
        batch.add_command(call(connection, run, payload)).ignore();
    }
    batch
}
