//! How late timers are, and how fast many that are due at once are fired.

use std::time::{Duration, Instant};

use crate::Fallible;
use crate::bench::{Effort, OFF, Runs, Site};
use crate::crew::Crew;
use crate::row::{Goal, Row};
use crate::stats::{number, percentile};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) async fn timers(effort: Effort) -> Fallible<Vec<Row>> {
    let mut site = Site::open(OFF).await?;
    let mut crew = site.crew(&site.serve(&["chain", "late"]), 1).await?;
    let many = Runs::of_turns("chain", effort.count(10_000), 1);
    let pending = site.send_later(&many, |_| Some(HOUR)).await?;
    site.started(pending.last().ok_or("nothing was sent")?).await?;
    let (mut late, mut drained) = (Vec::new(), Vec::new());
    for _ in 0..effort.times {
        late.push(lateness(&site, &mut crew, effort).await?);
        let jobs = number(many.count) / site.pass(&mut crew, &many).await?.in_all.as_secs_f64();
        let rate = drain(&site, &mut crew, &many, effort).await?;
        drained.push((rate, rate / jobs));
    }
    Ok(vec![
        Row::named("timer-lateness", Goal::AtMost(10.0)).absolute("ms, p99", &late),
        Row::named("timer-drain", Goal::AtLeast(1.0)).measured("timers/s", "of the job rate", &drained),
    ])
}

/// Steps that fail and are tried again after a second, one every few milliseconds; p99 in milliseconds. The commit of
/// the failure is part of it.
async fn lateness(site: &Site, crew: &mut Crew, effort: Effort) -> Fallible<f64> {
    let count = effort.count(400);
    let one = Runs::of_turns("late", 1, 1);
    crew.expect(count).await?;
    let mut pace = tokio::time::interval(Duration::from_millis(4));
    let mut ids = Vec::new();
    for _ in 0..count {
        pace.tick().await;
        ids.extend(site.send(&one).await?);
    }
    crew.reached().await?;
    site.completed(&ids).await?;
    let taken = crew.take().await?;
    if taken.gaps.len() as u64 != count {
        return Err(format!("{} of {count} steps were tried again", taken.gaps.len()).into());
    }
    let mut late: Vec<_> = taken.gaps.iter().map(|late| late.as_secs_f64() * 1e3).collect();
    late.sort_by(f64::total_cmp);
    Ok(percentile(&late, 99.0))
}

/// Runs that are delayed until the same moment; how many a second begin from then on.
async fn drain(site: &Site, crew: &mut Crew, many: &Runs, effort: Effort) -> Fallible<f64> {
    crew.expect(many.count).await?;
    // Long enough to send them all.
    let due = Instant::now() + Duration::from_millis(300) + effort.length * 2;
    let ids = site.send_later(many, |_| Some(due.saturating_duration_since(Instant::now()))).await?;
    site.started(ids.last().ok_or("nothing was sent")?).await?;
    if Instant::now() >= due {
        return Err("the timers were due before they were all set".into());
    }
    crew.reached().await?;
    let took = due.elapsed();
    site.completed(&ids).await?;
    Ok(number(many.count) / took.as_secs_f64())
}
