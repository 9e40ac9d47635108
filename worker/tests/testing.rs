//! The test kit, used as an author uses it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use stepfleet::prelude::*;
use stepfleet::testing::{self, Kind, Setup, Status};

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    question: String,
    terms: Vec<String>,
}

#[derive(Event, Serialize, Deserialize)]
struct Lookup {
    term: String,
}

#[derive(Event, Serialize, Deserialize)]
struct Passage {
    text: String,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Answered {
    text: String,
}

#[derive(Emit)]
enum Verdict {
    Again(Asked),
    Done(Answered),
}

#[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
struct Memory {
    rounds: u32,
    found: Vec<String>,
}

/// A resource: what the test wants of it, and what was asked of it.
#[derive(Default)]
struct Index {
    /// How many lookups fail, from the first on.
    failing: usize,
    lookups: AtomicUsize,
}

/// Looks up terms, and looks again for what was found until it has gone round as often as the question says.
struct Rag {
    index: Arc<Index>,
}

#[workflow(start = Asked, stop = Answered, version = 3)]
impl Rag {
    #[step]
    async fn plan(&self, ctx: &Context<Memory>, ev: Asked) -> Outcome<Vec<Lookup>> {
        ctx.state().edit(|m| m.rounds += 1).await?;
        ctx.state().set("question", &ev.question).await?;
        Ok(ev.terms.into_iter().map(|term| Lookup { term }).collect())
    }

    #[step(retries = 2, backoff = "10s")]
    async fn look(&self, ev: Lookup) -> Outcome<Passage> {
        let before = self.index.lookups.fetch_add(1, Ordering::SeqCst);
        if ev.term == "poison" {
            return Err(Terminal("that is not looked up"))?;
        }
        if before < self.index.failing {
            return Err(Error::msg(format!("no answer for {}", ev.term)));
        }
        Ok(Passage { text: ev.term.to_uppercase() })
    }

    #[step]
    async fn judge(&self, ctx: &Context<Memory>, found: Joined<Passage>) -> Outcome<Verdict> {
        let found: Vec<String> = found.into_iter().map(|passage| passage.text).collect();
        let more = found.clone();
        ctx.state().edit(move |m| m.found.extend_from_slice(&more)).await?;
        let memory = ctx.state().load().await?;
        let question: String = ctx.state().get("question").await?.unwrap_or_default();
        let rounds: u32 = question.parse().unwrap_or(1);
        Ok(if memory.rounds < rounds {
            Verdict::Again(Asked { question, terms: found })
        } else {
            Verdict::Done(Answered { text: memory.found.join(" ") })
        })
    }
}

fn rag() -> Setup {
    testing::run(Rag { index: Arc::default() })
}

fn rag_that_fails(failing: usize) -> (Arc<Index>, Setup) {
    let index = Arc::new(Index { failing, ..Index::default() });
    (index.clone(), testing::run(Rag { index }))
}

fn ask(rounds: u32, terms: &[&str]) -> Asked {
    Asked { question: rounds.to_string(), terms: terms.iter().map(ToString::to_string).collect() }
}

/// What a call panics with.
async fn panic_of<T>(call: impl Future<Output = T>) -> String {
    let panic = AssertUnwindSafe(call).catch_unwind().await.err().expect("it did not panic");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).expect("a panic with a message")
}

#[tokio::test]
async fn a_run_gives_its_result_and_shows_what_happened() {
    let run = rag().id("rag-1").start(&ask(1, &["a", "b"])).await;
    run.assert_status(Status::Completed);
    assert_eq!(run.result::<Answered>().text, "A B");
    run.history().assert_steps(["plan", "look", "look", "judge"]);
    assert_eq!((run.step("look").executions(), run.step("look").attempts(), run.attempts()), (2, 2, 4));
    assert_eq!((run.run().id.as_str(), run.run().version), ("rag-1", 3));
    assert_eq!(run.time_skipped(), Duration::ZERO);
    assert!(run.waits().is_empty());
}

#[tokio::test]
async fn a_loop_goes_round_and_state_is_kept() {
    let run = rag().start(&ask(3, &["a"])).await;
    assert_eq!(run.result::<Answered>().text, "A A A");
    run.history().assert_steps(["plan", "look", "judge"].repeat(3));
    assert_eq!(run.state::<Memory>(), Memory { rounds: 3, found: vec!["A".into(); 3] });
    assert_eq!(run.field::<String>("question").as_deref(), Some("3"));
    assert_eq!(run.field::<String>("never set"), None);
}

