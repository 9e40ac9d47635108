//! The replay of a run that was executed elsewhere.

use std::fmt;

use stepfleet_shared::export::Export;
use stepfleet_shared::run::Status;

use crate::runtime::replaying;
use crate::workflow::{Served, Workflow};

/// Replays what a run has recorded, as `stepfleet export` or
/// [`RunHandle::export`](stepfleet::client::RunHandle::export) returns it, against this code. Use it before a
/// deployment, to find a change that active runs could not survive. The run may be active or have ended.
///
/// A replay needs no Redis and has no side effects: recorded calls return their recorded results, and what comes
/// after them is not done. The replay ends where the journal ends.
///
/// ```
/// # use stepfleet::{prelude::*, testing};
/// # #[durable]
/// # async fn greet(ctx: &Context, name: String) -> Outcome<String> { Ok(name) }
/// # /*
/// #[tokio::test]
/// # */
/// async fn runs_of_last_week_replay() {
///     # return;
///     # #[allow(unreachable_code)] {
///     # macro_rules! include_str { ($path:literal) => { "" } }
///     testing::replay(greet::workflow(), include_str!("runs/greet-1.json")).await.assert_along();
///     # }
/// }
/// ```
///
/// # Panics
/// When the text is not an export, when it is that of another workflow's run, or when the workflow's graph cannot
/// work.
pub async fn replay<W: Workflow>(workflow: W, exported: &str) -> Replay {
    let export = Export::read(exported).unwrap_or_else(|mistake| panic!("{mistake}"));
    let served = Served::new(workflow).unwrap_or_else(|mistake| panic!("{mistake}"));
    let name = &served.registration.workflow;
    assert!(*name == export.workflow, "the export is a run of {}, and the workflow is {name}", export.workflow);
    let is_done = export.status == Status::Completed;
    let mut steps = Vec::new();
    for journaled in export.journaled() {
        let (seq, entries) = (journaled.step.fence.seq, journaled.step.journal.len());
        let name = journaled.step.step.clone();
        let went = replaying::replay(&served, journaled, is_done).await.map_err(|fault| fault.to_string());
        steps.push(Replayed { seq, name, entries, went });
    }
    Replay { run: export.run, workflow: export.workflow, version: export.version, status: export.status, steps }
}

/// The outcome of a replay. Its `Display` shows it for each step.
#[derive(Clone, Debug)]
#[must_use = "check its outcome: assert_along()"]
pub struct Replay {
    run: String,
    workflow: String,
    version: u32,
    status: Status,
    steps: Vec<Replayed>,
}

#[derive(Clone, Debug)]
struct Replayed {
    seq: u64,
    name: String,
    entries: usize,
    /// How many calls it has made, or where it diverges.
    went: Result<u64, String>,
}

impl Replay {
    /// Where the code takes another path than what is recorded: one text for each step that does, with what is
    /// recorded and what the code asks for. Empty if the code replays all of it.
    pub fn faults(&self) -> Vec<&str> {
        self.steps.iter().filter_map(|step| step.went.as_ref().err().map(String::as_str)).collect()
    }

    /// Checks that the code replays the whole journal.
    ///
    /// # Panics
    /// With the first difference, when it does not; and when nothing was recorded.
    #[track_caller]
    pub fn assert_along(&self) {
        assert!(!self.steps.is_empty(), "the run {} has nothing recorded: there is nothing to replay", self.run);
        assert!(self.faults().is_empty(), "{self}");
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, workflow, version, status, steps } = self;
        write!(f, "run {run} of {workflow} version {version}, which was {status}:")?;
        for Replayed { seq, name, entries, went } in steps {
            let name = if name.is_empty() { workflow } else { name };
            match went {
                Ok(calls) => {
                    write!(f, "\n  #{seq} {name} replayed the whole journal: {entries} entries, {calls} calls")?;
                }
                Err(fault) => write!(f, "\n  #{seq} {name} diverges: {fault}")?,
            }
        }
        Ok(())
    }
}
