//! The graph of a workflow: which steps take an event, where a fan-out joins, and whether it can work at all. Pure.

mod catches;
mod check;
mod data;
mod levels;

use std::collections::HashSet;
use std::fmt;

use stepfleet_shared::step::{Join, Part, Route};

use crate::event::Accepts;
use crate::failed::Catches;
use crate::workflow::{Definition, Workflow};

pub(crate) use self::data::describe;

/// How deep fan-outs may nest.
const MAX_NESTING: usize = 16;

/// The mistakes found in a workflow's graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphError {
    workflow: String,
    mistakes: Vec<String>,
}

impl GraphError {
    pub(crate) fn new(workflow: &str, mistakes: Vec<String>) -> Self {
        Self { workflow: workflow.to_owned(), mistakes }
    }

    /// One sentence for each mistake.
    pub fn mistakes(&self) -> &[String] {
        &self.mistakes
    }
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "workflow {} cannot work: {}", self.workflow, self.mistakes.join("; "))
    }
}

impl std::error::Error for GraphError {}

/// The graph of a workflow: to be drawn, or compared in a test. It may have mistakes.
///
/// ```
/// # use stepfleet::prelude::*;
/// # #[event]
/// # struct Asked {}
/// # #[event]
/// # struct Answered {}
/// struct Research;
///
/// #[workflow(start = Asked, stop = Answered)]
/// impl Research {
///     #[step]
///     async fn answer(&self, _: Asked) -> Outcome<Answered> {
///         Ok(Answered {})
///     }
/// }
///
/// stepfleet::graph::check::<Research>().unwrap();
/// let graph = stepfleet::graph::of::<Research>();
/// assert_eq!(graph.steps[0].name, "answer");
/// println!("{}", graph.mermaid("research"));
/// ```
pub fn of<W: Workflow>() -> stepfleet_shared::graph::Graph {
    describe(&W::definition())
}

/// Whether a workflow can work: what a worker that is to serve it checks when it starts.
pub fn check<W: Workflow>() -> Result<(), GraphError> {
    Router::new(&W::definition()).check()
}

/// Which steps take which events, as a workflow defines it: its steps are nodes, their events edges.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    workflow: &'static str,
    start: &'static str,
    stop: &'static str,
    external: Vec<&'static str>,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    step: &'static str,
    accepts: Accepts,
    /// What it returns, and whether as a fan-out.
    emits: Vec<(&'static str, bool)>,
    /// It may return nothing.
    ends: bool,
    /// What its body sends.
    sends: Vec<&'static str>,
    context: bool,
    /// The failures that it catches.
    catches: Option<Catches>,
    concurrency: Option<u32>,
}

impl Node {
    /// The events that it emits, and whether as a fan-out.
    fn leaves(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.emits.iter().copied().chain(self.sends.iter().map(|event| (*event, false)))
    }
}

impl Router {
    pub(crate) fn new<W>(definition: &Definition<W>) -> Self {
        let nodes = definition.steps.iter().map(|step| Node {
            step: step.name,
            accepts: step.accepts,
            emits: step.emits.events.clone(),
            ends: step.emits.ends,
            sends: step.sends.clone(),
            context: step.context,
            catches: catches::of(step),
            concurrency: step.concurrency,
        });
        Self {
            workflow: definition.name,
            start: definition.start,
            stop: definition.stop,
            external: definition.external.clone(),
            nodes: nodes.collect(),
        }
    }

