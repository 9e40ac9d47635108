//! States of steps, for followers that ask for them.

use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::Both;
use stepfleet_shared::published::{Published, StepState, What};
use stepfleet_shared::run::Status;

use super::{Answered, Asked, Ending, LIMIT, all, counted, next, rest};

#[derive(Event, Serialize, Deserialize)]
struct Part(u64);

#[derive(Event, Serialize, Deserialize)]
struct Twice(u64);

/// A fan-out, one branch of which fails at first, and a join.
struct Spread;

#[workflow(start = Asked, stop = Answered)]
impl Spread {
    #[step]
    async fn split(&self, ev: Asked) -> Outcome<Vec<Part>> {
        Ok((0..ev.n).map(Part).collect())
    }

    #[step(retries = 1)]
    async fn double(&self, ctx: &Context, ev: Part) -> Outcome<Twice> {
        if ev.0 == 0 && ctx.attempt() == 1 {
            return Err(Error::msg("stumbled"));
        }
        Ok(Twice(ev.0 * 2))
    }

    #[step]
    async fn sum(&self, all: Joined<Twice>) -> Outcome<Answered> {
        Ok(Answered { answer: json!(all.iter().map(|n| n.0).sum::<u64>()) })
    }
}

/// `<state> <attempt> <event>` of each entry about one step execution, with what it emitted and its error.
fn states(entries: &[Published], of: u64) -> Vec<String> {
    let told = entries.iter().filter_map(|entry| match &entry.what {
        What::State { state, event, by, emitted, error } if by.seq == of => {
            assert_eq!(by.worker == "-", *state == StepState::Waiting, "{entry:?}");
            let about = error.clone().unwrap_or_else(|| emitted.join(","));
            Some(format!("{state:?} {} {} {event} {about}", by.attempt, by.step).trim_end().to_owned())
        }
        _ => None,
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_states_of_steps_on_request() {
    Both::new(|worker| worker.serve(Spread))
        .play(async |stage| {
            let spread =
                stage.client.start("spread", &json!({ "n": 3 })).id("r").follow_steps().enqueue().await.unwrap();
            let entries = rest(spread.follow()).await;
            let first = ["Waiting 0 split Asked", "Running 1 split Asked", "Done 1 split Asked Part"];
            assert_eq!(states(&entries, 1), first);
            let stumbled = [
                "Waiting 0 double Part",
                "Running 1 double Part",
                "Retry 1 double Part stumbled",
                "Waiting 1 double Part",
                "Running 2 double Part",
                "Done 2 double Part Twice",
            ];
            assert_eq!(states(&entries, 2), stumbled);
            for other in [3, 4] {
                let plain = ["Waiting 0 double Part", "Running 1 double Part", "Done 1 double Part Twice"];
                assert_eq!(states(&entries, other), plain);
            }
            let last = ["Waiting 0 sum Twice", "Running 1 sum Twice", "Done 1 sum Twice Answered"];
            assert_eq!(states(&entries, 5), last);
            assert_eq!(entries.len(), 3 + 6 + 3 + 3 + 3 + 1);
            assert_eq!(entries.last().unwrap().what, What::End { status: Status::Completed });

            let quiet = stage.client.start("spread", &json!({ "n": 3 })).id("q").enqueue().await.unwrap();
            quiet.result::<Value>(LIMIT).await.unwrap();
            assert_eq!(all(&*stage.store, "q").await, []);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_failed_steps_and_lost_workers() {
    Both::new(|worker| worker.serve(Ending))
        .play(async |stage| {
            let failing =
                stage.client.start("ending", &json!({ "n": 1 })).id("r").follow_steps().enqueue().await.unwrap();
            let entries = rest(failing.follow()).await;
            let told = ["Waiting 0 end Asked", "Running 1 end Asked", "Failed 1 end Asked for good"];
            assert_eq!(states(&entries, 1), told);
            assert_eq!(counted(&entries), [1]);

            let left = stage.client.start("ending", &json!({ "n": 2 })).id("s").delay(Duration::from_millis(1));
            let mut follower = left.follow_steps().enqueue().await.unwrap().follow();
            let mut seen = Vec::new();
            while counted(&seen).is_empty() {
                seen.extend(next(&mut follower).await);
            }
            // The worker that has it is told to stop, and hands it back.
            let What::Event { by, .. } = &seen.last().unwrap().what else { panic!("{seen:?}") };
            assert!(stage.store.deregister(&by.worker).await.unwrap());
            while states(&seen, 1).len() < 5 {
                seen.extend(next(&mut follower).await);
            }
            let told = [
                "Waiting 0 end Asked",
                "Waiting 0 end Asked",
                "Running 1 end Asked",
                "Waiting 1 end Asked",
                "Running 2 end Asked",
            ];
            assert_eq!(states(&seen, 1), told);
            stage.client.run("s").cancel().await.unwrap();
            assert_eq!(rest(follower).await.last().unwrap().what, What::End { status: Status::Cancelled });
        })
        .await;
}

/// Another step catches the failure.
struct Mending;

#[workflow(start = Asked, stop = Answered)]
impl Mending {
    #[step(retries = 0)]
    async fn work(&self, ev: Asked) -> Outcome<Answered> {
        Err(Error::terminal(format!("no {}", ev.n)))
    }

    #[step(catches = "all")]
    async fn mend(&self, failed: StepFailed) -> Outcome<Answered> {
        Ok(Answered { answer: json!(failed.step) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_see_a_caught_failure_and_its_outcome() {
    Both::new(|worker| worker.serve(Mending))
        .play(async |stage| {
            let run = stage.client.start("mending", &json!({ "n": 1 })).id("r").follow_steps().enqueue().await.unwrap();
            let entries = rest(run.follow()).await;
            assert_eq!(states(&entries, 1)[2..], ["Failed 1 work Asked no 1"]);
            let What::State { emitted, .. } = &entries[2].what else { panic!("{:?}", entries[2]) };
            assert_eq!(*emitted, ["stepfleet.StepFailed"]);
            let mended = [
                "Waiting 0 mend stepfleet.StepFailed",
                "Running 1 mend stepfleet.StepFailed",
                "Done 1 mend stepfleet.StepFailed Answered",
            ];
            assert_eq!(states(&entries, 2), mended);
        })
        .await;
}
