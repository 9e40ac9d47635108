//! Mistakes in a workflow's graph. Pure.

use std::collections::HashSet;

use super::{GraphError, Node, Router};
use crate::event::{Accepts, Event};
use crate::failed::StepFailed;

impl Node {
    /// Everything that it waits for can come.
    fn is_reached(&self, reached: &HashSet<&str>) -> bool {
        self.accepts.events().iter().all(|event| reached.contains(event))
    }

    /// The events that it emits, and how.
    fn ways(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let returned = self.emits.iter().map(|(event, _)| (*event, "returns"));
        returned.chain(self.sends.iter().map(|event| (*event, "sends")))
    }
}

impl Router {
    /// Finds what cannot work: each mistake says what to do.
    pub(crate) fn check(&self) -> Result<(), GraphError> {
        let mut mistakes = Vec::new();
        self.check_ends(&mut mistakes);
        self.check_steps(&mut mistakes);
        self.check_catches(&mut mistakes);
        let reached = self.reached();
        self.check_reach(&reached, &mut mistakes);
        self.check_joins(&reached, &mut mistakes);
        if mistakes.is_empty() {
            self.check_levels(&mut mistakes);
        }
        if reached.contains(self.stop) {
            self.check_loops(&reached, &mut mistakes);
        }
        if mistakes.is_empty() { Ok(()) } else { Err(GraphError::new(self.workflow, mistakes)) }
    }

    fn takes(&self, event: &str) -> bool {
        self.taking(event).next().is_some()
    }

    /// Where runs begin and end.
    fn check_ends(&self, mistakes: &mut Vec<String>) {
        let (start, stop) = (self.start, self.stop);
        if start == stop {
            mistakes.push(format!("{start} is both its start and its stop event; end it with another event"));
        }
        if self.each(start).next().is_none() {
            mistakes.push(format!("no step accepts its start event {start}; add a step that takes {start}"));
        }
        for event in &self.external {
            if *event == StepFailed::NAME {
                mistakes.push(format!("{event} cannot come from outside; remove it from `external`"));
            } else if *event == stop {
                mistakes.push(format!(
                    "its stop event {stop} cannot come from outside; let a step take another external event and return {stop}"
                ));
            } else if self.each(event).next().is_none() {
                mistakes.push(format!("no step accepts its external event {event}; add a step that takes {event}"));
            }
        }
    }

    fn check_steps(&self, mistakes: &mut Vec<String>) {
        let mut steps = HashSet::new();
        for node in &self.nodes {
            let step = node.step;
            if !steps.insert(step) {
                mistakes.push(format!("two steps are named {step}; rename one of them"));
            }
            for (event, how) in node.ways() {
                if event != self.stop && !self.takes(event) {
                    mistakes.push(format!(
                        "step {step} {how} {event}, which no step accepts; add a step that takes {event} or Joined<{event}>"
                    ));
                }
            }
            let mut parts = HashSet::new();
            if let Some(twice) = node.accepts.events().into_iter().find(|event| !parts.insert(*event)) {
                mistakes.push(format!(
                    "step {step} takes a set with two {twice}; take events of different types, or collect them with ctx.collect"
                ));
            }
            if node.accepts.events().contains(&self.stop) {
                mistakes.push(format!(
                    "step {step} takes the stop event {0}, which ends the run: no step is executed after it; return another \
                     event that {step} takes, and return {0} from {step}",
                    self.stop
                ));
            }
            if node.emits.contains(&(self.stop, true)) {
                mistakes.push(format!(
                    "step {step} returns a list of its stop event {0}, and a run ends once; return one {0}",
                    self.stop
                ));
            }
        }
    }

