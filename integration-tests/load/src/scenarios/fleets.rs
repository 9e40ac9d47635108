//! What idle workers, workflows and coordinators cost.

use std::time::Duration;

use crate::Fallible;
use crate::bench::{Effort, OFF, Runs, Site};
use crate::crew::Crew;
use crate::row::{Goal, Row};
use crate::stats::number;
use crate::usage::Usage;

const RUNS: u64 = 128;

/// Seconds of a step of the chain.
async fn step(site: &mut Site, crew: &mut Crew, runs: &Runs) -> Fallible<f64> {
    Ok(site.pass(crew, runs).await?.took.as_secs_f64() / number(runs.bodies))
}

/// A worker that serves 50 workflows, of which one has something to do, beside a worker that serves that one alone.
pub(super) async fn fifty(effort: Effort) -> Fallible<Vec<Row>> {
    let mut one = Site::open(OFF).await?;
    let mut crew_of_one = one.crew(&one.serve(&["chain"]), 1).await?;
    let mut fifty = Site::open(OFF).await?;
    let mut crew_of_fifty = fifty.crew(&fifty.serve(&["chain", "unused"]), 1).await?;
    let turns = one.turns(&mut crew_of_one, effort, &Runs::of_turns("chain", RUNS, 10)).await?;
    let runs = Runs::of_turns("chain", RUNS, turns);
    let mut each = Vec::new();
    for _ in 0..effort.times {
        let of_one = step(&mut one, &mut crew_of_one, &runs).await?;
        let of_fifty = step(&mut fifty, &mut crew_of_fifty, &runs).await?;
        each.push((of_fifty * 1e6, of_fifty / of_one));
    }
    Ok(vec![Row::named("fifty-workflows", Goal::AtMost(1.05)).measured("us/step", "x one workflow", &each)])
}

/// Jobs for one of many workers that wait.
pub(super) async fn idle_workers(effort: Effort) -> Fallible<Vec<Row>> {
    let many = usize::try_from(effort.count(1000))?;
    let jobs = Runs::of_turns("chain", effort.count(5000), 1);
    let mut few = fleet_of(10).await?;
    let mut fleet = fleet_of(many).await?;
    let (mut each, mut idle) = (Vec::new(), Vec::new());
    for (site, crew) in [&mut few, &mut fleet] {
        site.pass(crew, &jobs).await?;
    }
    for _ in 0..effort.times {
        idle.push(idle_rate(&mut fleet.0, effort).await?.0);
        let of_few = few.0.pass(&mut few.1, &jobs).await?.in_all.as_secs_f64();
        let of_many = fleet.0.pass(&mut fleet.1, &jobs).await?.in_all.as_secs_f64();
        each.push((number(jobs.count) / of_many, of_many / of_few));
    }
    Ok(vec![
        Row::named("idle-workers-jobs", Goal::AtMost(1.05)).measured("jobs/s", "x the time with 10", &each),
        Row::named("idle-fleet-commands", Goal::AtMost(2000.0)).absolute("commands/s", &idle),
    ])
}

async fn fleet_of(workers: usize) -> Fallible<(Site, Crew)> {
    let site = Site::open(&["--appendonly", "no", "--maxclients", "20000"]).await?;
    let mut serve = site.serve(&["chain"]);
    serve.workers = workers;
    serve.concurrency = 8;
    let crew = site.crew(&serve, workers).await?;
    Ok((site, crew))
}

/// Commands a second and `FCALL`s a second while nothing happens.
async fn idle_rate(site: &mut Site, effort: Effort) -> Fallible<(f64, f64)> {
    let length = effort.length * 2;
    let settle = Duration::from_millis(200).min(length);
    tokio::time::sleep(settle).await;
    let before = Usage::read(&mut site.redis).await?;
    tokio::time::sleep(length).await;
    let used = Usage::read(&mut site.redis).await?.per_step(before, 1);
    Ok(((used.commands + used.fcalls) / length.as_secs_f64(), used.fcalls / length.as_secs_f64()))
}

pub(super) async fn idle_coordinator(effort: Effort) -> Fallible<Vec<Row>> {
    let mut site = Site::open(OFF).await?;
    let mut each = Vec::new();
    for _ in 0..effort.times {
        each.push(idle_rate(&mut site, effort).await?.1);
    }
    Ok(vec![Row::named("idle-coordinator", Goal::AtMost(15.0)).absolute("FCALL/s", &each)])
}
