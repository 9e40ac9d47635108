//! The plan of a commit: turns a workflow's graph and what a step has emitted into the arguments of the transition.

use std::time::Duration;

use stepfleet_shared::step::{Claimed, Commit, Fan, Join, Part, Route};

use super::graph::Router;
use super::overlay::Changes;
use super::recovery::recoveries;
use crate::emit::Emission;
use crate::error::Error;

/// A fan-out larger than this, or with more bytes, is staged in chunks ahead of its commit, so that no call blocks
/// Redis for long.
const INLINE_EVENTS: usize = 200;
const INLINE_BYTES: usize = 512 * 1024;
/// An event that a step emits, for one step or for all that take it.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) event: &'static str,
    pub(crate) payload: Vec<u8>,
    /// The step; none for all that take it.
    pub(crate) to: Option<String>,
}

/// What a commit writes, and what must be staged before it.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) commit: Commit,
    pub(crate) staged: Vec<Vec<(Route, Vec<u8>)>>,
}

/// The changes of the context, as they are by now.
pub(crate) fn write(commit: &mut Commit, changes: Changes) {
    (commit.set, commit.unset) = (changes.set, changes.unset);
    (commit.merges, commit.expects) = (changes.merges, changes.expects);
}

/// Routes what a step has returned and sent. If the run ends, it stays readable for `retention`.
///
/// Fails if no step accepts an event.
pub(crate) fn of_step(
    router: &Router,
    retention: Duration,
    step: &Claimed,
    emission: Emission,
    sent: Vec<Outgoing>,
    changes: Changes,
) -> Result<Plan, Error> {
    let rests = router.rests();
    let emitted = if step.follow_steps { names_of(router, &emission, &sent) } else { Vec::new() };
    let mut commit = Commit { retention, rests, result: emission.result, emitted, ..Commit::default() };
    // The journal's entries of earlier attempts.
    commit.journalled = step.fence.attempt > 1;
    write(&mut commit, changes);
    if commit.result.is_some() {
        return Ok(Plan { commit, staged: Vec::new() });
    }
    let recoveries = recoveries(router, step);
    let recovered = |route| Route { recoveries, ..route };
    let returned = emission.events.into_iter().map(|(event, payload)| Outgoing { event, payload, to: None });
    for Outgoing { event, payload, to } in returned.chain(sent) {
        let is_meant = |step: &str| to.as_ref().is_none_or(|to| to == step);
        let mut takers = router.takers(event);
        takers.retain(|route| is_meant(&route.step));
        let mut gatherers = router.gatherers(event);
        gatherers.retain(|step| is_meant(step));
        let parts = router.parts(event, &payload).into_iter().filter(|part| is_meant(&part.route.step));
        let before = commit.emits.len() + commit.joins.len() + commit.parts.len();
        commit.parts.extend(parts.map(|part| Part { route: recovered(part.route), ..part }));
        // It may be large: where only one step takes it, it is not copied.
        if takers.len() == 1 && gatherers.is_empty() {
            commit.emits.extend(takers.pop().map(|route| (recovered(route), payload)));
        } else {
            commit.emits.extend(takers.into_iter().map(|route| (recovered(route), payload.clone())));
            commit.joins.extend(gatherers.into_iter().map(|step| (step.to_owned(), payload.clone())));
        }
        if commit.emits.len() + commit.joins.len() + commit.parts.len() == before {
            return Err(Error::terminal(format!("step {} emitted {event}, which no step accepts", step.step)));
        }
    }
    let mut staged = Vec::new();
    if let Some(event) = emission.fan {
        let joins = router.joins_of(event).into_iter();
        let joins: Vec<Join> = joins.map(|join| Join { route: recovered(join.route), ..join }).collect();
        staged = split_off_large(&mut commit.emits);
        let count = staged.iter().map(Vec::len).sum::<usize>() as u64;
        if !joins.is_empty() || count > 0 {
            commit.fan = Some(Fan { joins, staged: count });
        }
    }
    Ok(Plan { commit, staged })
}

