//! Which step catches which failures. Pure.

use std::collections::HashMap;

use stepfleet_shared::step::Route;

use super::{Node, Router};
use crate::event::{Accepts, Event};
use crate::failed::{Catches, StepFailed};
use crate::workflow::Step;

/// What a step catches; None for one that takes something else.
pub(super) fn of<W>(step: &Step<W>) -> Option<Catches> {
    let is_failure = step.accepts == Accepts::Each(StepFailed::NAME);
    is_failure.then(|| step.catches.clone().unwrap_or_default())
}

impl Router {
    /// The step that catches the failures of this one, and how often; one that names it goes before one for all.
    pub(crate) fn catcher(&self, step: &str) -> Option<(Route, u32)> {
        let node = self.catching(step)?;
        Some((self.route(node.step, StepFailed::NAME), node.catches.as_ref()?.recoveries))
    }

    /// A step that catches the failures of others: what it emits counts as recovered.
    pub(crate) fn catches(&self, step: &str) -> bool {
        self.nodes.iter().any(|node| node.step == step && node.catches.is_some())
    }

    fn catching(&self, step: &str) -> Option<&Node> {
        let others = || self.nodes.iter().filter(|node| node.step != step);
        let named = others().find(|node| node.catches.as_ref().is_some_and(|c| c.steps.contains(&step)));
        named.or_else(|| others().find(|node| node.catches.as_ref().is_some_and(|c| c.steps.is_empty())))
    }

    /// The step, and those that may run in its place when it fails.
    pub(super) fn places<'a>(&'a self, node: &'a Node) -> Vec<&'a Node> {
        let mut places = vec![node];
        while let Some(next) = places.last().and_then(|last| self.catching(last.step))
            && places.iter().all(|known| known.step != next.step)
        {
            places.push(next);
        }
        places
    }

    pub(super) fn check_catches(&self, mistakes: &mut Vec<String>) {
        let mut caught: HashMap<&str, &str> = HashMap::new();
        for (node, catches) in self.nodes.iter().filter_map(|n| Some((n, n.catches.as_ref()?))) {
            let all = ["all steps"];
            let named = if catches.steps.is_empty() { &all[..] } else { &catches.steps };
            for step in named {
                if !catches.steps.is_empty() && self.nodes.iter().all(|n| n.step != *step) {
                    mistakes.push(format!(
                        "step {} catches the failures of {step}, and there is no such step; correct its `catches`",
                        node.step
                    ));
                } else if *step == node.step {
                    mistakes.push(format!(
                        "step {step} catches its own failures, which no step can; remove it from its `catches`"
                    ));
                } else if let Some(other) = caught.insert(step, node.step) {
                    mistakes.push(format!(
                        "steps {other} and {} both catch the failures of {step}; remove it from the `catches` of one",
                        node.step
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use Accepts::{Each, Joined};

    use super::super::tests::{graph, names, node};
    use super::*;

    fn catching(step: &'static str, steps: &[&'static str], emits: &[(&'static str, bool)]) -> Node {
        let catches = Catches { steps: steps.to_vec(), recoveries: 2 };
        Node { catches: Some(catches), ..node(step, Each(StepFailed::NAME), emits) }
    }

    fn catcher(graph: &Router, step: &str) -> Option<String> {
        graph.catcher(step).map(|(route, _)| route.step)
    }

    #[test]
    fn named_beats_all_and_none_catches_itself() {
        let graph = graph(vec![
            node("fetch", Each("Start"), &[("Page", false)]),
            node("parse", Each("Page"), &[("Stop", false)]),
            catching("rest", &[], &[("Stop", false)]),
            catching("again", &["fetch"], &[("Page", false)]),
        ]);
        graph.check().unwrap();
        assert_eq!(catcher(&graph, "fetch").as_deref(), Some("again"));
        assert_eq!(catcher(&graph, "parse").as_deref(), Some("rest"));
        assert_eq!(catcher(&graph, "again").as_deref(), Some("rest"));
        assert_eq!(catcher(&graph, "rest"), None);
        assert_eq!(graph.catcher("fetch").map(|(_, recoveries)| recoveries), Some(2));
    }

    #[test]
    fn what_a_catching_step_leaves_is_joined_as_what_the_failed_one_would_have_left() {
        let graph = graph(vec![
            node("split", Each("Start"), &[("Page", true)]),
            node("read", Each("Page"), &[]),
            catching("skip", &["read"], &[("Skipped", false)]),
            node("gather", Joined("Skipped"), &[("Stop", false)]),
        ]);
        graph.check().unwrap();
        assert_eq!(names(&graph.joins_of("Page")), ["gather"]);
    }

    #[test]
    fn steps_that_catch_each_other_are_searched_once() {
        let graph = graph(vec![
            node("read", Each("Start"), &[("Stop", false)]),
            catching("a", &["b", "read"], &[("Stop", false)]),
            catching("b", &["a"], &[("Start", false)]),
        ]);
        graph.check().unwrap();
        assert!(graph.joins_of("Start").is_empty());
    }

    #[test]
    fn mistakes_in_what_is_caught() {
        let graph = graph(vec![
            node("fetch", Each("Start"), &[("Stop", false)]),
            catching("a", &["fetsh", "a"], &[]),
            catching("b", &["fetch"], &[]),
            catching("c", &["fetch"], &[("Nobody", false)]),
            catching("d", &[], &[]),
            catching("e", &[], &[]),
        ]);
        let all = graph.check().unwrap_err().to_string();
        for part in [
            "step a catches the failures of fetsh, and there is no such step; correct its `catches`",
            "step a catches its own failures, which no step can",
            "steps b and c both catch the failures of fetch",
            "steps d and e both catch the failures of all steps",
            "step c returns Nobody, which no step accepts",
        ] {
            assert!(all.contains(part), "{part} is not in {all}");
        }
    }
}
