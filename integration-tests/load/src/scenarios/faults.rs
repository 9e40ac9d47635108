//! How soon others take over a worker's steps.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use stepfleet::Config;

use crate::Fallible;
use crate::bench::{Effort, OFF, Runs, Site};
use crate::row::{Goal, Row};
use crate::stats::percentile;

/// Workers that are killed while each holds a step.
pub(super) async fn killed(effort: Effort) -> Fallible<Vec<Row>> {
    let (mut middle, mut late) = (Vec::new(), Vec::new());
    for _ in 0..effort.times {
        let mut each = Vec::new();
        let site = Site::open(OFF).await?;
        let mut holder = site.crew(&site.serve(&["hold"]), 1).await?;
        for turn in 0..=effort.count(20) {
            // A new run each time: one that loses its worker too often fails.
            let ids = site.send(&Runs::of_turns("hold", 1, 1)).await?;
            let held = holder.began().await?;
            let mut heir = site.crew(&site.serve(&["hold"]), 2).await?;
            let killed = Instant::now();
            holder.kill()?;
            let begun = heir.began().await?;
            // A coordinator that has just started reaps nobody in its first second.
            if turn > 0 {
                each.push(killed.elapsed().as_secs_f64());
            }
            if begun != held {
                return Err(format!("{held} was held, and {begun} began").into());
            }
            heir.release().await?;
            site.completed(&ids).await?;
            holder = heir;
        }
        each.sort_by(f64::total_cmp);
        middle.push(percentile(&each, 50.0));
        late.push(percentile(&each, 99.0));
    }
    let row = |name, each: &[f64]| Row::named(name, Goal::AtMost(0.2)).absolute("s", each);
    Ok(vec![row("kill-9-median", &middle), row("kill-9-p99", &late)])
}

/// Workers that freeze and keep their connections: only the lease shows it.
pub(super) async fn frozen(effort: Effort) -> Fallible<Vec<Row>> {
    let lease = Config::default().lease.as_secs_f64();
    let site = Site::open(OFF).await?;
    let mut holders = Vec::new();
    let mut ids = Vec::new();
    for n in 1..=effort.times {
        let mut serve = site.serve(&["hold"]);
        serve.concurrency = 1;
        let mut holder = site.crew(&serve, n).await?;
        ids.extend(site.send(&Runs::of_turns("hold", 1, 1)).await?);
        holder.began().await?;
        holders.push(holder);
        // Each is at a different moment between two heartbeats.
        tokio::time::sleep(Duration::from_millis(330)).await;
    }
    let mut heir = site.crew(&site.serve(&["hold"]), effort.times + 1).await?;
    let frozen = Instant::now();
    for holder in &holders {
        holder.freeze()?;
    }
    let mut each = Vec::new();
    for _ in &holders {
        heir.began().await?;
        let took = frozen.elapsed().as_secs_f64();
        each.push((took, took / lease));
    }
    heir.release().await?;
    try_join_all(ids.iter().map(|id| site.result(id))).await?;
    Ok(vec![Row::named("frozen", Goal::AtMost(1.0)).measured("s", "of the lease", &each)])
}
