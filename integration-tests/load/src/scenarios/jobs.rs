//! Runs of one step, from request to result, and the intake alone.

use std::time::Instant;

use crate::Fallible;
use crate::bench::{Effort, OFF, Runs, Site};
use crate::row::{Goal, Row};
use crate::stats::number;
use crate::usage::Usage;

pub(super) async fn jobs(effort: Effort) -> Fallible<Vec<Row>> {
    let mut site = Site::open(OFF).await?;
    let mut crew = site.crew(&site.serve(&["chain"]), 1).await?;
    let floor = site.floor(effort).await?;
    let runs = Runs::of_turns("chain", effort.count(20_000), 1);
    let mut each = Vec::new();
    let mut cost = None;
    for _ in 0..effort.times {
        let before = floor.rate().await?;
        let pass = site.pass(&mut crew, &runs).await?;
        let least = before.between(floor.rate().await?);
        let rate = number(runs.count) / pass.in_all.as_secs_f64();
        each.push((rate, rate / least.per_second));
        cost = Some(pass.cost.beside(least));
    }
    let mut row = Row::named("jobs", Goal::AtLeast(0.25)).measured("jobs/s", "of the floor", &each);
    row.cost = cost;
    Ok(vec![row])
}

/// The only slot of the only worker is taken: runs are started, and wait.
pub(super) async fn intake(effort: Effort) -> Fallible<Vec<Row>> {
    let mut each = Vec::new();
    let mut bytes = Vec::new();
    let mut cost = None;
    for _ in 0..effort.times {
        let mut site = Site::open(OFF).await?;
        let mut serve = site.serve(&["hold", "chain"]);
        serve.concurrency = 1;
        let mut crew = site.crew(&serve, 1).await?;
        let floor = site.floor(effort).await?;
        site.send(&Runs::of_turns("hold", 1, 1)).await?;
        crew.began().await?;
        // The stream of the queue exists already, so the first run does not count extra.
        let first = site.send(&Runs::of_turns("chain", 10, 1)).await?;
        site.started(&first[9]).await?;
        let least = floor.rate().await?;

        let runs = Runs::of_turns("chain", effort.count(20_000), 1);
        let empty = site.used_memory().await?;
        let before = Usage::read(&mut site.redis).await?;
        let begun = Instant::now();
        let ids = site.send(&runs).await?;
        site.started(ids.last().ok_or("nothing was sent")?).await?;
        let rate = number(runs.count) / begun.elapsed().as_secs_f64();
        cost = Some(Usage::read(&mut site.redis).await?.per_step(before, runs.count).beside(least));
        bytes.push((site.used_memory().await? - empty) / number(runs.count) / 1024.0);
        let least = least.between(floor.rate().await?);
        each.push((rate, rate / least.per_second));

        // All of them exist, and none was executed meanwhile.
        for id in &ids {
            site.started(id).await?;
        }
        if crew.take().await?.bodies != 0 {
            return Err("a body began while the only slot was taken".into());
        }
    }
    let mut row = Row::named("intake", Goal::AtLeast(0.15)).measured("runs/s", "of the floor", &each);
    row.cost = cost;
    Ok(vec![row, Row::named("memory-queued", Goal::AtMost(1.0)).absolute("KB", &bytes)])
}
