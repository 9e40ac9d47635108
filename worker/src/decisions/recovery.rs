//! Which step catches the failure of another, and how often.

use stepfleet_shared::step::{Claimed, Route};

use super::graph::Router;

/// Who catches a failure.
pub(crate) enum Catcher {
    /// Nobody: the run fails.
    None,
    /// It has recovered as often as it may.
    UsedUp(String),
    /// This step.
    Step(Route),
}

/// Who catches the failure of a step.
pub(crate) fn catcher(router: &Router, step: &Claimed) -> Catcher {
    // If the workflow no longer has the step, the step itself has not failed.
    if !router.has_step(&step.step) {
        return Catcher::None;
    }
    let Some((mut route, most)) = router.catcher(&step.step) else { return Catcher::None };
    if step.recoveries >= most {
        let (count, name) = (step.recoveries, &route.step);
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        return Catcher::UsedUp(format!(
            "not recovered: failures were caught {times} on the way here, and step {name} recovers at most {most}"
        ));
    }
    route.recoveries = recoveries(router, step);
    Catcher::Step(route)
}

/// How often failures were caught on the way to what this step execution leaves behind.
pub(crate) fn recoveries(router: &Router, step: &Claimed) -> u32 {
    step.recoveries.saturating_add(u32::from(router.catches(&step.step)))
}