    fn each(&self, event: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |n| matches!(n.accepts, Accepts::Each(name) if name == event))
    }

    fn joining(&self, event: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |n| n.accepts.is_joined() && n.accepts.event() == event)
    }

    /// The steps that take it as a part of a set.
    fn partly(&self, event: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |n| matches!(n.accepts, Accepts::Set(names) if names.contains(&event)))
    }

    /// All steps that take it, in whatever way.
    fn taking(&self, event: &str) -> impl Iterator<Item = &Node> {
        self.each(event).chain(self.joining(event)).chain(self.partly(event))
    }

    pub(crate) fn route(&self, step: &str, event: &str) -> Route {
        let node = self.nodes.iter().find(|n| n.step == step);
        Route {
            step: step.to_owned(),
            event: event.to_owned(),
            context: node.is_some_and(|n| n.context),
            limit: node.and_then(|n| n.concurrency),
            ..Route::default()
        }
    }

    /// The steps that take the event by itself.
    pub(crate) fn takers(&self, event: &str) -> Vec<Route> {
        self.each(event).map(|node| self.route(node.step, event)).collect()
    }

    /// The steps that join the event over a fan-out.
    pub(crate) fn gatherers(&self, event: &str) -> Vec<&'static str> {
        self.joining(event).map(|node| node.step).collect()
    }

    /// The parts of sets that the event is.
    pub(crate) fn parts(&self, event: &str, payload: &[u8]) -> Vec<Part> {
        let part = |node: &Node| {
            let names = node.accepts.events();
            let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let slot = names.iter().position(|name| *name == event).map_or(0, |at| number(at + 1));
            let route = self.route(node.step, &names.join("."));
            Part { route, slot, slots: number(names.len()), payload: payload.to_vec() }
        };
        self.partly(event).map(part).collect()
    }

    /// The step may send this event.
    pub(crate) fn may_send(&self, step: &str, event: &str) -> bool {
        self.nodes.iter().any(|n| n.step == step && n.leaves().any(|(name, _)| name == event))
    }

    /// The names of the steps that take the event, in whatever way.
    pub(crate) fn takers_names(&self, event: &str) -> Vec<&'static str> {
        self.taking(event).map(|node| node.step).collect()
    }

    /// The event that ends a run.
    pub(crate) fn stop(&self) -> &'static str {
        self.stop
    }

    pub(crate) fn is_stop(&self, event: &str) -> bool {
        self.stop == event
    }

    pub(crate) fn has_step(&self, step: &str) -> bool {
        self.nodes.iter().any(|n| n.step == step)
    }

    /// Something may come from outside.
    pub(crate) fn rests(&self) -> bool {
        !self.external.is_empty()
    }

    /// The steps that begin when a fan-out over this event has ended, or before: those that its branches can reach, on the
    /// fan-out's own level.
    pub(crate) fn joins_of(&self, event: &str) -> Vec<Join> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        self.search(event, 0, &mut seen, &mut found);
        let first = |node: &Node| if let Accepts::First(_, first) = node.accepts { Some(first) } else { None };
        let join = |node: &Node| Join { route: self.route(node.step, node.accepts.event()), first: first(node) };
        self.nodes.iter().filter(|n| found.contains(&n.step)).map(join).collect()
    }

    fn search<'a>(
        &'a self,
        event: &'a str,
        level: usize,
        seen: &mut HashSet<(&'a str, usize)>,
        found: &mut Vec<&'static str>,
    ) {
        if level > MAX_NESTING || !seen.insert((event, level)) {
            return;
        }
        for node in self.joining(event) {
            match level {
                0 => found.push(node.step),
                _ => self.search_outputs(node, level - 1, seen, found),
            }
        }
        for node in self.each(event).chain(self.partly(event)) {
            self.search_outputs(node, level, seen, found);
        }
    }

    fn search_outputs<'a>(
        &'a self,
        node: &'a Node,
        level: usize,
        seen: &mut HashSet<(&'a str, usize)>,
        found: &mut Vec<&'static str>,
    ) {
        for (event, many) in self.places(node).into_iter().flat_map(Node::leaves) {
            // A `Vec` that nothing joins opens no fan-out: its events stay on their level.
            let deeper = many && self.is_joined(event, &mut HashSet::new(), 0);
            self.search(event, level + usize::from(deeper), seen, found);
        }
    }

    /// Whether any step, on any level, joins what this event leads to.
    fn is_joined<'a>(&'a self, event: &'a str, seen: &mut HashSet<&'a str>, depth: usize) -> bool {
        if depth > self.nodes.len() || !seen.insert(event) {
            return false;
        }
        self.joining(event).next().is_some()
            || self.each(event).chain(self.partly(event)).any(|node| {
                let mut leaves = self.places(node).into_iter().flat_map(Node::leaves);
                leaves.any(|(next, _)| self.is_joined(next, seen, depth + 1))
            })
    }
}

#[cfg(test)]
pub(in crate::decisions) mod tests {
    use super::*;

