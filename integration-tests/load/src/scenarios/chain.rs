//! Steps at full load.

use crate::Fallible;
use crate::bench::{Effort, OFF, Runs, Site};
use crate::crew::Crew;
use crate::row::{Goal, Row};
use crate::stats::number;
use crate::usage::Cost;

const RUNS: u64 = 128;

pub(super) async fn off(effort: Effort) -> Fallible<Vec<Row>> {
    let (each, cost) = at_full_load(effort, OFF, "chain").await?;
    let fcalls = Row::named("fcalls-per-step", Goal::AtMost(1.05)).absolute("FCALLs", &[cost.fcalls]);
    Ok(vec![chain("chain-off", &each, cost), fcalls])
}

pub(super) async fn everysec(effort: Effort) -> Fallible<Vec<Row>> {
    const SETTINGS: &[&str] = &["--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"];
    let (each, cost) = at_full_load(effort, SETTINGS, "chain").await?;
    Ok(vec![chain("chain-everysec", &each, cost)])
}

pub(super) async fn always(effort: Effort) -> Fallible<Vec<Row>> {
    const SETTINGS: &[&str] = &["--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"];
    let (each, cost) = at_full_load(effort, SETTINGS, "chain").await?;
    Ok(vec![chain("chain-always", &each, cost)])
}

pub(super) async fn recorded(effort: Effort) -> Fallible<Vec<Row>> {
    let (each, cost) = at_full_load(effort, OFF, "recorder").await?;
    let row = Row::named("recorded-steps", Goal::AtLeast(0.8)).measured("steps/s", "of the floor", &each);
    Ok(vec![row.with_cost(cost)])
}

/// One run alone, with few steps and with very many: the time for each.
pub(super) async fn flat(effort: Effort) -> Fallible<Vec<Row>> {
    flat_of(effort, "recorder", "recorded-flat").await
}

/// The same beside a stream of tokens, one after each step.
pub(super) async fn flat_streaming(effort: Effort) -> Fallible<Vec<Row>> {
    flat_of(effort, "talker", "recorded-flat-streaming").await
}

async fn flat_of(effort: Effort, workflow: &'static str, row: &str) -> Fallible<Vec<Row>> {
    let (few, many) = (1000, (100_000 / effort.part).max(2000));
    let mut site = Site::open(OFF).await?;
    let mut crew = site.crew(&site.serve(&[workflow]), 1).await?;
    let mut each = Vec::new();
    for _ in 0..effort.times {
        let long = alone(&mut site, &mut crew, workflow, many).await?;
        let mut short = Vec::new();
        for _ in 0..5 {
            short.push(alone(&mut site, &mut crew, workflow, few).await?);
        }
        short.sort_by(f64::total_cmp);
        each.push((long, long / short[2]));
    }
    let row = Row::named(row, Goal::AtMost(1.1));
    Ok(vec![row.measured("us a step", "of a step in a run of 1,000", &each)])
}

/// How long a step takes in a run with this many, in us.
async fn alone(site: &mut Site, crew: &mut Crew, workflow: &'static str, steps: u64) -> Fallible<f64> {
    let mut runs = Runs::of_turns(workflow, 1, steps);
    runs.input["left"] = steps.into();
    let pass = site.pass(crew, &runs).await?;
    Ok(pass.took.as_secs_f64() * 1e6 / number(steps))
}

fn chain(name: &str, each: &[(f64, f64)], cost: Cost) -> Row {
    Row::named(name, Goal::AtLeast(0.6)).measured("steps/s", "of the floor", each).with_cost(cost)
}

async fn at_full_load(
    effort: Effort,
    settings: &'static [&'static str],
    workflow: &'static str,
) -> Fallible<(Vec<(f64, f64)>, Cost)> {
    let mut site = Site::open(settings).await?;
    let mut crew = site.crew(&site.serve(&[workflow]), 1).await?;
    let floor = site.floor(effort).await?;
    let turns = site.turns(&mut crew, effort, &runs(workflow, 10)).await?;
    let mut each = Vec::new();
    let mut costs = Vec::new();
    for _ in 0..effort.times {
        let before = floor.rate().await?;
        let runs = runs(workflow, turns);
        let pass = site.pass(&mut crew, &runs).await?;
        // Other programs use the machine too: the floor of a pass is measured before and after it.
        let least = before.between(floor.rate().await?);
        let rate = number(runs.bodies) / pass.took.as_secs_f64();
        each.push((rate, rate / least.per_second));
        costs.push(pass.cost.beside(least));
    }
    costs.sort_by(|a, b| a.redis_us.total_cmp(&b.redis_us));
    Ok((each, costs[costs.len() / 2]))
}

fn runs(workflow: &'static str, turns: u64) -> Runs {
    let mut runs = Runs::of_turns(workflow, RUNS, turns);
    if workflow == "recorder" {
        // Its one body makes all the steps, each with as much data as an event of the chain.
        runs.input["left"] = turns.into();
    }
    runs
}
