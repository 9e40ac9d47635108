//! `stepfleet-peer-apalis HOST PORT RUNS TURNS`: runs of one or of ten steps. Prints how many steps there were, and the
//! seconds from the first request to the last step.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use apalis_workflow::{SteppedFlow, WorkflowSink};
use serde::{Deserialize, Serialize};

static STEPS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Serialize, Deserialize)]
struct Turn {
    left: u64,
    pad: String,
}

async fn turn(turn: Turn) -> Result<Turn, BoxDynError> {
    STEPS.fetch_add(1, Ordering::Relaxed);
    Ok(Turn { left: turn.left.saturating_sub(1), pad: turn.pad })
}

#[tokio::main]
async fn main() -> Result<(), BoxDynError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [host, port, runs, turns] = arguments.as_slice() else { return Err("HOST PORT RUNS TURNS".into()) };
    let (runs, turns): (u64, u64) = (runs.parse()?, turns.parse()?);
    let connection = apalis_redis::connect(format!("redis://{host}:{port}")).await?;
    let config = Config::default().queue("turns").batch_size(64);
    let mut storage = RedisStorage::new(connection).with_config(config);
    let builder = WorkerBuilder::new("worker").backend(storage.clone()).concurrency(64);
    let mut worker = match turns {
        1 => tokio::spawn(builder.build(SteppedFlow::new("turns").and_then(turn)).run()),
        10 => {
            let flow = SteppedFlow::new("turns").and_then(turn).and_then(turn).and_then(turn).and_then(turn);
            let flow = flow.and_then(turn).and_then(turn).and_then(turn).and_then(turn).and_then(turn).and_then(turn);
            tokio::spawn(builder.build(flow).run())
        }
        _ => return Err("a workflow of apalis has a fixed number of steps; here 1 or 10".into()),
    };
    let begun = Instant::now();
    for _ in 0..runs {
        storage.push_start(Turn { left: turns - 1, pad: "x".repeat(240) }).await?;
    }
    let steps = runs * turns;
    while STEPS.load(Ordering::Relaxed) < steps {
        if worker.is_finished() {
            return Err(format!("the worker has ended: {:?}", (&mut worker).await).into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("{{\"steps\": {steps}, \"seconds\": {}}}", begun.elapsed().as_secs_f64());
    worker.abort();
    Ok(())
}
