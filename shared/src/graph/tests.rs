use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::store::Registration;

fn step(name: &str, accepts: &str, joined: bool, emits: &[(&str, bool)]) -> StepNode {
    let accepts = Accepts { events: vec![accepts.into()], joined, first: None };
    let emits = emits.iter().map(|(event, many)| Emit { event: (*event).into(), many: *many, sent: false });
    StepNode { name: name.into(), accepts, emits: emits.collect(), ..StepNode::default() }
}

fn research() -> Graph {
    Graph {
        start: "Asked".into(),
        stop: "Answered".into(),
        external: vec!["Approval".into()],
        steps: vec![
            step("plan", "Asked", false, &[("Lookup", true)]),
            step("look", "Lookup", false, &[("Passage", false)]),
            step("judge", "Passage", true, &[("Draft", false), ("Asked", false)]),
            step("approve", "Approval", false, &[("Answered", false)]),
            step("keep", "Draft", false, &[]),
        ],
        schemas: BTreeMap::new(),
    }
}

/// A picture as it would be drawn: labels and shapes of nodes by id, and arrows.
#[derive(Default)]
struct Drawn {
    nodes: BTreeMap<String, (String, String)>,
    /// From, to, label and style.
    arrows: BTreeSet<(String, String, String, String)>,
}

impl Drawn {
    fn arrow(&self, from: &str, to: &str) -> (&str, &str) {
        let id = |label: &str| self.nodes.iter().find(|(_, (l, _))| l == label).expect(label).0;
        let found: Vec<_> = self.arrows.iter().filter(|(f, t, ..)| f == id(from) && t == id(to)).collect();
        assert_eq!(found.len(), 1, "{from} -> {to}");
        (&found[0].2, &found[0].3)
    }

    fn check(&self) {
        for (from, to, ..) in &self.arrows {
            assert!(self.nodes.contains_key(from) && self.nodes.contains_key(to), "{from} -> {to}");
        }
    }
}

fn read_mermaid(text: &str) -> Drawn {
    let mut drawn = Drawn::default();
    let (_, body) = text.split_once("flowchart TD\n").expect("a flow chart");
    for line in body.lines() {
        let line = line.strip_prefix("    ").expect("indented");
        let mut parts = line.splitn(3, '"');
        let (head, label, tail) = (parts.next().unwrap(), parts.next().expect(line), parts.next().unwrap());
        assert!(!tail.contains('"'), "{line}");
        let mut unescaped = label.to_owned();
        for code in 32..127_u8 {
            unescaped = unescaped.replace(&format!("#{code};"), &char::from(code).to_string());
        }
        if let Some((from, style)) = head.split_once(' ') {
            let to = tail.strip_prefix("| ").expect(line);
            let style = style.strip_suffix('|').expect(line);
            drawn.arrows.insert((from.into(), to.into(), unescaped, style.into()));
        } else {
            let id: String = head.chars().take_while(char::is_ascii_alphanumeric).collect();
            let shape = format!("{}{tail}", &head[id.len()..]);
            assert!(drawn.nodes.insert(id, (unescaped, shape)).is_none(), "{line}");
        }
    }
    drawn.check();
    drawn
}

fn read_dot(text: &str) -> Drawn {
    let mut drawn = Drawn::default();
    let body = text.strip_suffix("}\n").expect("closed");
    for line in body.lines().skip(4) {
        let line = line.trim_start();
        let (head, rest) = line.split_once(" [label=\"").expect(line);
        // The quote that closes is the first that is not escaped.
        let (mut label, mut chars) = (String::new(), rest.char_indices());
        let end = loop {
            match chars.next().expect(line) {
                (_, '\\') => label.push(chars.next().expect(line).1),
                (at, '"') => break at,
                (_, c) => label.push(c),
            }
        };
        let style = rest[end..].trim_start_matches("\", ").trim_end_matches(']').to_owned();
        match head.split_once(" -> ") {
            Some((from, to)) => drop(drawn.arrows.insert((from.into(), to.into(), label, style))),
            None => assert!(drawn.nodes.insert(head.into(), (label, style)).is_none(), "{line}"),
        }
    }
    drawn.check();
    drawn
}

#[test]
fn pictures_have_each_step_and_each_way_between_them() {
    let graph = research();
    for (drawn, [one, many, joined]) in [
        (read_mermaid(&graph.mermaid("research version 2")), ["-->", "==>", "-.->"]),
        (
            read_dot(&graph.dot("research version 2")),
            ["style=solid", "style=bold, penwidth=3, arrowhead=crow", "style=dashed, arrowhead=inv"],
        ),
    ] {
        assert_eq!(drawn.nodes.len(), 8);
        assert_eq!(drawn.arrow("start", "plan"), ("Asked", one));
        assert_eq!(drawn.arrow("plan", "look"), ("Lookup (many)", many));
        assert_eq!(drawn.arrow("look", "judge"), ("Passage (joined)", joined));
        assert_eq!(drawn.arrow("judge", "plan"), ("Asked", one));
        assert_eq!(drawn.arrow("judge", "keep"), ("Draft", one));
        assert_eq!(drawn.arrow("from outside", "approve"), ("Approval", one));
        assert_eq!(drawn.arrow("approve", "stop"), ("Answered", one));
        assert_eq!(drawn.arrows.len(), 7);
        let shape = |label: &str| &drawn.nodes.values().find(|(l, _)| l == label).expect(label).1;
        let shapes: BTreeSet<_> = ["start", "stop", "from outside", "plan", "judge"].map(shape).into_iter().collect();
        assert!(shapes.len() >= 4, "{shapes:?}");
    }
}

