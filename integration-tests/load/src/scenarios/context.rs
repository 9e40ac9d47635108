//! What large events and contexts cost.

use serde_json::json;

use crate::Fallible;
use crate::bench::{Effort, OFF, Runs, Site};
use crate::crew::Crew;
use crate::floor::PAYLOAD;
use crate::row::{Goal, Row};
use crate::stats::number;

const LARGE: usize = 64 * 1024;
const RUNS: u64 = 32;

async fn us_per_step(site: &mut Site, crew: &mut Crew, runs: &Runs) -> Fallible<f64> {
    Ok(site.pass(crew, runs).await?.took.as_secs_f64() * 1e6 / number(runs.bodies))
}

/// An event of 64 KB travels to Redis at each step. The cost of that is known from the floor, and subtracted.
pub(super) async fn large_event(effort: Effort) -> Fallible<Vec<Row>> {
    let mut site = Site::open(OFF).await?;
    let mut crew = site.crew(&site.serve(&["chain"]), 1).await?;
    let floor = site.floor(effort).await?;
    let small = Runs::of_turns("chain", RUNS, effort.count(600).max(10));
    let mut large = Runs::of_turns("chain", RUNS, effort.count(60).max(5));
    large.input["pad"] = "x".repeat(LARGE).into();
    site.pass(&mut crew, &small).await?;
    let mut each = Vec::new();
    for _ in 0..effort.times {
        let (heavy, light) = (floor.rate_with(LARGE).await?, floor.rate_with(PAYLOAD).await?);
        let travel = 1e6 / heavy.per_second - 1e6 / light.per_second;
        let of_small = us_per_step(&mut site, &mut crew, &small).await?;
        let of_large = us_per_step(&mut site, &mut crew, &large).await?;
        each.push((of_large, (of_large - travel.max(0.0)) / of_small));
    }
    Ok(vec![Row::named("event-64k", Goal::AtMost(1.5)).measured("us/step", "x 256 B, less the bytes", &each)])
}

/// A context of 64 KB of which a few bytes change at each step: nothing large needs to travel.
pub(super) async fn large_context(effort: Effort) -> Fallible<Vec<Row>> {
    let mut site = Site::open(OFF).await?;
    let mut crew = site.crew(&site.serve(&["keeper"]), 1).await?;
    let runs = |bytes: usize, turns| {
        let mut runs = Runs::of_turns("keeper", RUNS, turns);
        runs.context = Some(json!({ "large": "x".repeat(bytes) }));
        runs
    };
    let (small, large) = (runs(PAYLOAD, effort.count(600).max(10)), runs(LARGE, effort.count(200).max(5)));
    site.pass(&mut crew, &small).await?;
    let mut each = Vec::new();
    for _ in 0..effort.times {
        let of_small = us_per_step(&mut site, &mut crew, &small).await?;
        let of_large = us_per_step(&mut site, &mut crew, &large).await?;
        each.push((of_large, of_large / of_small));
    }
    Ok(vec![Row::named("context-64k", Goal::AtMost(1.5)).measured("us/step", "x 256 B", &each)])
}