    /// The events that can come.
    fn reached(&self) -> HashSet<&'static str> {
        let mut reached: HashSet<&str> = self.external.iter().copied().chain([self.start, StepFailed::NAME]).collect();
        loop {
            let nodes = self.nodes.iter().filter(|n| n.is_reached(&reached));
            let more: Vec<&str> = nodes.flat_map(|n| n.leaves().map(|(event, _)| event)).collect();
            let before = reached.len();
            reached.extend(more);
            if reached.len() == before {
                return reached;
            }
        }
    }

    fn check_reach(&self, reached: &HashSet<&str>, mistakes: &mut Vec<String>) {
        for node in self.nodes.iter().filter(|n| !n.is_reached(reached)) {
            let missing = node.accepts.events().into_iter().find(|event| !reached.contains(event));
            let (step, event) = (node.step, missing.unwrap_or_default());
            mistakes.push(format!(
                "step {step} is never reached: no step that can run returns or sends {event}; return it somewhere, name \
                 it in `sends` or `external`, or remove the step"
            ));
        }
        if !reached.contains(self.stop) {
            mistakes.push(format!(
                "its stop event {} is never returned; a run would never end; return it from the last step",
                self.stop
            ));
        }
    }

    /// A step that joins a fan-out must be in one.
    fn check_joins(&self, reached: &HashSet<&str>, mistakes: &mut Vec<String>) {
        let runs = self.nodes.iter().filter(|n| n.is_reached(reached));
        let fans: HashSet<&str> =
            runs.flat_map(|n| &n.emits).filter(|(_, many)| *many).map(|(event, _)| *event).collect();
        let joins: HashSet<String> =
            fans.iter().flat_map(|event| self.joins_of(event)).map(|join| join.route.step).collect();
        for node in &self.nodes {
            if let Accepts::Joined(event) | Accepts::First(event, _) = node.accepts
                && reached.contains(event)
                && !joins.contains(node.step)
            {
                mistakes.push(format!(
                    "step {} takes Joined<{event}>, but {event} never comes out of a fan-out; return a Vec where the \
                     branches begin, or take {event}",
                    node.step
                ));
            }
        }
    }

    /// From each step there must be a path to the stop event, or to a step that may emit nothing.
    fn check_loops(&self, reached: &HashSet<&str>, mistakes: &mut Vec<String>) {
        let is_over =
            |node: &Node| node.ends || node.leaves().any(|(event, _)| event == self.stop || !self.takes(event));
        let mut fine: HashSet<&str> =
            self.nodes.iter().filter(|n| is_over(n)).flat_map(|n| n.accepts.events()).collect();
        let leads =
            |node: &Node, fine: &HashSet<&str>| is_over(node) || node.leaves().any(|(event, _)| fine.contains(event));
        loop {
            let before = fine.len();
            let more: Vec<&str> =
                self.nodes.iter().filter(|n| leads(n, &fine)).flat_map(|n| n.accepts.events()).collect();
            fine.extend(more);
            if fine.len() == before {
                break;
            }
        }
        let lost = self.nodes.iter().filter(|n| n.is_reached(reached) && !leads(n, &fine));
        let lost: Vec<&str> = lost.map(|n| n.step).collect();
        if !lost.is_empty() {
            let (s, them) = if lost.len() == 1 { ("", "it") } else { ("s", "one of them") };
            mistakes.push(format!(
                "step{s} {} can only loop for ever: no path leads to the stop event {}; return it, or an Option, from \
                 {them}",
                lost.join(", "),
                self.stop
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use Accepts::{Each, Joined};

    use super::super::tests::{graph, names, node};
    use super::*;

    fn mistakes(graph: &Router) -> Vec<String> {
        graph.check().err().map(|error| error.mistakes().to_vec()).unwrap_or_default()
    }

    #[test]
    fn what_is_sent_counts_as_left_behind_and_opens_no_fan_out() {
        let mut split = node("split", Each("Start"), &[("Page", true)]);
        split.sends = vec!["Note"];
        let mut note = node("note", Each("Note"), &[]);
        note.sends = vec!["Gone"];
        let mut graph = graph(vec![split, note, node("sum", Joined("Page"), &[("Stop", false)])]);
        assert!(mistakes(&graph)[0].contains("step note sends Gone, which no step accepts; add a step"));
        graph.nodes[1].sends = vec!["Page"];
        graph.check().unwrap();
        assert_eq!(names(&graph.joins_of("Page")), ["sum"]);
        assert_eq!(names(&graph.joins_of("Note")), ["sum"]);
    }

    #[test]
    fn each_mistake_names_the_step_and_what_to_do() {
        let answer = || node("answer", Each("Start"), &[("Stop", false)]);
        let cases: Vec<(Vec<Node>, &[&str])> = vec![
            (vec![answer()], &[]),
            (vec![answer(), node("log", Each("Start"), &[])], &[]),
            (
                vec![node("a", Each("Start"), &[("Stop", false), ("Nobody", false)])],
                &["step a returns Nobody, which no step accepts; add a step that takes Nobody or Joined<Nobody>"],
            ),
            (vec![answer(), node("answer", Each("Start"), &[])], &["two steps are named answer; rename one of them"]),
            (
                vec![answer(), node("b", Each("Unsent"), &[])],
                &["step b is never reached: no step that can run returns or sends Unsent; return it somewhere"],
            ),
            (vec![answer(), node("b", Each("B"), &[("B", false)])], &["step b is never reached: no step that can run"]),
            (
                vec![node("a", Each("Start"), &[("B", false)]), node("b", Each("B"), &[])],
                &["its stop event Stop is never returned; a run would never end; return it from the last step"],
            ),
            (
                vec![node("b", Each("B"), &[("Stop", false)])],
                &[
                    "no step accepts its start event Start; add a step that takes Start",
                    "step b is never reached",
                    "its stop event Stop is never returned",
                ],
            ),
            (
                vec![node("a", Each("Start"), &[("Stop", true)])],
                &["step a returns a list of its stop event Stop, and a run ends once; return one Stop"],
            ),
        ];
        check_all(cases);
    }

    #[test]
    fn a_join_outside_of_any_fan_out_is_a_mistake() {
        const NEVER: &str =
            "step total takes Joined<Count>, but Count never comes out of a fan-out; return a Vec where";
        let total = || node("total", Joined("Count"), &[("Stop", false)]);
        let mut sender = node("split", Each("Start"), &[]);
        sender.sends = vec!["Count"];
        let cases: Vec<(Vec<Node>, &[&str])> = vec![
            (vec![node("split", Each("Start"), &[("Count", true)]), total()], &[]),
            (vec![node("split", Each("Start"), &[("Count", false)]), total()], &[NEVER]),
            (vec![sender, total()], &[NEVER]),
            (
                // The only fan-out leads elsewhere.
                vec![
                    node("split", Each("Start"), &[("Count", false), ("Page", true)]),
                    node("read", Each("Page"), &[]),
                    total(),
                ],
                &[NEVER],
            ),
            (
                // In a fan-out and outside of it: that depends on the events.
                vec![
                    node("split", Each("Start"), &[("Page", true), ("Page", false)]),
                    node("read", Each("Page"), &[("Count", false), ("Stop", false)]),
                    total(),
                ],
                &[],
            ),
        ];
        check_all(cases);
    }

    #[test]
    fn what_can_only_go_round_is_a_mistake() {
        let round = |emits: &[(&'static str, bool)], ends| {
            let start = node("start", Each("Start"), &[("Stop", false), ("A", false)]);
            let mut b = node("b", Each("B"), emits);
            b.ends = ends;
            vec![start, node("a", Each("A"), &[("B", false)]), b]
        };
        let cases: Vec<(Vec<Node>, &[&str])> = vec![
            (round(&[("A", false)], true), &[]),
            (round(&[("A", false), ("Start", false)], false), &[]),
            (
                round(&[("A", false)], false),
                &["steps a, b can only loop for ever: no path leads to the stop event Stop; return it, or an Option, \
                     from one of them"],
            ),
            (
                vec![
                    node("start", Each("Start"), &[("Stop", false), ("A", false)]),
                    node("a", Each("A"), &[("A", false)]),
                ],
                &["step a can only loop for ever: no path leads to the stop event Stop; return it, or an Option, \
                     from it"],
            ),
        ];
        check_all(cases);
    }

    #[track_caller]
    fn check_all(cases: Vec<(Vec<Node>, &[&str])>) {
        for (nodes, expected) in cases {
            let shown = format!("{nodes:?}");
            let found = mistakes(&graph(nodes));
            assert_eq!(found.len(), expected.len(), "{found:?} of {shown}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found} is not {expected}");
            }
        }
    }

    #[test]
    fn a_step_that_takes_the_stop_event_is_a_mistake() {
        for accepts in [Each("Stop"), Accepts::Set(&["Stop", "Page"]), Joined("Stop")] {
            let nodes = vec![
                node("split", Each("Start"), &[("Page", true), ("Stop", false)]),
                node("read", Each("Page"), &[]),
                node("late", accepts, &[]),
            ];
            let found = mistakes(&graph(nodes));
            assert!(found.iter().any(|found| found.starts_with("step late takes the stop event Stop")), "{found:?}");
        }
    }

    #[test]
    fn what_comes_from_outside_reaches_steps_and_needs_one() {
        let approve = node("approve", Each("Approval"), &[("Stop", false)]);
        let mut graph = graph(vec![node("ask", Each("Start"), &[]), approve]);
        assert!(mistakes(&graph)[0].contains("step approve is never reached"));
        graph.external = vec!["Approval"];
        graph.check().unwrap();
        graph.external = vec!["Approval", "Refusal", "Stop"];
        let found = mistakes(&graph);
        assert!(found[0].contains("no step accepts its external event Refusal; add a step"), "{found:?}");
        assert!(found[1].contains("its stop event Stop cannot come from outside"), "{found:?}");
        graph.external = vec!["Approval"];
        graph.start = "Stop";
        assert!(mistakes(&graph)[0].contains("both its start and its stop"));
    }
}
