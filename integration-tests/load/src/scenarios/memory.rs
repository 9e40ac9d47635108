//! What Redis keeps about a run that has ended.

use serde_json::json;

use crate::Fallible;
use crate::bench::{Effort, OFF, Runs, Site};
use crate::row::{Goal, Row};
use crate::stats::number;

const STEPS: u64 = 10;

pub(super) async fn finished(effort: Effort) -> Fallible<Vec<Row>> {
    let mut each = Vec::new();
    for _ in 0..effort.times {
        let mut site = Site::open(OFF).await?;
        let mut crew = site.crew(&site.serve(&["keeper"]), 1).await?;
        let runs = |count| {
            let mut runs = Runs::of_turns("keeper", count, STEPS);
            runs.context = Some(json!({ "note": "x".repeat(236) }));
            runs
        };
        site.pass(&mut crew, &runs(2)).await?;
        let empty = site.used_memory().await?;
        let runs = runs(effort.count(2000));
        site.pass(&mut crew, &runs).await?;
        each.push((site.used_memory().await? - empty) / number(runs.count) / 1024.0);
    }
    Ok(vec![Row::named("memory-finished", Goal::AtMost(2.0)).absolute("KB", &each)])
}