#[tokio::test]
async fn a_fan_out_joins_however_wide_it_is() {
    for width in [0, 1, 1000] {
        let terms: Vec<String> = (0..width).map(|n| n.to_string()).collect();
        let run = rag().start(&Asked { question: "1".into(), terms: terms.clone() }).await;
        assert_eq!(run.step("look").executions(), width);
        let mut found: Vec<String> = run.state::<Memory>().found;
        found.sort_by_key(|n| n.parse::<usize>().unwrap());
        assert_eq!(found, terms);
    }
}

#[tokio::test]
async fn a_run_begins_with_the_context_that_it_is_given() {
    let memory = Memory { rounds: 4, found: vec!["before".into()] };
    let run = rag().state(&memory).field("note", "kept").start(&ask(5, &["a"])).await;
    assert_eq!(run.result::<Answered>().text, "before A");
    assert_eq!(run.field::<String>("note").as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_retry_takes_no_time_and_shows_its_delay() {
    let (index, setup) = rag_that_fails(2);
    let run = setup.start(&ask(1, &["a"])).await;
    assert_eq!(run.result::<Answered>().text, "A");
    assert_eq!(index.lookups.load(Ordering::SeqCst), 3);
    let look = run.step("look");
    assert_eq!((look.executions(), look.attempts()), (1, 3));
    let errors: Vec<&str> = look.retries().iter().map(|retry| retry.error.as_str()).collect();
    assert_eq!(errors, ["no answer for a"; 2]);
    let delays: Duration = look.retries().iter().map(|retry| retry.delay).sum();
    assert_eq!(run.time_skipped(), delays);
    assert!(delays > Duration::from_secs(20), "{delays:?}");
}

#[tokio::test]
async fn a_step_that_fails_for_good_fails_the_run() {
    let (index, setup) = rag_that_fails(3);
    let run = setup.start(&ask(1, &["a"])).await;
    run.assert_status(Status::Failed);
    assert_eq!(run.error(), "no answer for a");
    assert_eq!((run.run().error_step.as_deref(), run.run().error_attempt), (Some("look"), Some(3)));
    assert_eq!(index.lookups.load(Ordering::SeqCst), 3);
    run.history().assert_steps(["plan"]);

    let run = rag().start(&ask(1, &["poison"])).await;
    assert_eq!((run.error(), run.step("look").attempts()), ("that is not looked up", 1));
    let told = panic_of(async { run.result::<Answered>() }).await;
    for part in
        ["run test of rag version 3 is failed", "in step look, attempt 1: that is not looked up", "done", "#1 plan"]
    {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

#[tokio::test]
async fn a_worker_that_dies_before_its_commit_leaves_nothing_of_it() {
    let (index, setup) = rag_that_fails(0);
    let run = setup.crash_before_commit("plan", 1).crash_before_commit("look", 2).start(&ask(1, &["a", "b"])).await;
    assert_eq!(run.result::<Answered>().text, "A B");
    assert_eq!(run.state::<Memory>().rounds, 1, "what the first attempt wrote is gone");
    assert_eq!(index.lookups.load(Ordering::SeqCst), 3, "the lookup happened twice");
    assert_eq!((run.step("plan").attempts(), run.step("look").attempts(), run.step("judge").attempts()), (2, 3, 1));
    run.history().assert_steps(["plan", "look", "look", "judge"]);
    let lost: Vec<_> = run.history().of(Kind::Lost).map(|r| (r.step.as_str(), r.worker.as_str())).collect();
    assert_eq!(lost.len(), 2);
    assert_eq!(lost[0], ("plan", "worker-1"));
    assert!(!run.step("judge").workers().contains(&lost[1].1.to_owned()), "the dead do not work");
    assert_eq!(run.time_skipped(), Duration::ZERO);
}

#[tokio::test]
async fn a_worker_that_dies_after_its_commit_leaves_all_of_it() {
    let (index, setup) = rag_that_fails(0);
    let run = setup.crash_after_commit("plan", 1).crash_after_commit("look", 2).start(&ask(1, &["a", "b"])).await;
    assert_eq!(run.result::<Answered>().text, "A B");
    assert_eq!(run.state::<Memory>().rounds, 1);
    assert_eq!(index.lookups.load(Ordering::SeqCst), 2);
    assert_eq!(run.attempts(), 4);
    let workers = [run.step("plan").workers(), run.step("look").workers(), run.step("judge").workers()].concat();
    assert_eq!(workers, ["worker-1", "worker-2", "worker-3", "worker-4"], "1 and 3 have died; 4 took the place of 1");
}

#[tokio::test]
async fn the_result_is_the_same_wherever_a_worker_dies() {
    let run = testing::survives_every_crash(rag, &ask(2, &["a", "b", "c"])).await;
    assert_eq!(run.result::<Answered>().text, "A B C A B C");
}

#[tokio::test]
async fn a_run_that_fails_fails_the_same_way_wherever_a_worker_dies() {
    let run = testing::survives_every_crash(rag, &ask(1, &["a", "poison"])).await;
    assert_eq!(run.error(), "that is not looked up");
}

/// Says what it does, and takes its time over it.
struct Slow {
    /// How long the first attempt takes.
    first: Duration,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Progress {
    attempt: u32,
}

#[workflow(start = Asked, stop = Answered)]
impl Slow {
    #[step(timeout = "1m", retries = 1, backoff = "40s")]
    async fn answer(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        ctx.publish(&Progress { attempt: ctx.attempt() }).await?;
        tokio::time::sleep(if ctx.attempt() == 1 { self.first } else { Duration::from_millis(1) }).await;
        Ok(Answered { text: ev.question })
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_sleeps_and_a_step_that_takes_too_long_take_no_time() {
    let run = testing::run(Slow { first: Duration::from_secs(30) }).start(&ask(1, &[])).await;
    assert_eq!((run.result::<Answered>().text.as_str(), run.attempts()), ("1", 1));
    assert_eq!(run.time_skipped(), Duration::ZERO, "the step slept on its own clock");

    let run = testing::run(Slow { first: Duration::from_secs(90) }).start(&ask(1, &[])).await;
    assert_eq!((run.result::<Answered>().text.as_str(), run.attempts()), ("1", 2));
    let retries = run.step("answer").retries().to_vec();
    assert_eq!(retries[0].error, "step answer took longer than its timeout of 60s");
    assert_eq!(run.time_skipped(), retries[0].delay);
    assert_eq!(run.published::<Progress>(), [Progress { attempt: 1 }, Progress { attempt: 2 }]);
    assert_eq!(run.all_published().len(), 3, "the last one says that the run has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dies_with_the_tasks_that_it_has_spawned() {
    // A step with a timeout runs in a task of its own.
    let slow = || testing::run(Slow { first: Duration::ZERO });
    let run = slow().crash_before_commit("answer", 1).start(&ask(1, &[])).await;
    assert_eq!((run.result::<Answered>().text.as_str(), run.attempts()), ("1", 2));
    assert_eq!(run.published::<Progress>().len(), 2);
}

/// Has less time than its retries would take.
struct Hasty;

#[workflow(start = Asked, stop = Answered, timeout = "1m")]
impl Hasty {
    #[step(retries = 100, backoff = "25s", factor = 1)]
    async fn answer(&self, _ev: Asked) -> Outcome<Answered> {
        Err(Error::msg("not yet"))
    }
}

#[tokio::test]
async fn a_run_whose_time_is_over_fails() {
    let run = testing::run(Hasty).start(&ask(1, &[])).await;
    run.assert_status(Status::Failed);
    assert_eq!(run.time_skipped(), Duration::from_secs(60));
    assert!(run.error().contains("answer"), "{run}");
    assert_eq!(run.attempts(), 3);
}

/// Counts outside of its context how often it ran: that is what a crash must change.
struct Forgetful {
    ran: AtomicUsize,
}

#[workflow(start = Asked, stop = Answered)]
impl Forgetful {
    #[step]
    async fn answer(&self, _ev: Asked) -> Outcome<Answered> {
        Ok(Answered { text: self.ran.fetch_add(1, Ordering::SeqCst).to_string() })
    }
}

#[tokio::test]
async fn a_result_that_depends_on_a_crash_is_found_out() {
    let forgetful = || testing::run(Forgetful { ran: AtomicUsize::new(0) });
    assert_eq!(forgetful().start(&ask(1, &[])).await.result::<Answered>().text, "0");
    let told = Box::pin(panic_of(testing::survives_every_crash(forgetful, &ask(1, &[])))).await;
    for part in ["dies before commit 1 of the run (of step answer)", "{\"text\":\"0\"}", "{\"text\":\"1\"}", "lost"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

#[tokio::test]
async fn workers_take_turns() {
    let run = rag().workers(2).start(&ask(1, &["a", "b", "c"])).await;
    let workers = [run.step("plan").workers(), run.step("look").workers(), run.step("judge").workers()].concat();
    assert_eq!(workers, ["worker-1", "worker-2", "worker-1", "worker-2", "worker-1"]);
    let run = rag().workers(1).start(&ask(1, &["a", "b"])).await;
    assert!(run.step("look").workers().iter().all(|worker| worker == "worker-1"));
}

#[tokio::test]
async fn a_run_is_cancelled_where_it_stands() {
    let (index, setup) = rag_that_fails(1);
    let run = setup.cancel_at(Duration::from_secs(1)).start(&ask(1, &["a"])).await;
    run.assert_status(Status::Cancelled);
    assert_eq!(index.lookups.load(Ordering::SeqCst), 1, "it was to be tried again after about 10 s");
    assert_eq!(run.time_skipped(), Duration::from_secs(1));
}

#[tokio::test]
async fn a_run_that_never_ends_is_given_up_with_a_look_at_its_history() {
    let told = panic_of(rag().max_attempts(50).start(&ask(u32::MAX, &["a"]))).await;
    for part in ["has not ended after 50 attempts", "judge attempt 1", "max_attempts()"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

#[tokio::test]
async fn a_mistake_in_the_test_is_told() {
    let told = panic_of(async { rag().crash_before_commit("lok", 1) }).await;
    assert_eq!(told, "the workflow has no step lok; it has judge, look, plan");
    let told = panic_of(rag().crash_after_commit("look", 3).start(&ask(1, &["a"]))).await;
    assert!(told.contains("crash after commit 3 of step look did not happen: the step made 1 commits"), "{told}");
    let told = panic_of(rag().start(&Answered { text: String::new() })).await;
    assert_eq!(told, "rag begins with Asked, not with Answered; give start() that event");
    let told = panic_of(rag().start_json("{\"question\":")).await;
    assert!(told.starts_with("the input cannot be read as JSON"), "{told}");

    let run = rag().start(&ask(1, &["a"])).await;
    let told = panic_of(async { run.history().assert_steps(["plan", "look", "look", "judge"]) }).await;
    assert!(told.contains("    plan\n    look\n  - look\n    judge\n"), "{told}");
    let told = panic_of(async { run.assert_status(Status::Failed) }).await;
    assert!(told.contains("should be failed") && told.contains("is completed"), "{told}");
    assert!(panic_of(async { run.error().to_owned() }).await.contains("has no error"));
    assert!(panic_of(async { run.step("jugde") }).await.contains("it has judge, look, plan"));
}

#[derive(Event, Serialize, Deserialize)]
struct Visitor {
    name: String,
}

#[derive(Event, Serialize, Deserialize)]
struct Closed;

/// Rests until events come from outside.
struct Desk;

#[workflow(start = Asked, stop = Answered, external = [Visitor, Closed])]
impl Desk {
    #[step]
    async fn open(&self, _ev: Asked) -> Outcome<()> {
        Ok(())
    }

    #[step]
    async fn greet(&self, ctx: &Context, ev: Visitor) -> Outcome<()> {
        ctx.state().push("names", &ev.name).await
    }

    #[step]
    async fn close(&self, ctx: &Context, _ev: Closed) -> Outcome<Answered> {
        let names: Vec<String> = ctx.state().get("names").await?.unwrap_or_default();
        Ok(Answered { text: names.join(", ") })
    }
}

#[tokio::test]
async fn events_from_outside_come_one_after_the_other() {
    let visitor = |name: &str| Visitor { name: name.to_owned() };
    let asked = Asked { question: String::new(), terms: vec![] };
    let run = testing::run(Desk).send(&visitor("ann")).send(&visitor("bob")).send(&Closed).start(&asked).await;
    assert_eq!(run.result::<Answered>().text, "ann, bob");
    let run = testing::run(Desk).send(&visitor("ann")).start(&asked).await;
    run.assert_status(Status::Running);
}

/// Collects as many as the question says.
struct Hoard;

#[workflow(start = Asked, stop = Answered)]
impl Hoard {
    #[step]
    async fn hoard(&self, ctx: &Context, ev: Asked) -> Outcome<Option<Answered>> {
        let count = ev.question.parse()?;
        let all = ctx.collect("all", count, &ev).await?;
        Ok(all.map(|all| Answered { text: all.len().to_string() }))
    }
}

#[tokio::test]
async fn a_buffer_has_bounds() {
    let asked = |count: &str| Asked { question: count.into(), terms: vec![] };
    assert_eq!(testing::run(Hoard).start(&asked("1")).await.result::<Answered>().text, "1");
    for count in ["0", "1001"] {
        let run = testing::run(Hoard).start(&asked(count)).await;
        run.assert_status(Status::Failed);
        assert!(run.error().contains(&format!("cannot hold {count} events; it holds 1 to 1000")), "{run}");
    }
}