    pub(in crate::decisions) fn node(step: &'static str, accepts: Accepts, emits: &[(&'static str, bool)]) -> Node {
        let (emits, ends) = (emits.to_vec(), emits.is_empty());
        Node { step, accepts, emits, ends, sends: Vec::new(), context: false, catches: None, concurrency: None }
    }

    pub(in crate::decisions) fn graph(nodes: Vec<Node>) -> Router {
        Router { workflow: "w", start: "Start", stop: "Stop", external: Vec::new(), nodes }
    }

    pub(in crate::decisions) fn names(joins: &[Join]) -> Vec<&str> {
        joins.iter().map(|join| join.route.step.as_str()).collect()
    }

    use Accepts::{Each, Joined};

    #[test]
    fn a_fan_out_joins_where_its_branches_lead() {
        let graph = graph(vec![
            node("split", Each("Start"), &[("Page", true)]),
            node("read", Each("Page"), &[("Text", false)]),
            node("count", Each("Text"), &[("Count", false)]),
            node("sum", Joined("Count"), &[("Stop", false)]),
        ]);
        graph.check().unwrap();
        assert_eq!(names(&graph.joins_of("Page")), ["sum"]);
        assert_eq!(graph.gatherers("Count"), ["sum"]);
    }

    #[test]
    fn nested_fan_outs_join_on_their_own_level() {
        let graph = graph(vec![
            node("books", Each("Start"), &[("Book", true)]),
            node("pages", Each("Book"), &[("Page", true)]),
            node("read", Each("Page"), &[("Text", false)]),
            node("book", Joined("Text"), &[("Summary", false)]),
            node("shelf", Joined("Summary"), &[("Stop", false)]),
        ]);
        graph.check().unwrap();
        assert_eq!(names(&graph.joins_of("Book")), ["shelf"]);
        assert_eq!(names(&graph.joins_of("Page")), ["book"]);
    }

    #[test]
    fn a_list_that_nothing_joins_opens_no_fan_out() {
        let graph = graph(vec![
            node("split", Each("Start"), &[("Page", true)]),
            node("read", Each("Page"), &[("Stop", false)]),
        ]);
        assert!(graph.joins_of("Page").is_empty());
    }

    #[test]
    fn a_join_may_begin_with_the_first() {
        let graph = graph(vec![
            node("split", Each("Start"), &[("Page", true)]),
            node("some", Accepts::First("Page", 2), &[]),
            node("sum", Joined("Page"), &[("Stop", false)]),
        ]);
        graph.check().unwrap();
        let joins: Vec<_> = graph.joins_of("Page").into_iter().map(|join| (join.route.step, join.first)).collect();
        assert_eq!(joins, [("some".into(), Some(2)), ("sum".into(), None)]);
    }

    #[test]
    fn a_set_is_reached_with_all_its_events_and_its_parts_have_slots() {
        let set = node("ship", Accepts::Set(&["Paid", "Packed"]), &[("Stop", false)]);
        let mut graph = graph(vec![node("pay", Each("Start"), &[("Paid", false)]), set]);
        let mistakes = graph.check().unwrap_err().to_string();
        assert!(
            mistakes.contains("step ship is never reached: no step that can run returns or sends Packed"),
            "{mistakes}"
        );
        graph.nodes.push(node("pack", Each("Start"), &[("Packed", false)]));
        graph.check().unwrap();
        let parts = graph.parts("Packed", &[7]);
        assert_eq!(
            (parts.len(), parts[0].slot, parts[0].slots, parts[0].route.event.as_str()),
            (1, 2, 2, "Paid.Packed")
        );
        graph.nodes[1].accepts = Accepts::Set(&["Paid", "Paid"]);
        assert!(graph.check().unwrap_err().to_string().contains("step ship takes a set with two Paid"));
    }

    #[test]
    fn a_loop_is_searched_once() {
        let graph = graph(vec![
            node("crawl", Each("Start"), &[("Page", true)]),
            node("visit", Each("Page"), &[("Page", true), ("Found", false)]),
            node("gather", Joined("Found"), &[("Stop", false)]),
        ]);
        assert_eq!(names(&graph.joins_of("Page")), ["gather"]);
    }
}
