//! Steps that merge into the context of their run, and that expect the values that they have read.

use proptest::test_runner::TestCaseError;
use stepfleet_shared::step::{Checkpoint, Commit, Merge, Refill};
use stepfleet_shared::store::Store;
use stepfleet_shared::values;

use super::{Case, HOUR, Pair, both, events, ordered_outcome, plain, same};

/// The sum of these is sometimes too large.
const DELTAS: [i64; 6] = [1, -1, 999_999_999, -123_456_789_012, 600_000_000_000_000_000, -600_000_000_000_000_001];

impl Pair {
    /// Merges, with a checkpoint or at the end; expects the values that the step got, nothing, or a value that never existed.
    pub(crate) async fn merge(&mut self, held: usize, how: u8, expects: u8, ends: bool, repeat: bool) -> Case {
        if self.held.is_empty() {
            return Ok("merge nothing");
        }
        let at = held % self.held.len();
        let (worker, step) = self.held[at].clone();
        let merges = merges(how);
        let expects: Vec<_> = match expects % 4 {
            0 => vec![],
            1 => vec![(format!("f{}", how % 3), Some(values::digest(b"never there")))],
            _ => ["number", "list", "f1"]
                .map(|field| {
                    let given = step.context.iter().find(|(name, _)| name == field);
                    (field.to_owned(), given.map(|(_, value)| values::digest(value)))
                })
                .to_vec(),
        };
        if !ends {
            self.numbers += 1;
            let mark = Some(self.numbers);
            self.traced.insert((step.fence.run.clone(), step.fence.seq));
            let set = vec![("f1".to_owned(), vec![1, how])];
            let checkpoint = Checkpoint { mark, set, merges, expects, ..Checkpoint::default() };
            let id = self.worker(worker);
            let first = both!(self, store => told(store.checkpoint(&id, &step.fence, &checkpoint)));
            if repeat {
                let again = both!(self, store => told(store.checkpoint(&id, &step.fence, &checkpoint)));
                same("checkpoint", &first, &again)?;
            }
            return Ok(what("merge: checkpoint", &first));
        }
        let mut call = self.call(worker);
        let refill = Refill::default();
        let commit = Commit { merges, expects, emits: events(1), retention: HOUR, ..Commit::default() };
        let first = both!(self, store => told(ordered_outcome(store.complete(&call, &step, &commit, &refill))));
        if repeat {
            call.again = true;
            let again = both!(self, store => told(ordered_outcome(store.complete(&call, &step, &commit, &refill))));
            same("merge", &first, &again)?;
        }
        let name = what("merge: done", &first);
        if name == "merge: done" {
            self.held.remove(at);
            self.old.push((worker, step));
        }
        Ok(name)
    }
}

fn merges(how: u8) -> Vec<(String, Merge)> {
    let item = |form| Merge::Append { form, bytes: vec![how % 128, 7] };
    match how % 8 {
        0 => vec![],
        1 => vec![
            ("number".into(), Merge::Add(1)),
            ("list".into(), item(values::LIST)),
            ("map".into(), item(values::MAP)),
        ],
        // The second is refused although the first was good, and then neither may take effect.
        2 => vec![("list".into(), item(values::LIST)), ("number".into(), item(values::LIST))],
        3 => vec![("f1".into(), Merge::Add(1))],
        4 => vec![("list".into(), Merge::Append { form: values::LIST, bytes: vec![7; 600_000] })],
        5 => vec![("number".into(), Merge::Add(1)), ("number".into(), Merge::Add(i64::from(how)))],
        _ => vec![("number".into(), Merge::Add(DELTAS[usize::from(how / 8) % DELTAS.len()]))],
    }
}

fn what(name: &'static str, answer: &str) -> &'static str {
    if answer.contains("Conflict") {
        "merge: conflict"
    } else if answer.contains("the context field") {
        "merge: refused"
    } else {
        name
    }
}

/// A refusal is an answer too.
async fn told<T: std::fmt::Debug>(
    answer: impl Future<Output = stepfleet_shared::Result<T>>,
) -> stepfleet_shared::Result<String> {
    match answer.await {
        Ok(answer) => Ok(plain(&answer)),
        Err(error) if error.is_invalid() => Ok(error.to_string()),
        Err(error) => Err(error),
    }
}
