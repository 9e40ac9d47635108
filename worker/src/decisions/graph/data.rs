//! A workflow's graph as data, for its registration.

use stepfleet_shared::graph::{self, Emit, Graph};

use super::catches;
use crate::event::Accepts;
use crate::workflow::{Definition, Step};

/// It is complete, and keeps mistakes too.
pub(crate) fn describe<W>(definition: &Definition<W>) -> Graph {
    Graph {
        start: definition.start.to_owned(),
        stop: definition.stop.to_owned(),
        external: definition.external.iter().map(|event| (*event).to_owned()).collect(),
        steps: definition.steps.iter().map(|one| step(definition, one)).collect(),
        schemas: definition.schemas.clone(),
    }
}

fn step<W>(definition: &Definition<W>, step: &Step<W>) -> graph::StepNode {
    let returned = step.emits.events.iter().map(|(event, many)| (*event, *many, false));
    let sent = step.sends.iter().map(|event| (*event, false, true));
    let emits = returned.chain(sent).map(|(event, many, sent)| Emit { event: event.to_owned(), many, sent });
    graph::StepNode {
        name: step.name.to_owned(),
        accepts: graph::Accepts {
            events: step.accepts.events().into_iter().map(str::to_owned).collect(),
            joined: step.accepts.is_joined(),
            first: if let Accepts::First(_, first) = step.accepts { Some(first) } else { None },
        },
        emits: emits.collect(),
        context: step.context,
        concurrency: step.concurrency,
        catches: catches::of(step).map(|c| c.steps.iter().map(|step| (*step).to_owned()).collect()),
        retries: step.retry_policy(definition).retries(),
        timeout_ms: step.timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
    }
}
