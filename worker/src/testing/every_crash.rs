//! The same run again and again, each time with a crash at another commit.

use serde::Serialize;
use stepfleet_shared::store::memory::Moment;

use super::crash::{self, Crash, Place};
use super::report::TestRun;
use super::setup::Setup;
use crate::event::Event;

/// Each commit makes two runs more, each with all commits.
const MOST: usize = 2000;

/// Runs the workflow once without a crash; then once for each of its commits with a worker that dies before it, and
/// once with one that dies after it. Checks that each of these runs ends like the first: same status, result, error
/// and state. Returns the first run.
///
/// `setup` is called for each run: give the workflow fresh resources there. A workflow with `n` commits makes `2n +
/// 1` runs.
///
/// ```
/// # use stepfleet::{prelude::*, testing};
/// # #[event] struct Asked { name: String }
/// # #[event] struct Greeted { text: String }
/// # struct Greeting;
/// # #[workflow(start = Asked, stop = Greeted)]
/// # impl Greeting {
/// #     #[step] async fn greet(&self, ev: Asked) -> Outcome<Greeted> { Ok(Greeted { text: format!("Hello {}", ev.name) }) }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let run = testing::survives_every_crash(|| testing::run(Greeting).workers(2), &Asked { name: "Ada".into() }).await;
/// assert_eq!(run.result::<Greeted>().text, "Hello Ada");
/// # }
/// ```
///
/// # Panics
/// When a run ends differently from the first, with an account of both; when the first does not end; and when it has
/// more than 2,000 commits.
pub async fn survives_every_crash<E: Event>(setup: impl Fn() -> Setup, input: &E) -> TestRun {
    every_crash(setup, async |setup| setup.start(input).await).await
}

/// Like [`survives_every_crash`], for a durable function with this input.
///
/// # Panics
/// Like [`survives_every_crash`].
pub async fn call_survives_every_crash<I: Serialize + ?Sized>(setup: impl Fn() -> Setup, input: &I) -> TestRun {
    every_crash(setup, async |setup| setup.call(input).await).await
}

async fn every_crash(setup: impl Fn() -> Setup, start: impl AsyncFn(Setup) -> TestRun) -> TestRun {
    let first = start(setup()).await;
    assert!(first.status().is_over(), "the run does not end, even without a crash:\n{first}");
    let commits = first.crashes.commits();
    assert!(
        commits.len() <= MOST,
        "the run makes {} commits; at most {MOST} can be tried: give it a smaller input",
        commits.len()
    );
    for (at, step) in commits.iter().enumerate() {
        for moment in [Moment::Before, Moment::After] {
            let mut again = setup();
            again.crashes.push(Crash { place: Place::OfRun(at + 1), moment });
            let again = start(again).await;
            assert!(
                again.end() == first.end(),
                "a worker that dies {} commit {} of the run (of step {step}) changes how it ends.\n\n\
                 Without a crash, {first}\n\nWith it, {again}",
                crash::name(moment),
                at + 1
            );
        }
    }
    first
}
