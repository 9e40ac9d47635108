//! How long one step of a run waits after the one before.

use crate::Fallible;
use crate::bench::{Effort, OFF, Runs, Site};
use crate::row::{Goal, Row};
use crate::stats::percentile;

pub(super) async fn hand_off(effort: Effort) -> Fallible<Vec<Row>> {
    let site = Site::open(OFF).await?;
    let mut crew = site.crew(&site.serve(&["relay"]), 1).await?;
    let floor = site.floor(effort).await?;
    let steps = effort.count(4000);
    let (mut middle, mut late) = (Vec::new(), Vec::new());
    for _ in 0..effort.times {
        let (one_call, _) = floor.one_call(usize::try_from(steps)?).await?;
        let runs = Runs::of_turns("relay", 1, steps);
        crew.expect(runs.bodies).await?;
        let ids = site.send(&runs).await?;
        crew.reached().await?;
        site.completed(&ids).await?;
        let taken = crew.take().await?;
        let mut gaps: Vec<_> = taken.gaps.iter().map(|gap| gap.as_secs_f64() * 1e6).collect();
        if gaps.len() as u64 + 1 != steps {
            return Err(format!("{} hand-offs of {steps} steps", gaps.len()).into());
        }
        gaps.sort_by(f64::total_cmp);
        for (samples, percent) in [(&mut middle, 50.0), (&mut late, 99.0)] {
            let gap = percentile(&gaps, percent);
            samples.push((gap, gap / one_call));
        }
    }
    let row = |name, most, each: &[_]| Row::named(name, Goal::AtMost(most)).measured("us", "x one bare call", each);
    Ok(vec![row("hand-off-p50", 1.3, &middle), row("hand-off-p99", 3.0, &late)])
}
