//! Checkpoints and waits under the test kit, as the store has them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stepfleet_macros::{Event, step, workflow};
use stepfleet_shared::codec;
use stepfleet_shared::history::Kind;
use stepfleet_shared::journal::Entry;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Body, CallId, Checkpoint, Refill, Wait};

use super::Setup;
use crate::emit::Emission;
use crate::error::{Error, Outcome};
use crate::workflow::Attempt;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Answered {
    said: Option<String>,
}

struct Question;

#[workflow(start = Asked, stop = Answered)]
impl Question {
    #[step(retries = 0)]
    async fn ask(&self, _ev: Asked) -> Outcome<Answered> {
        Err(Error::terminal("it is replaced"))
    }
}

/// Opens its wait in a checkpoint, holds no worker until it has ended, and returns its result.
async fn ask(attempt: Attempt, deadline: Option<Duration>) -> Outcome<Emission> {
    let (step, reach) = (attempt.claimed.clone(), attempt.core.reach.clone());
    if let Some((_, entry)) = step.journal.iter().find(|(number, _)| *number == 2) {
        let said = match Entry::read(entry)? {
            Entry::Signal { payload, .. } => Some(codec::decode("the signal", payload)?),
            _ => None,
        };
        return attempt.emission(Answered { said });
    }
    let waits = vec![Wait { number: 2, name: "answer".into(), deadline, ..Wait::default() }];
    let checkpoint = Checkpoint {
        set: vec![("asked".into(), codec::encode("x", &step.fence.attempt)?)],
        entries: vec![(1, codec::encode("x", &())?)],
        waits: waits.clone(),
        ..Checkpoint::default()
    };
    if step.journal.is_empty() {
        reach.store.checkpoint(&reach.worker, &step.fence, &checkpoint).await?;
    }
    let call = CallId { worker: reach.worker.clone(), number: u64::MAX, again: false };
    reach.store.suspend(&call, &step, &waits, Body::Dropped, None, &Refill::default()).await?;
    // The fence is used up: this has no effect.
    Err(Error::msg("it is suspended"))
}

fn question(deadline: Option<Duration>) -> Setup {
    let mut setup = super::run(Question);
    setup.served.replace("ask", move |attempt| ask(attempt, deadline));
    setup
}

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test]
async fn a_signal_of_the_script_is_given_when_it_is_waited_for() {
    let run = question(Some(DAY)).signal("answer", "yes").signal("other", "no").start(&Asked {}).await;
    assert_eq!(run.result::<Answered>().said.as_deref(), Some("yes"));
    assert_eq!((run.time_skipped(), run.attempts()), (Duration::ZERO, 2));
    assert_eq!(run.history().of(Kind::Suspended).count(), 1);
    assert!(run.to_string().contains("never waited for the scripted signal other"), "{run}");
}

#[tokio::test]
async fn without_a_signal_the_deadline_comes_at_once() {
    let run = question(Some(DAY)).start(&Asked {}).await;
    assert_eq!((run.result::<Answered>().said, run.time_skipped()), (None, DAY));
}

#[tokio::test]
async fn a_signal_comes_at_its_time() {
    let hour = DAY / 24;
    let run = question(Some(DAY)).signal_at(hour, "answer", "late").start(&Asked {}).await;
    assert_eq!((run.result::<Answered>().said.as_deref(), run.time_skipped()), (Some("late"), hour));
    let run = question(Some(hour)).signal_at(DAY, "answer", "too late").start(&Asked {}).await;
    assert_eq!((run.result::<Answered>().said, run.time_skipped()), (None, hour));
    let run = question(None).signal_at(Duration::ZERO, "answer", "early").start(&Asked {}).await;
    assert_eq!(run.result::<Answered>().said.as_deref(), Some("early"));
    assert_eq!(run.history().of(Kind::Signal).count(), 0, "it was kept for the wait");
}

#[tokio::test]
async fn a_run_that_waits_for_ever_says_for_what() {
    let run = question(None).signal("anwser", "yes").start(&Asked {}).await;
    run.assert_status(Status::Running);
    assert_eq!(run.waits(), ["answer"]);
    let told = run.to_string();
    assert!(told.contains("waits for the signal answer; give it with .signal(\"answer\", &value)"), "{told}");
    assert!(told.contains("never waited for the scripted signal anwser"), "{told}");
}

#[tokio::test]
async fn checkpoints_and_waits_are_commits_that_a_worker_can_die_at() {
    // 1 the checkpoint, 2 the wait, 3 what the suspended attempt returned, 4 the end.
    let first = || question(None).signal("answer", "yes");
    let run = first().crash_after_commit("ask", 1).start(&Asked {}).await;
    assert_eq!(run.result::<Answered>().said.as_deref(), Some("yes"));
    assert_eq!(run.field::<u32>("asked"), Some(1), "the checkpoint stands");
    let run = first().crash_before_commit("ask", 1).start(&Asked {}).await;
    assert_eq!((run.field::<u32>("asked"), run.attempts()), (Some(2), 3), "there was no checkpoint");
    for commit in 1..=4 {
        let run = first().crash_before_commit("ask", commit).start(&Asked {}).await;
        assert_eq!(run.result::<Answered>().said.as_deref(), Some("yes"));
        let run = first().crash_after_commit("ask", commit).start(&Asked {}).await;
        assert_eq!(run.result::<Answered>().said.as_deref(), Some("yes"));
    }
}
