//! The levels of fan-outs on which events come: a step that joins, or takes a set, must find them on one level. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{MAX_NESTING, Node, Router};
use crate::event::Accepts;

/// What can happen from some events on, with levels counted from theirs.
#[derive(Debug, Default)]
struct Walk {
    seen: HashSet<(&'static str, usize)>,
    /// Events and the steps that emit them, on the first level.
    comes: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// The fan-outs that are opened on the first level: the event, and by whom.
    opens: BTreeMap<&'static str, BTreeSet<&'static str>>,
    /// The steps that join on the first level.
    joins: BTreeSet<&'static str>,
}

impl Router {
    fn walk(&self, from: &[&'static str]) -> Walk {
        let mut walk = Walk::default();
        for event in from {
            self.go(event, 0, &mut walk);
        }
        walk
    }

    fn go(&self, event: &'static str, level: usize, walk: &mut Walk) {
        if level > MAX_NESTING || !walk.seen.insert((event, level)) {
            return;
        }
        for node in self.joining(event) {
            match level {
                0 => drop(walk.joins.insert(node.step)),
                _ => self.go_on(node, level - 1, walk),
            }
        }
        for node in self.each(event).chain(self.partly(event)) {
            self.go_on(node, level, walk);
        }
    }

    fn go_on(&self, node: &Node, level: usize, walk: &mut Walk) {
        for place in self.places(node) {
            let is_fan = |(event, many): &(&'static str, bool)| *many && self.is_joined(event, &mut HashSet::new(), 0);
            // What it sends belongs to the fan-out that it opens.
            let sent = usize::from(place.emits.iter().any(is_fan));
            for event in &place.sends {
                if level + sent == 0 {
                    walk.comes.entry(event).or_default().insert(place.step);
                }
                self.go(event, level + sent, walk);
            }
            for (event, many) in place.emits.iter().copied() {
                let opens = is_fan(&(event, many));
                if level == 0 {
                    let found = if opens { &mut walk.opens } else { &mut walk.comes };
                    found.entry(event).or_default().insert(place.step);
                }
                self.go(event, level + usize::from(opens), walk);
            }
        }
    }

    fn walk_fan(&self, fan: &'static str) -> Walk {
        let mut walk = self.walk(&[fan]);
        for opener in self.nodes.iter().filter(|node| node.emits.contains(&(fan, true))) {
            walk.comes.entry(fan).or_default().insert(opener.step);
            // Events that follow from these join further out, unless they join here.
            let sent = self.walk(&opener.sends);
            for event in &opener.sends {
                walk.comes.entry(event).or_default().insert(opener.step);
            }
            sent.comes.into_iter().for_each(|(event, by)| walk.comes.entry(event).or_default().extend(by));
            sent.opens.into_iter().for_each(|(event, by)| walk.opens.entry(event).or_default().extend(by));
        }
        walk
    }

    /// The levels that there are: that of the run, and in each fan-out, by its event.
    fn levels(&self) -> (Walk, BTreeMap<&'static str, Walk>) {
        let first: Vec<_> = self.external.iter().copied().chain([self.start]).collect();
        let run = self.walk(&first);
        let mut fans: BTreeMap<&'static str, Walk> = BTreeMap::new();
        let mut to_do: Vec<_> = run.opens.keys().copied().collect();
        while let Some(fan) = to_do.pop() {
            if !fans.contains_key(fan) {
                let walk = self.walk_fan(fan);
                to_do.extend(walk.opens.keys());
                fans.insert(fan, walk);
            }
        }
        (run, fans)
    }

    pub(super) fn check_levels(&self, mistakes: &mut Vec<String>) {
        let (run, fans) = self.levels();
        for node in &self.nodes {
            match node.accepts {
                Accepts::Joined(event) | Accepts::First(event, _) => {
                    mistakes.extend(
                        nested_joins(node.step, event, &fans).or_else(|| outside(node.step, event, &run, &fans)),
                    );
                }
                Accepts::Set(events) => mistakes.extend(incomplete(node.step, events, &run, &fans)),
                Accepts::Each(_) => {}
            }
        }
    }
}

/// The fan-outs inside of this one, on whatever level.
fn inside(fan: &'static str, fans: &BTreeMap<&'static str, Walk>) -> BTreeSet<&'static str> {
    let (mut found, mut to_do) = (BTreeSet::new(), vec![fan]);
    while let Some(inner) = to_do.pop().and_then(|fan| fans.get(fan)) {
        to_do.extend(inner.opens.keys().filter(|inner| found.insert(**inner)));
    }
    found
}

/// A step that joins a fan-out and also another one around that. A fan-out that opens itself again is one.
fn nested_joins(step: &str, event: &str, fans: &BTreeMap<&'static str, Walk>) -> Option<String> {
    let joined = |fan: &str| fans.get(fan).is_some_and(|walk| walk.joins.contains(step));
    let outer = fans.keys().copied().filter(|fan| joined(fan));
    let mut pairs = outer.flat_map(|outer| inside(outer, fans).into_iter().map(move |inner| (outer, inner)));
    let (outer, inner) = pairs.find(|(outer, inner)| joined(inner) && !inside(inner, fans).contains(outer))?;
    let by = fans.get(outer).and_then(|walk| walk.comes.get(event)).map(names).unwrap_or_default();
    Some(format!(
        "step {step} takes Joined<{event}>, and {event} comes on two levels: in the fan-out of {inner}, and{by} in that of \
         {outer} around it, which {step} would join too; let one of them be another event, with a step of its own that takes \
         it{}",
        hint(&by)
    ))
}

/// A step that joins, and whose event also comes outside of any fan-out. A step that returns it in both places may know when to.
fn outside(step: &str, event: &str, run: &Walk, fans: &BTreeMap<&'static str, Walk>) -> Option<String> {
    let joining: Vec<&Walk> = fans.values().filter(|walk| walk.joins.contains(step)).collect();
    let by = only_there(event, run, &joining)?;
    if by.contains(step) || joining.is_empty() {
        return None;
    }
    let by = names(&by);
    Some(format!(
        "step {step} takes Joined<{event}>, and {event} comes{by} outside of any fan-out too, where nothing can be joined; \
         let it be another event there{}",
        hint(&by)
    ))
}

/// The steps that leave an event on this level, and on none of the others.
fn only_there(event: &str, level: &Walk, others: &[&Walk]) -> Option<BTreeSet<&'static str>> {
    let mut by = level.comes.get(event)?.clone();
    by.retain(|step| others.iter().all(|other| other.comes.get(event).is_none_or(|by| !by.contains(step))));
    (!by.is_empty()).then_some(by)
}

/// A set of which some events come on a level on which others never come, or nowhere. Events from outside, and the start
/// event, go to steps that take them alone. A step that also returns an event where the set can be complete may know when to.
fn incomplete(step: &str, events: &[&str], run: &Walk, fans: &BTreeMap<&'static str, Walk>) -> Option<String> {
    let inner = fans.iter().map(|(fan, walk)| (format!("in the fan-out of {fan}"), walk));
    let levels: Vec<_> = [("outside of any fan-out".to_owned(), run)].into_iter().chain(inner).collect();
    let misses = |walk: &Walk| events.iter().copied().find(|event| !walk.comes.contains_key(event));
    let whole: Vec<&Walk> = levels.iter().map(|(_, walk)| *walk).filter(|walk| misses(walk).is_none()).collect();
    let apart = levels.iter().find_map(|(level, walk)| {
        let missing = misses(walk)?;
        let (comes, by) = events.iter().find_map(|event| Some((event, only_there(event, walk, &whole)?)))?;
        let by = names(&by);
        Some(format!(
            "step {step} takes a set with {comes} and {missing}, and {level} {comes} comes{by} but {missing} never does: such a \
             set is never complete; let both come on one level, or put {missing} into the state (ctx.state()) and take \
             {comes} alone{}",
            hint(&by)
        ))
    });
    let comes = |event: &str| levels.iter().any(|(_, walk)| walk.comes.contains_key(event));
    apart.or_else(|| {
        let event = events.iter().find(|event| !comes(event))?;
        Some(format!(
            "step {step} takes a set with {event}, which no step returns or sends: the start event and events from outside go \
             to steps that take them by themselves; let such a step return another event for the set"
        ))
    })
}

fn names(steps: &BTreeSet<&'static str>) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let s = if steps.len() == 1 { "" } else { "s" };
    format!(" from step{s} {}", steps.iter().copied().collect::<Vec<_>>().join(", "))
}

fn hint(by: &str) -> &'static str {
    if by.is_empty() {
        ""
    } else {
        " (a step that catches failures leaves its events where the failed step was: see `catches`)"
    }
}

