//! The graph of a workflow: which steps take an event, where a fan-out joins, and whether it can work at all. Pure.

mod data;

use std::collections::HashSet;
use std::fmt;

use stepfleet::step::Route;

use crate::event::Accepts;
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
/// # use stepfleet_worker::prelude::*;
/// # #[derive(Event, Serialize, Deserialize)]
/// # struct Asked {}
/// # #[derive(Event, Serialize, Deserialize)]
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
/// stepfleet_worker::graph::check::<Research>().unwrap();
/// let graph = stepfleet_worker::graph::of::<Research>();
/// assert_eq!(graph.steps[0].name, "answer");
/// println!("{}", graph.mermaid("research"));
/// ```
pub fn of<W: Workflow>() -> stepfleet::graph::Graph {
    describe(&W::definition())
}

/// Whether a workflow can work: what a worker that is to serve it checks when it starts.
pub fn check<W: Workflow>() -> Result<(), GraphError> {
    Graph::new(&W::definition()).check()
}

/// The steps of a workflow as nodes, their events as edges.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    workflow: &'static str,
    start: &'static str,
    stop: &'static str,
    external: Vec<&'static str>,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug)]
struct Node {
    step: &'static str,
    accepts: Accepts,
    /// What it returns, and whether as a fan-out.
    emits: Vec<(&'static str, bool)>,
    /// What its body sends.
    sends: Vec<&'static str>,
    context: bool,
}

impl Node {
    /// The events that it leaves behind, and whether as a fan-out.
    fn leaves(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.emits.iter().copied().chain(self.sends.iter().map(|event| (*event, false)))
    }

    /// The events that it leaves behind, and how.
    fn ways(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let returned = self.emits.iter().map(|(event, _)| (*event, "returns"));
        returned.chain(self.sends.iter().map(|event| (*event, "sends")))
    }
}

impl Graph {
    pub(crate) fn new<W>(definition: &Definition<W>) -> Self {
        let nodes = definition.steps.iter().map(|step| Node {
            step: step.name,
            accepts: step.accepts,
            emits: step.emits.events.clone(),
            sends: step.sends.clone(),
            context: step.context,
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
        self.nodes.iter().filter(move |n| matches!(n.accepts, Accepts::Joined(name) if name == event))
    }

    pub(crate) fn route(&self, step: &str, event: &str) -> Route {
        let context = self.nodes.iter().any(|n| n.step == step && n.context);
        Route { step: step.to_owned(), event: event.to_owned(), context }
    }

    /// The steps that get an event of their own.
    pub(crate) fn takers(&self, event: &str) -> Vec<Route> {
        self.each(event).map(|node| self.route(node.step, event)).collect()
    }

    /// The steps that gather the event over a fan-out.
    pub(crate) fn gatherers(&self, event: &str) -> Vec<&'static str> {
        self.joining(event).map(|node| node.step).collect()
    }

    /// The steps that begin when a fan-out over this event has ended: those that its branches can reach, on the
    /// fan-out's own level.
    pub(crate) fn joins_of(&self, event: &str) -> Vec<Route> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        self.search(event, 0, &mut seen, &mut found);
        self.nodes.iter().filter(|n| found.contains(&n.step)).map(|n| self.route(n.step, n.accepts.event())).collect()
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
        for node in self.each(event) {
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
        for (event, many) in node.leaves() {
            // A `Vec` that nothing joins opens no fan-out: its events stay on their level.
            let deeper = many && self.is_joined(event, &mut HashSet::new(), 0);
            self.search(event, level + usize::from(deeper), seen, found);
        }
    }

    /// Does anything, on any level, gather what this event leads to?
    fn is_joined<'a>(&'a self, event: &'a str, seen: &mut HashSet<&'a str>, depth: usize) -> bool {
        if depth > self.nodes.len() || !seen.insert(event) {
            return false;
        }
        self.joining(event).next().is_some()
            || self.each(event).any(|node| node.leaves().any(|(next, _)| self.is_joined(next, seen, depth + 1)))
    }

