//! Pictures of a graph, as text for Mermaid and for Graphviz.

use std::fmt::Write;

use super::{Accepts, Graph, StepNode};

/// What an arrow begins or ends at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Start,
    Stop,
    /// An event from outside, by its place.
    External(usize),
    /// A step, by its place.
    Step(usize),
    /// No step takes the event: a mistake.
    Nobody,
}

impl Node {
    fn id(self) -> String {
        match self {
            Self::Start => "start".into(),
            Self::Stop => "stop".into(),
            Self::External(at) => format!("outside{at}"),
            Self::Step(at) => format!("step{at}"),
            Self::Nobody => "nobody".into(),
        }
    }
}

/// What an arrow stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    One,
    /// A fan-out.
    Many,
    /// The joined events of a fan-out.
    Joined,
    /// The first of them, with their number.
    First(u32),
    /// One part of a set.
    Part,
    /// The failure of a step.
    Failed,
}

struct Edge<'a> {
    from: Node,
    to: Node,
    event: &'a str,
    kind: Kind,
}

impl Edge<'_> {
    fn label(&self) -> String {
        match self.kind {
            Kind::One | Kind::Failed => self.event.to_owned(),
            Kind::Many => format!("{} (many)", self.event),
            Kind::Joined => format!("{} (joined)", self.event),
            Kind::First(count) => format!("{} (first {count})", self.event),
            Kind::Part => format!("{} (one of each)", self.event),
        }
    }
}

impl Graph {
    /// As a Mermaid flow chart. Fan-outs are thick, joins are dotted, failures end in a cross.
    pub fn mermaid(&self, title: &str) -> String {
        let title = serde_json::Value::from(title);
        let mut text = format!("---\ntitle: {title}\n---\nflowchart TD\n");
        for (node, label) in self.nodes() {
            let (open, close) = match node {
                Node::Start | Node::Stop => ("([", "])"),
                Node::External(_) => ("[/", "/]"),
                Node::Step(at) if self.steps[at].accepts.joined => ("{{", "}}"),
                Node::Step(_) => ("[", "]"),
                Node::Nobody => (">", "]"),
            };
            let _ = writeln!(text, "    {}{open}\"{}\"{close}", node.id(), mermaid_text(&label));
        }
        for edge in self.edges() {
            let arrow = match edge.kind {
                Kind::One => "-->",
                Kind::Many => "==>",
                Kind::Joined | Kind::First(_) | Kind::Part => "-.->",
                Kind::Failed => "--x",
            };
            let (from, label, to) = (edge.from.id(), mermaid_text(&edge.label()), edge.to.id());
            let _ = writeln!(text, "    {from} {arrow}|\"{label}\"| {to}");
        }
        text
    }

    /// As a graph in DOT, for Graphviz. Fan-outs are thick, joins are dashed, failures are dotted.
    pub fn dot(&self, title: &str) -> String {
        let title = dot_text(title);
        let mut text = format!("digraph \"{title}\" {{\n    label=\"{title}\"\n    labelloc=t\n    node [shape=box]\n");
        for (node, label) in self.nodes() {
            let shape = match node {
                Node::Start => "shape=oval",
                Node::Stop => "shape=oval, peripheries=2",
                Node::External(_) => "shape=parallelogram",
                Node::Step(at) if self.steps[at].accepts.joined => "shape=hexagon",
                Node::Step(_) => "shape=box",
                Node::Nobody => "shape=plaintext, fontcolor=red",
            };
            let _ = writeln!(text, "    {} [label=\"{}\", {shape}]", node.id(), dot_text(&label));
        }
        for edge in self.edges() {
            let style = match edge.kind {
                Kind::One => "style=solid",
                Kind::Many => "style=bold, penwidth=3, arrowhead=crow",
                Kind::Joined | Kind::First(_) | Kind::Part => "style=dashed, arrowhead=inv",
                Kind::Failed => "style=dotted, arrowhead=obox",
            };
            let (from, label, to) = (edge.from.id(), dot_text(&edge.label()), edge.to.id());
            let _ = writeln!(text, "    {from} -> {to} [label=\"{label}\", {style}]");
        }
        text.push_str("}\n");
        text
    }

    fn nodes(&self) -> Vec<(Node, String)> {
        let mut nodes = vec![(Node::Start, "start".to_owned())];
        nodes.extend(self.external.iter().enumerate().map(|(at, _)| (Node::External(at), "from outside".to_owned())));
        nodes.extend(self.steps.iter().enumerate().map(|(at, step)| (Node::Step(at), step.name.clone())));
        nodes.push((Node::Stop, "stop".to_owned()));
        if self.edges().iter().any(|edge| edge.to == Node::Nobody) {
            nodes.push((Node::Nobody, "no step takes it".to_owned()));
        }
        nodes
    }

    fn edges(&self) -> Vec<Edge<'_>> {
        let mut edges = self.edges_of(Node::Start, &self.start, false);
        for (at, event) in self.external.iter().enumerate() {
            edges.extend(self.edges_of(Node::External(at), event, false));
        }
        for (at, step) in self.steps.iter().enumerate() {
            for emit in &step.emits {
                edges.extend(self.edges_of(Node::Step(at), &emit.event, emit.many));
            }
            let to = self.catcher(&step.name).map(Node::Step);
            edges.extend(to.map(|to| Edge { from: Node::Step(at), to, event: "failure", kind: Kind::Failed }));
        }
        edges
    }

    /// The step that catches the failures of this one: one that names it goes before one for all.
    fn catcher(&self, step: &str) -> Option<usize> {
        let others = || self.steps.iter().enumerate().filter(|(_, other)| other.name != step);
        let named = |caught: &Vec<String>| caught.iter().any(|name| name == step);
        let find = |fits: &dyn Fn(&Vec<String>) -> bool| others().find(|(_, s)| s.catches.as_ref().is_some_and(fits));
        find(&named).or_else(|| find(&Vec::is_empty)).map(|(at, _)| at)
    }

    /// From where an event is emitted to all steps that take it.
    fn edges_of<'a>(&'a self, from: Node, event: &'a str, many: bool) -> Vec<Edge<'a>> {
        let sent = if many { Kind::Many } else { Kind::One };
        if event == self.stop {
            return vec![Edge { from, to: Node::Stop, event, kind: sent }];
        }
        let takes = |(_, step): &(usize, &StepNode)| step.accepts.events.iter().any(|name| name == event);
        let edge = |(at, step): (usize, &StepNode)| {
            let kind = match &step.accepts {
                Accepts { first: Some(first), .. } => Kind::First(*first),
                Accepts { joined: true, .. } => Kind::Joined,
                Accepts { events, .. } if events.len() > 1 => Kind::Part,
                _ => sent,
            };
            Edge { from, to: Node::Step(at), event, kind }
        };
        let edges: Vec<_> = self.steps.iter().enumerate().filter(takes).map(edge).collect();
        if edges.is_empty() { vec![Edge { from, to: Node::Nobody, event, kind: sent }] } else { edges }
    }
}

/// A text between quotes in Mermaid, which knows entities by name and number, without `&`.
fn mermaid_text(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '_' | '-' | '.' | '(' | ')' => escaped.push(c),
            c if c.is_control() => escaped.push(' '),
            c if c.is_ascii() => {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// A text between quotes in DOT.
fn dot_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(char::is_control, " ")
}