#[cfg(test)]
mod tests {
    use Accepts::{Each, Joined, Set};

    use super::super::tests::{graph, node};
    use super::*;
    use crate::event::Event;
    use crate::failed::{Catches, StepFailed};

    fn mend(steps: &[&'static str]) -> Node {
        let catches = Catches { steps: steps.to_vec(), recoveries: 1 };
        Node { catches: Some(catches), ..node("mend", Each(StepFailed::NAME), &[("Conf", false)]) }
    }

    fn nested() -> Vec<Node> {
        vec![
            node("trunk", Each("Start"), &[("Branch", true)]),
            node("branch", Each("Branch"), &[("Leaf", true)]),
            node("leaf", Each("Leaf"), &[("Conf", false)]),
            node("j1", Joined("Conf"), &[("Inner", false)]),
            node("j2", Joined("Inner"), &[("Stop", false)]),
        ]
    }

    fn mistakes(nodes: Vec<Node>) -> Vec<String> {
        graph(nodes).check().err().map(|error| error.mistakes().to_vec()).unwrap_or_default()
    }

    #[track_caller]
    fn assert_told(nodes: Vec<Node>, parts: &[&str]) {
        let shown = format!("{nodes:?}");
        let found = mistakes(nodes);
        assert!(found.iter().any(|mistake| parts.iter().all(|part| mistake.contains(part))), "{found:?} of {shown}");
    }

    #[test]
    fn an_event_that_is_joined_on_two_levels_is_a_mistake() {
        assert!(mistakes(nested()).is_empty());
        let parts = ["step j1 takes Joined<Conf>", "the fan-out of Leaf", "that of Branch around it", "another event"];
        let mut wild = nested();
        wild.push(mend(&[]));
        assert_told(wild, &[&parts[..], &["from step mend", "`catches`"]].concat());
        let mut either = nested();
        either[1].emits.push(("Conf", false));
        assert_told(either, &[&parts[..], &["from step branch"]].concat());
        let mut named = nested();
        named.push(mend(&["leaf"]));
        assert!(mistakes(named).is_empty(), "it stays on its level");
    }

    #[test]
    fn an_event_that_is_joined_and_comes_outside_of_fan_outs_too_is_a_mistake() {
        let mut outside = nested();
        outside[0].emits.push(("Inner", false));
        assert_told(outside, &["step j2 takes Joined<Inner>", "from step trunk outside of any fan-out too"]);
        let mut from_outside = graph(nested());
        from_outside.nodes.push(node("more", Each("More"), &[("Inner", false)]));
        from_outside.external = vec!["More"];
        let told = from_outside.check().unwrap_err().to_string();
        assert!(told.contains("from step more outside of any fan-out too"), "{told}");
    }

    #[test]
    fn fan_outs_beside_each_other_may_have_one_join_and_so_may_one_that_opens_itself() {
        let beside = vec![
            node("start", Each("Start"), &[("A", true), ("B", true)]),
            node("a", Each("A"), &[("Conf", false)]),
            node("b", Each("B"), &[("Conf", false)]),
            node("bill", Joined("Conf"), &[("Stop", false)]),
        ];
        assert!(mistakes(beside).is_empty());
        let sorted = vec![
            node("begin", Each("Start"), &[("Part", true)]),
            node("sort", Each("Part"), &[("Part", true), ("Sorted", false)]),
            node("merge", Joined("Sorted"), &[("Sorted", false), ("Stop", false)]),
        ];
        assert!(mistakes(sorted).is_empty());
    }

    #[test]
    fn a_set_whose_events_come_on_different_levels_is_a_mistake() {
        let apart = || {
            vec![
                node("start", Each("Start"), &[("Item", true)]),
                node("conf", Each("Start"), &[("Conf", false)]),
                node("each", Each("Item"), &[("Done", false)]),
                node("both", Set(&["Item", "Conf"]), &[("Done", false)]),
                node("end", Joined("Done"), &[("Stop", false)]),
            ]
        };
        let parts = ["step both takes a set with", "Item", "Conf", "never complete", "ctx.state()"];
        assert_told(apart(), &parts);
        let mut from_outside = graph(vec![
            node("start", Each("Start"), &[("Stop", false)]),
            node("note", Each("Word"), &[]),
            node("both", Set(&["Start", "Word"]), &[("Stop", false)]),
        ]);
        from_outside.external = vec!["Word"];
        let told = from_outside.check().unwrap_err().to_string();
        assert!(told.contains("step both takes a set with Start, which no step returns or sends"), "{told}");
        let mut together = apart();
        together[1].accepts = Each("Item");
        assert!(mistakes(together).is_empty());
    }
}