    /// Finds what cannot work: each mistake says what to do.
    pub(crate) fn check(&self) -> Result<(), GraphError> {
        let mut mistakes = Vec::new();
        let start = self.start;
        if self.each(start).next().is_none() {
            mistakes.push(format!("no step accepts its start event {start}; add a step that takes {start}"));
        }
        let mut steps = HashSet::new();
        for node in &self.nodes {
            if !steps.insert(node.step) {
                mistakes.push(format!("two steps are named {}; rename one of them", node.step));
            }
            for (event, how) in node.ways() {
                if event != self.stop && self.each(event).chain(self.joining(event)).next().is_none() {
                    mistakes.push(format!(
                        "step {} {how} {event}, which no step accepts; add a step that takes {event} or Joined<{event}>",
                        node.step
                    ));
                }
            }
        }
        for event in self.external.iter().filter(|event| self.each(event).next().is_none()) {
            mistakes.push(format!("no step accepts its external event {event}; add a step that takes {event}"));
        }
        self.check_reach(&mut mistakes);
        if mistakes.is_empty() { Ok(()) } else { Err(GraphError::new(self.workflow, mistakes)) }
    }

    fn check_reach(&self, mistakes: &mut Vec<String>) {
        let mut reached: HashSet<&str> = self.external.iter().copied().chain([self.start]).collect();
        loop {
            let nodes = self.nodes.iter().filter(|n| reached.contains(n.accepts.event()));
            let more: Vec<&str> = nodes.flat_map(|n| n.leaves().map(|(event, _)| event)).collect();
            let before = reached.len();
            reached.extend(more);
            if reached.len() == before {
                break;
            }
        }
        for node in self.nodes.iter().filter(|n| !reached.contains(n.accepts.event())) {
            mistakes.push(format!(
                "step {} is never reached: no step that can run returns {}; return it somewhere or remove the step",
                node.step,
                node.accepts.event()
            ));
        }
        if !reached.contains(self.stop) {
            mistakes.push(format!(
                "its stop event {} is never returned; a run would never end; return it from the last step",
                self.stop
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(step: &'static str, accepts: Accepts, emits: &[(&'static str, bool)]) -> Node {
        Node { step, accepts, emits: emits.to_vec(), sends: Vec::new(), context: false }
    }

    fn graph(nodes: Vec<Node>) -> Graph {
        Graph { workflow: "w", start: "Start", stop: "Stop", external: Vec::new(), nodes }
    }

    fn names(routes: &[Route]) -> Vec<&str> {
        routes.iter().map(|r| r.step.as_str()).collect()
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
    fn a_loop_is_searched_once() {
        let graph = graph(vec![
            node("crawl", Each("Start"), &[("Page", true)]),
            node("visit", Each("Page"), &[("Page", true), ("Found", false)]),
            node("gather", Joined("Found"), &[("Stop", false)]),
        ]);
        assert_eq!(names(&graph.joins_of("Page")), ["gather"]);
    }

    #[test]
    fn what_is_sent_counts_as_left_behind_and_opens_no_fan_out() {
        let mut split = node("split", Each("Start"), &[("Page", true)]);
        split.sends = vec!["Note"];
        let mut note = node("note", Each("Note"), &[]);
        note.sends = vec!["Gone"];
        let mut graph = graph(vec![split, note, node("sum", Joined("Page"), &[("Stop", false)])]);
        let mistakes = graph.check().unwrap_err().to_string();
        assert!(mistakes.contains("step note sends Gone, which no step accepts; add a step"), "{mistakes}");
        graph.nodes[1].sends = vec!["Page"];
        graph.check().unwrap();
        assert_eq!(names(&graph.joins_of("Page")), ["sum"]);
        assert_eq!(names(&graph.joins_of("Note")), ["sum"]);
    }

    #[test]
    fn what_comes_from_outside_reaches_steps_and_needs_one() {
        let approve = node("approve", Each("Approval"), &[("Stop", false)]);
        let mut graph = graph(vec![node("ask", Each("Start"), &[]), approve]);
        assert!(graph.check().unwrap_err().to_string().contains("step approve is never reached"));
        graph.external = vec!["Approval"];
        graph.check().unwrap();
        graph.external = vec!["Approval", "Refusal"];
        let mistakes = graph.check().unwrap_err().to_string();
        assert!(mistakes.contains("no step accepts its external event Refusal; add a step"), "{mistakes}");
    }

    #[test]
    fn each_mistake_names_the_step_and_what_to_do() {
        let graph = graph(vec![node("a", Each("Start"), &[("Nobody", false)]), node("a", Each("Unreached"), &[])]);
        let error = graph.check().unwrap_err();
        let all = error.to_string();
        for part in [
            "two steps are named a",
            "step a returns Nobody, which no step accepts; add a step",
            "step a is never reached",
            "stop event Stop is never returned",
        ] {
            assert!(all.contains(part), "{part} is not in {all}");
        }
    }
}
