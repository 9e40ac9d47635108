//! Reads the journals of a run.

use super::data::Data;
use super::run::{EventSource, Execution, RunData};
use crate::codec;
use crate::export::Journaled;
use crate::step::{Claimed, Fence};

impl Data {
    pub(super) fn journals(&self, run: &str) -> Vec<Journaled> {
        let Some(data) = self.runs.get(run) else { return Vec::new() };
        if !data.kept_journal.is_empty() {
            let mut step = data.journaled(1);
            step.payload = codec::input_payload(step.content, &data.shown.input);
            step.journal = data.kept_journal.clone().into_iter().collect();
            return vec![Journaled { step, joined: None }];
        }
        let steps = data.steps.as_ref().or(data.stopped.as_ref());
        let executions = steps.into_iter().flat_map(|steps| &steps.executions);
        let recorded = executions.filter(|(_, execution)| !execution.journal.is_empty());
        recorded.map(|(seq, execution)| data.journaled_execution(*seq, execution)).collect()
    }
}

impl RunData {
    fn journaled(&self, seq: u64) -> Claimed {
        let fence = Fence { run: self.shown.id.clone(), seq, ..Fence::default() };
        let fields = if seq == 1 && self.forked_at.is_none() { &self.begun } else { &self.context };
        Claimed {
            fence,
            workflow: self.shown.workflow.clone(),
            version: self.shown.version,
            content: self.shown.content,
            context: fields.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
            ..Claimed::default()
        }
    }

    fn journaled_execution(&self, seq: u64, execution: &Execution) -> Journaled {
        let mut step = self.journaled(seq);
        let work = &execution.work;
        step.fence.attempt = execution.attempt;
        (step.step, step.event, step.group) = (work.route.step.clone(), work.route.event.clone(), work.group);
        step.journal = execution.journal.clone().into_iter().collect();
        let mut joined = None;
        match &work.event {
            EventSource::Input => step.payload = codec::input_payload(step.content, &self.shown.input),
            EventSource::Payload(payload) | EventSource::Outside(payload) => step.payload.clone_from(payload),
            EventSource::Set(set) => step.parts = Some(set.clone()),
            EventSource::Joined(buffer) => {
                let steps = self.steps.as_ref().or(self.stopped.as_ref());
                let all = steps.and_then(|steps| steps.joined.get(&(buffer.group, step.step.clone())));
                let count = usize::try_from(buffer.count).unwrap_or(usize::MAX);
                joined = Some(all.into_iter().flatten().take(count).cloned().collect());
            }
        }
        Journaled { step, joined }
    }
}
