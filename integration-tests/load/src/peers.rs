//! Other systems with the same shapes: each a program that gets the address of Redis, the number of runs and of their steps.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use crate::Fallible;
use crate::bench::{Effort, OFF};
use crate::floor::Floor;
use crate::row::{Goal, Row};
use crate::usage::Usage;
use stepfleet_integration_tests::redis::TestRedis;

/// Runs, and the steps of each: chains, and jobs of one step.
/// Not more jobs: a backlog of more than about 8,000 ends the worker of apalis ("too many results to unpack").
const SHAPES: [(&str, u64, u64); 2] = [("chain", 1000, 10), ("jobs", 5000, 1)];

/// What a peer prints.
#[derive(Deserialize)]
struct Done {
    steps: u64,
    seconds: f64,
}

/// The peers that `deploy/scripts/bench-peers.sh` has put into this folder.
fn programs(folder: &Path) -> [(&'static str, Vec<PathBuf>); 2] {
    [
        ("bullmq", vec!["node".into(), folder.join("bullmq/bench.mjs")]),
        ("apalis", vec![folder.join("apalis/release/stepfleet-peer-apalis")]),
    ]
}

/// Measures them; returns the rows of those that work, and why others do not.
pub(crate) async fn measure(folder: &Path, effort: Effort) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for (name, program) in programs(folder) {
        for (shape, runs, turns) in SHAPES {
            let name = format!("{name}-{shape}");
            eprintln!("{name}");
            match peer(&name, &program, (effort.count(runs), turns), effort).await {
                Ok(row) => rows.push(row),
                Err(error) => failures.push(format!("{name}: {error}")),
            }
        }
    }
    (rows, failures)
}

async fn peer(name: &str, program: &[PathBuf], (runs, turns): (u64, u64), effort: Effort) -> Fallible<Row> {
    let mut each = Vec::new();
    let mut cost = None;
    for _ in 0..effort.times {
        // Each time on an empty Redis, whatever the peer leaves behind.
        let server = TestRedis::process_with(OFF).await;
        let mut redis = server.connection().await;
        let floor = Floor::find(&server.url, effort.length / 2).await?;
        let before = floor.rate().await?;
        let used = Usage::read(&mut redis).await?;
        let done = work(program, &server.url, runs, turns).await?;
        if done.steps != runs * turns {
            return Err(format!("{} steps where {} were to be made", done.steps, runs * turns).into());
        }
        let of_peer = Usage::read(&mut redis).await?.per_step(used, done.steps);
        let least = before.between(floor.rate().await?);
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let rate = done.steps as f64 / done.seconds;
        each.push((rate, rate / least.per_second));
        cost = Some(of_peer.beside(least));
    }
    let mut row = Row::named(name, Goal::More).measured("steps/s", "of the floor", &each);
    row.cost = cost;
    Ok(row)
}

async fn work(program: &[PathBuf], url: &str, runs: u64, turns: u64) -> Fallible<Done> {
    let (host, port) = url.trim_start_matches("redis://").split_once(':').ok_or("the URL of Redis has no port")?;
    let output = Command::new(&program[0])
        .args(&program[1..])
        .args([host, port, &runs.to_string(), &turns.to_string()])
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), output)
        .await
        .map_err(|_| "it has not ended within two minutes")??;
    if !output.status.success() {
        return Err(format!("it ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
