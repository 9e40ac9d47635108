//! Fan-outs, joins, and branches that edit the same field.

use serde_json::json;

use crate::Fallible;
use crate::bench::{Effort, OFF, Runs, Site};
use crate::row::{Goal, Row};
use crate::stats::number;

pub(super) async fn out(effort: Effort) -> Fallible<Vec<Row>> {
    let mut site = Site::open(OFF).await?;
    let mut crew = site.crew(&site.serve(&["fan"]), 1).await?;
    let floor = site.floor(effort).await?;
    let runs = Runs::of_branches(1, effort.count(1000));
    site.pass(&mut crew, &runs).await?;
    let mut each = Vec::new();
    let mut cost = None;
    for _ in 0..effort.times * 3 {
        let before = floor.rate().await?;
        let pass = site.pass(&mut crew, &runs).await?;
        let least = before.between(floor.rate().await?);
        let took = pass.took.as_secs_f64();
        each.push((took * 1e3, took * least.per_second / number(runs.bodies)));
        cost = Some(pass.cost.beside(least));
    }
    let mut row = Row::named("fan-out-1000", Goal::AtMost(3.0)).measured("ms", "x the floor", &each);
    row.cost = cost;
    Ok(vec![row])
}

/// As many branches in one run as in many, so the load is the same.
pub(super) async fn branch_cost(effort: Effort) -> Fallible<Vec<Row>> {
    let mut site = Site::open(OFF).await?;
    let mut crew = site.crew(&site.serve(&["fan"]), 1).await?;
    let (runs, small) = (effort.count(100), 100);
    let (narrow, wide) = (Runs::of_branches(runs, small), Runs::of_branches(1, runs * small));
    site.pass(&mut crew, &narrow).await?;
    let mut each = Vec::new();
    for _ in 0..effort.times {
        let branches = number(runs * small);
        let of_narrow = site.pass(&mut crew, &narrow).await?.took.as_secs_f64() / branches;
        let of_wide = site.pass(&mut crew, &wide).await?.took.as_secs_f64() / branches;
        each.push((of_wide * 1e6, of_wide / of_narrow));
    }
    let row = Row::named("branch-cost", Goal::AtMost(1.2));
    Ok(vec![row.measured("us per branch", "x a branch of 100", &each)])
}

pub(super) async fn edit_field(effort: Effort) -> Fallible<Vec<Row>> {
    let site = Site::open(OFF).await?;
    let mut crew = site.crew(&site.serve(&["edits"]), 1).await?;
    let branches = effort.count(200);
    let input = json!({ "branches": branches });
    let runs = Runs { workflow: "edits", input, context: None, count: 1, bodies: branches };
    let mut each = Vec::new();
    for _ in 0..effort.times {
        crew.expect(0).await?;
        let ids = site.send(&runs).await?;
        let total = site.result(&ids[0]).await?["total"].as_u64();
        if total != Some(branches) {
            return Err(format!("{branches} branches added 1 each, and the field has {total:?}").into());
        }
        let bodies = number(crew.take().await?.bodies);
        each.push((bodies, bodies / number(branches)));
    }
    Ok(vec![Row::named("edit-field", Goal::Less).measured("bodies of 200 branches", "bodies per commit", &each)])
}