#[test]
fn a_failure_has_a_way_to_the_step_that_catches_it() {
    let mut graph = research();
    for (name, caught) in [("rest", vec![]), ("again", vec!["look".to_owned()])] {
        let mut catching = step(name, "Failure", false, &[("Answered", false)]);
        catching.catches = Some(caught);
        graph.steps.push(catching);
    }
    for (drawn, failed) in
        [(read_mermaid(&graph.mermaid("x")), "--x"), (read_dot(&graph.dot("x")), "style=dotted, arrowhead=obox")]
    {
        assert_eq!(drawn.arrow("look", "again"), ("failure", failed));
        assert_eq!(drawn.arrow("plan", "rest"), ("failure", failed));
        assert_eq!(drawn.arrow("again", "rest"), ("failure", failed));
        assert_eq!(drawn.arrows.iter().filter(|(.., style)| style == failed).count(), 6);
    }
}

#[test]
fn no_text_breaks_a_picture() {
    let evil = "a\"]; x -> y [b\\\" -->|#| <i>&\nz é";
    let mut graph = research();
    graph.steps[0].name = evil.into();
    graph.steps[0].emits[0].event = evil.into();
    let (mermaid, dot) = (graph.mermaid(evil), graph.dot(evil));
    for (drawn, text) in [(read_mermaid(&mermaid), &mermaid), (read_dot(&dot), &dot)] {
        let line = evil.replace('\n', " ");
        assert_eq!(drawn.nodes.len(), 9, "{text}");
        assert_eq!(drawn.arrow(&line, "no step takes it").0, format!("{line} (many)"));
        assert_eq!(text.lines().count(), research_lines(text), "{text}");
    }
    assert!(mermaid.starts_with("---\ntitle: \"a\\\"]; x"), "{mermaid}");
}

/// The lines that a picture of nine nodes and seven arrows has.
fn research_lines(text: &str) -> usize {
    if text.starts_with("digraph") { 4 + 9 + 7 + 1 } else { 4 + 9 + 7 }
}

#[test]
fn an_empty_graph_can_be_drawn() {
    let graph = Graph::default();
    read_mermaid(&graph.mermaid(""));
    read_dot(&graph.dot(""));
}

#[test]
fn a_registration_keeps_its_graph_and_is_bounded() {
    let graph = Graph { schemas: BTreeMap::from([("Asked".into(), json!({"type": "object"}))]), ..research() };
    let mut sound = Registration { workflow: "research".into(), version: 2, graph, ..Registration::default() };
    assert!(!sound.shorten());
    assert_eq!(Registration::from_json(sound.to_json().unwrap().as_bytes()).unwrap(), sound);

    sound.graph.schemas.insert("Answered".into(), json!("x".repeat(300_000)));
    assert!(sound.to_json().unwrap_err().is_too_large());
    assert!(sound.shorten() && sound.graph.schemas.is_empty() && sound.to_json().is_ok());

    let deep = (0..500).fold(json!(1), |deep, _| json!([deep]));
    sound.graph.schemas.insert("Answered".into(), deep);
    assert!(sound.shorten(), "it could not be read");

    sound.graph.steps = vec![step(&"x".repeat(128), "Asked", false, &[]); 3000];
    assert!(sound.shorten() && sound.to_json().unwrap_err().is_too_large());
}

#[test]
fn what_cannot_be_a_registration_is_refused() {
    let plain: Registration = Registration::from_json(br#"{"workflow":"w","version":1,"start":[]}"#).unwrap();
    assert_eq!(plain.graph, Graph::default());
    let step = r#"{"name":"a b","accepts":{"events":["E"]}}"#;
    for bad in [
        String::new(),
        "[]".to_owned(),
        r#"{"workflow":"w x","version":1,"start":[]}"#.to_owned(),
        r#"{"workflow":"w","version":1,"start":[],"graph":{"stop":"a b"}}"#.to_owned(),
        format!(r#"{{"workflow":"w","version":1,"start":[],"graph":{{"steps":[{step}]}}}}"#),
    ] {
        assert!(Registration::from_json(bad.as_bytes()).unwrap_err().is_invalid(), "{bad}");
    }
}

#[test]
fn an_event_goes_to_the_steps_that_take_each_of_it() {
    let mut graph = research();
    graph.steps[3].context = true;
    let takers = graph.takers("Approval");
    assert_eq!((takers.len(), takers[0].step.as_str(), takers[0].context), (1, "approve", true));
    assert!(graph.takers("Passage").is_empty(), "it is joined");
}
