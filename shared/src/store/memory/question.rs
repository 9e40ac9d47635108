//! Questions that runs ask people: the open ones, and their answers.

use super::data::Data;
use super::run::{Actor, KeptSignal, Steps};
use super::signal::{Standing, entry_of};
use crate::history::Kind;
use crate::names;
use crate::question::OpenQuestion;
use crate::step::Answered;
use crate::store::{AnswerTo, Origin, RequestFate};

/// The text of a question, and when it was asked.
pub(super) type Asked = (Vec<u8>, u64);

impl Data {
    /// Opens a question.
    pub(super) fn ask(&mut self, now: u64, run: &str, at: (u64, u64), name: &str, question: &[u8]) {
        let attempt = Actor { run: run.into(), seq: at.0, number: 0, step: "-".into(), worker: "-".into() };
        self.note(now, Kind::Asked, &attempt, name.to_owned());
        if let Some(steps) = self.steps(run) {
            steps.asked.insert(at, (question.to_vec(), now));
        }
    }

    pub(super) fn answer(&mut self, now: u64, asked: &str, answer: &AnswerTo<'_>, origin: Option<&Origin>) -> Answered {
        if self.is_gone(entry_of(origin)) {
            return Answered::Gone;
        }
        if self.is_repeated(now, asked, origin) {
            return Answered::Repeated;
        }
        let run = self.led_to(now, asked);
        match self.standing(&run) {
            Standing::Over => return Answered::Over,
            Standing::Unknown => return Answered::Unknown,
            Standing::Waiting => return Answered::Closed,
            Standing::Live => {}
        }
        let Some((seq, number)) = place(answer.question) else { return Answered::Closed };
        let name = names::question(answer.name);
        let open = self.steps(&run).and_then(|steps| {
            let wait = steps.waits.get(&name)?.iter().find(|wait| (wait.seq, wait.number) == (seq, number))?.clone();
            steps.is_waiting(seq).then_some(wait)
        });
        let Some(open) = open else { return Answered::Closed };
        self.keep_waits(now, &run, &name, |wait, _| *wait != open);
        let attempt = Actor { run: run.clone(), seq, number: 0, step: "-".into(), worker: "-".into() };
        self.note(now, Kind::Answered, &attempt, format!("{name} {}", answer.by));
        let signal = KeptSignal { attributes: Vec::new(), payload: answer.payload.to_vec() };
        self.record_signal(&run, seq, number, &name, &signal, open.due);
        self.wake(now, &run, seq);
        self.settle_request(now, asked, origin, RequestFate::Taken);
        Answered::Answered
    }

    pub(super) fn open_questions(&self, run: Option<&str>, from: u64, count: u64) -> Vec<OpenQuestion> {
        let runs = self.runs.iter().filter(|(id, _)| run.is_none_or(|run| run == *id));
        let all = runs.filter_map(|(id, run)| Some((id, run.steps.as_ref()?)));
        let mut open: Vec<OpenQuestion> = all.flat_map(|(id, steps)| steps.questions(id)).collect();
        open.sort_by(|a, b| (a.asked_ms, &a.run, &a.id).cmp(&(b.asked_ms, &b.run, &b.id)));
        let (from, count) = if run.is_some() { (0, u64::MAX) } else { (from, count) };
        let places = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
        open.into_iter().skip(places(from)).take(places(count)).collect()
    }
}

impl Steps {
    fn questions(&self, run: &str) -> Vec<OpenQuestion> {
        let waits = self.waits.values().flatten().filter(|wait| self.is_waiting(wait.seq));
        let open = waits.filter_map(|wait| {
            let (question, asked_ms) = self.asked.get(&(wait.seq, wait.number))?;
            Some(OpenQuestion {
                run: run.to_owned(),
                id: format!("{}.{}", wait.seq, wait.number),
                asked_ms: *asked_ms,
                due_ms: wait.due,
                question: serde_json::from_slice(question).ok()?,
            })
        });
        open.collect()
    }
}

fn place(question: &str) -> Option<(u64, u64)> {
    let (seq, number) = question.split_once('.')?;
    Some((seq.parse().ok()?, number.parse().ok()?))
}