/// The events that were emitted, each once. If the stop event is among them, the others are dropped.
fn names_of(router: &Router, emission: &Emission, sent: &[Outgoing]) -> Vec<String> {
    if emission.result.is_some() {
        return vec![router.stop().to_owned()];
    }
    let mut names: Vec<String> = Vec::new();
    for name in emission.events.iter().map(|emitted| emitted.0).chain(sent.iter().map(|sent| sent.event)) {
        if names.iter().all(|known| known != name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Empty if all fits into one call; otherwise everything, in chunks.
fn split_off_large(emits: &mut Vec<(Route, Vec<u8>)>) -> Vec<Vec<(Route, Vec<u8>)>> {
    let bytes: usize = emits.iter().map(|(_, payload)| payload.len()).sum();
    if emits.len() <= INLINE_EVENTS && bytes <= INLINE_BYTES {
        return Vec::new();
    }
    let mut chunks: Vec<Vec<(Route, Vec<u8>)>> = Vec::new();
    let mut size = usize::MAX;
    for emit in emits.drain(..) {
        let full = chunks.last().is_none_or(|chunk| chunk.len() >= INLINE_EVENTS || size + emit.1.len() > INLINE_BYTES);
        if full {
            chunks.push(Vec::new());
            size = 0;
        }
        size += emit.1.len();
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(emit);
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use stepfleet_shared::codec::Content;
    use stepfleet_shared::step::Fence;

    use super::super::graph::tests::{graph, node};
    use super::*;
    use crate::event::Accepts::{Each, Joined, Set};

    const HOUR: Duration = Duration::from_secs(3600);

    fn pages() -> Router {
        graph(vec![
            node("split", Each("Start"), &[("Page", true)]),
            node("read", Each("Page"), &[("Text", false)]),
            node("count", Each("Page"), &[("Text", false)]),
            node("sum", Joined("Text"), &[("Stop", false)]),
            node("file", Set(&["Text", "Cover"]), &[("Stop", false)]),
        ])
    }

    fn emitted(events: &[&'static str], fan: Option<&'static str>) -> Emission {
        let events = events.iter().map(|event| (*event, vec![7])).collect();
        let mut emission = Emission::new("Stop", Content::Json);
        (emission.events, emission.fan) = (events, fan);
        emission
    }

    fn planned(step: &Claimed, emission: Emission, sent: Vec<Outgoing>) -> Result<Plan, Error> {
        of_step(&pages(), HOUR, step, emission, sent, Changes::default())
    }

    fn step(name: &str) -> Claimed {
        Claimed { step: name.into(), fence: Fence { attempt: 1, ..Fence::default() }, ..Claimed::default() }
    }

    fn steps(commit: &Commit) -> Vec<&str> {
        commit.emits.iter().map(|(route, _)| route.step.as_str()).collect()
    }

    #[test]
    fn a_fan_out_goes_to_all_that_take_its_events_and_names_who_joins() {
        let plan = planned(&step("split"), emitted(&["Page", "Page"], Some("Page")), vec![]).unwrap();
        assert_eq!(steps(&plan.commit), ["read", "count", "read", "count"]);
        let fan = plan.commit.fan.unwrap();
        assert_eq!(fan.joins.iter().map(|join| join.route.step.as_str()).collect::<Vec<_>>(), ["sum"]);
        assert_eq!((fan.staged, plan.staged.len(), plan.commit.retention), (0, 0, HOUR));
    }

    #[test]
    fn an_event_is_gathered_and_fills_a_slot_of_each_set() {
        let plan = planned(&step("read"), emitted(&["Text"], None), vec![]).unwrap();
        assert_eq!(plan.commit.joins, [("sum".to_owned(), vec![7])]);
        let parts: Vec<_> = plan.commit.parts.iter().map(|part| (&*part.route.step, part.slot, part.slots)).collect();
        assert_eq!((parts, plan.commit.emits.len()), (vec![("file", 1, 2)], 0));
    }

    #[test]
    fn what_is_sent_to_one_step_reaches_no_other() {
        let to = |to: &str| vec![Outgoing { event: "Page", payload: vec![8], to: Some(to.into()) }];
        let plan = planned(&step("split"), emitted(&[], None), to("count")).unwrap();
        assert_eq!(steps(&plan.commit), ["count"]);
        let nobody = planned(&step("split"), emitted(&[], None), to("sum")).unwrap_err();
        assert!(nobody.is_terminal() && nobody.to_string().contains("no step accepts"), "{nobody}");
    }

    #[test]
    fn the_end_of_a_run_leaves_nothing_else_behind() {
        let mut ended = emitted(&["Page"], None);
        ended.result = Some(vec![1]);
        let plan = planned(&step("split"), ended, vec![]).unwrap();
        assert_eq!((plan.commit.result, plan.commit.emits.len(), plan.commit.journalled), (Some(vec![1]), 0, false));
    }

    #[test]
    fn a_later_attempt_ends_what_earlier_ones_have_left() {
        let mut again = step("split");
        again.fence.attempt = 2;
        assert!(planned(&again, emitted(&["Page"], None), vec![]).unwrap().commit.journalled);
    }

    fn emits(count: usize, bytes: usize) -> Vec<(Route, Vec<u8>)> {
        let route = Route { step: "s".into(), event: "E".into(), ..Route::default() };
        (0..count).map(|_| (route.clone(), vec![0; bytes])).collect()
    }

    #[test]
    fn what_fits_is_not_staged() {
        let mut few = emits(INLINE_EVENTS, 10);
        assert!(split_off_large(&mut few).is_empty());
        assert_eq!(few.len(), INLINE_EVENTS);
    }

    #[test]
    fn a_large_fan_out_is_staged_in_bounded_chunks_without_losing_any() {
        for (count, bytes) in [(1001, 10), (8, 300_000), (INLINE_EVENTS + 1, 0)] {
            let mut many = emits(count, bytes);
            let chunks = split_off_large(&mut many);
            assert!(many.is_empty());
            assert_eq!(chunks.iter().map(Vec::len).sum::<usize>(), count);
            for chunk in &chunks {
                let size: usize = chunk.iter().map(|(_, p)| p.len()).sum();
                assert!(chunk.len() <= INLINE_EVENTS && (size <= INLINE_BYTES || chunk.len() == 1));
            }
        }
    }
}
