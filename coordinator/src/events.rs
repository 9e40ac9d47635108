//! Which steps get an event from outside. Pure.

use stepfleet_shared::graph::Graph;
use stepfleet_shared::step::Route;

/// The routes of an event, to one step if the request names it; or why there are none. `of` names the workflow.
pub(crate) fn takers(graph: &Graph, of: &str, event: &str, step: Option<&str>) -> Result<Vec<Route>, String> {
    let all = graph.takers(event);
    if event == graph.stop {
        return Err(format!("{event} is the stop event of {of}: it cannot come from outside; cancel the run instead"));
    }
    if !graph.external.iter().any(|external| external == event) && !all.is_empty() {
        let known = if graph.external.is_empty() { "none".to_owned() } else { graph.external.join(", ") };
        return Err(format!(
            "{event} is not an external event of {of}: list it in #[workflow(external = [..])] to allow it; external \
             events: {known}"
        ));
    }
    if all.is_empty() {
        let mut known: Vec<&str> = graph
            .steps
            .iter()
            .filter(|step| !step.accepts.joined)
            .flat_map(|step| &step.accepts.events)
            .map(String::as_str)
            .collect();
        known.sort_unstable();
        known.dedup();
        return Err(format!("no step of {of} takes {event} by itself; its steps take {}", known.join(", ")));
    }
    let names: Vec<String> = all.iter().map(|route| route.step.clone()).collect();
    let chosen: Vec<Route> = all.into_iter().filter(|route| step.is_none_or(|step| route.step == step)).collect();
    match (chosen.is_empty(), step) {
        (true, Some(step)) => {
            Err(format!("step {step} of {of} does not take {event}; steps that do: {}", names.join(", ")))
        }
        _ => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use stepfleet_shared::graph::{Accepts, StepNode};

    use super::*;

    fn graph() -> Graph {
        let step = |name: &str, events: &[&str], joined| StepNode {
            name: name.into(),
            accepts: Accepts { events: events.iter().map(|e| (*e).to_owned()).collect(), joined, ..Accepts::default() },
            concurrency: Some(2),
            ..StepNode::default()
        };
        let steps = vec![
            step("plan", &["Asked"], false),
            step("note", &["Asked"], false),
            step("sum", &["Counted"], true),
            step("pair", &["Left", "Right"], false),
        ];
        let external = vec!["Asked".to_owned()];
        Graph { start: "Asked".into(), stop: "Answered".into(), steps, external, ..Graph::default() }
    }

    #[test]
    fn each_step_that_takes_it_or_the_one_that_is_named() {
        let all = takers(&graph(), "rag version 1", "Asked", None).unwrap();
        assert_eq!(
            all.iter().map(|route| (route.step.as_str(), route.limit)).collect::<Vec<_>>(),
            [("plan", Some(2)), ("note", Some(2))]
        );
        assert_eq!(takers(&graph(), "rag version 1", "Asked", Some("note")).unwrap().len(), 1);
    }

    #[test]
    fn a_refusal_says_what_can_be_sent_and_to_whom() {
        let refusal = |event, step| takers(&graph(), "rag version 1", event, step).unwrap_err();
        assert_eq!(
            refusal("Asked", Some("sum")),
            "step sum of rag version 1 does not take Asked; steps that do: plan, note"
        );
        assert!(
            refusal("Counted", None).contains("no step of rag version 1 takes Counted by itself; its steps take Asked")
        );
        let closed = Graph { external: vec!["Approval".into()], ..graph() };
        let refused = takers(&closed, "rag version 1", "Asked", None).unwrap_err();
        assert!(
            refused.contains("Asked is not an external event") && refused.contains("external events: Approval"),
            "{refused}"
        );
        assert!(refusal("Left", None).contains("by itself"));
        assert!(refusal("Answered", None).contains("is the stop event"));
    }
}
