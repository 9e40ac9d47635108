//! Child runs: on the memory store and on a real Redis, each with three workers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::{found, until};
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::{Compensation, Status};
use stepfleet_shared::step::Retried;

const LIMIT: Duration = Duration::from_secs(60);

/// How often something was done, by name.
static DONE: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn done(name: impl Into<String>) -> u64 {
    let mut done = DONE.lock().unwrap();
    let count = done.entry(name.into()).or_default();
    *count += 1;
    *count
}

fn how_often(name: &str) -> u64 {
    DONE.lock().unwrap().get(name).copied().unwrap_or(0)
}

/// Runs that fail at first, and are mended.
static MENDED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn mend(name: &str) {
    MENDED.lock().unwrap().insert(name.to_owned());
}

fn is_mended(name: &str) -> bool {
    MENDED.lock().unwrap().contains(name)
}

/// Names that no two plays share.
fn named(stage: &Stage, name: &str) -> String {
    format!("{name}-{}", if stage.redis.is_some() { "redis" } else { "memory" })
}

#[durable(name = "double")]
async fn double(ctx: &Context, n: u64) -> Outcome<u64> {
    ctx.step("double", || async { Ok(2 * n) }).await
}

#[durable(name = "sum")]
async fn sum(ctx: &Context, count: u64) -> Outcome<u64> {
    let doubled: Vec<u64> = ctx.map(1..=count, 20, |n| ctx.run_workflow("double", &n)).await?;
    Ok(doubled.into_iter().sum())
}

/// Its first step succeeds at once, its second once it is mended.
#[durable(name = "fragile", retries = 0)]
async fn fragile(ctx: &Context, name: String) -> Outcome<String> {
    ctx.step("first", || async { Ok(done(format!("{name} first"))) }).await?;
    ctx.step("second", || async { if is_mended(&name) { Ok(()) } else { Err(Error::terminal("it is broken")) } })
        .await?;
    Ok(format!("{name} is fine"))
}

#[durable(name = "careful")]
async fn careful(ctx: &Context, name: String) -> Outcome<String> {
    done(format!("{name} parent"));
    ctx.run_workflow("fragile", &name).await
}

/// Records nothing, so that its end goes the short way.
#[durable(name = "plain")]
async fn plain(_: &Context, n: u64) -> Outcome<u64> {
    Ok(n)
}

#[durable(name = "counts")]
async fn counts(ctx: &Context, count: u64) -> Outcome<u64> {
    let counted: Vec<u64> = ctx.map(1..=count, 20, |n| async move { ctx.task::<plain>(&n).await }).await?;
    Ok(counted.into_iter().sum())
}

/// Waits for somebody.
#[durable(name = "patient")]
async fn patient(ctx: &Context, _: Value) -> Outcome<String> {
    ctx.wait_for("go on").await
}

/// Waits for a child of any workflow.
#[durable(name = "waits")]
async fn waits(ctx: &Context, workflow: String) -> Outcome<String> {
    ctx.run_workflow(&workflow, &json!({})).await
}

/// The same, but the child goes on without it.
#[durable(name = "leaves")]
async fn leaves(ctx: &Context, workflow: String) -> Outcome<String> {
    ctx.run_workflow(&workflow, &json!({})).outlives_parent().await
}

#[durable(name = "races")]
async fn races(ctx: &Context, _: Value) -> Outcome<u64> {
    let slow = ctx.run_workflow::<String, _>("patient", &json!({}));
    let fast = ctx.run_workflow::<u64, _>("double", &21);
    let won = ctx.race((async { slow.await.map(|_| 0) }, fast)).await?;
    let _: String = ctx.wait_for("end").await?;
    Ok(won)
}

/// Fails while a child is active, until it is mended.
#[durable(name = "fails-beside", retries = 0)]
async fn fails_beside(ctx: &Context, name: String) -> Outcome<String> {
    let child = ctx.run_workflow::<String, _>("patient", &json!({}));
    let other = async {
        let _: String = ctx.wait_for("fail").await?;
        if is_mended(&name) { Ok(()) } else { Err(Error::terminal("not yet")) }
    };
    let (said, ()) = ctx.join((child, other)).await?;
    Ok(said)
}

#[durable(name = "starts")]
async fn starts(ctx: &Context, _: Value) -> Outcome<String> {
    let run = ctx.start_workflow("double", &4).await?;
    let _: String = ctx.wait_for("fail").await?;
    Ok(run)
}

/// Fails once halfway.
#[task(retry = RetryPolicy::fixed(Duration::from_millis(10)).attempts(3))]
async fn count_to(ctx: &Context, to: u64) -> Outcome<Vec<u64>> {
    let begun = ctx.progress::<u64>().await?.unwrap_or(0);
    for n in begun..to {
        if n == to / 2 && begun == 0 {
            return Err(Error::msg("it stumbled"));
        }
        ctx.heartbeat(&(n + 1)).await?;
    }
    Ok(vec![begun, to])
}

#[durable(name = "hands-out")]
async fn hands_out(ctx: &Context, to: u64) -> Outcome<Vec<u64>> {
    ctx.task::<count_to>(&to).await
}

/// Undone so far, in order, by run.
static UNDONE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Fails until it is mended, if its name says so.
#[task(retries = 0)]
async fn undo(_: &Context, name: String) -> Outcome<()> {
    if name.contains("broken") && !is_mended(&name) {
        return Err(Error::msg("it cannot be undone"));
    }
    UNDONE.lock().unwrap().push(name);
    Ok(())
}

fn undone(name: &str) -> Vec<String> {
    let undone = UNDONE.lock().unwrap();
    let of = undone.iter().filter_map(|undone| undone.strip_prefix(name)?.strip_prefix(' '));
    of.map(str::to_owned).collect()
}

/// Registers three compensations and a cleanup, waits for a word, and ends as the word says.
#[durable(name = "books", retries = 0, timeout = "1h")]
async fn books(ctx: &Context, (name, second): (String, String)) -> Outcome<String> {
    ctx.compensate::<undo>(&format!("{name} flight")).await?;
    ctx.cleanup::<undo>(&format!("{name} lock")).await?;
    ctx.compensate::<undo>(&format!("{name} {second}")).await?;
    ctx.step("flight", || async { Ok(()) }).await?;
    ctx.compensate::<undo>(&format!("{name} car")).await?;
    let word: String = ctx.wait_for("word").await?;
    if word == "fail" { Err(Error::terminal("sold out")) } else { Ok(word) }
}

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    numbers: Vec<u64>,
}

#[derive(Event, Serialize, Deserialize)]
struct Doubled {
    by: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Summed {
    sum: u64,
}

/// Steps of event-driven workflows can have child runs too.
struct Sums;

#[workflow(start = Asked, stop = Summed, name = "sums")]
impl Sums {
    #[step]
    async fn double(&self, ctx: &Context, ev: Asked) -> Outcome<Doubled> {
        ctx.cleanup::<undo>(&format!("{} table", ctx.run_id())).await?;
        let doubled: Vec<u64> = ctx.map(ev.numbers, 4, |n| async move { ctx.task::<double>(&n).await }).await?;
        Ok(Doubled { by: doubled.iter().sum() })
    }

    #[step]
    async fn sum(&self, ctx: &Context, ev: Doubled) -> Outcome<Summed> {
        Ok(Summed { sum: ctx.run_workflow("sum", &3).await.map(|sum: u64| sum + ev.by)? })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    let worker = worker.serve(double::workflow())?.serve(sum::workflow())?.serve(fragile::workflow())?;
    let worker = worker.serve(careful::workflow())?.serve(patient::workflow())?.serve(waits::workflow())?;
    let worker = worker.serve(races::workflow())?.serve(fails_beside::workflow())?.serve(starts::workflow())?;
    let worker = worker.serve(count_to::workflow())?.serve(hands_out::workflow())?;
    worker
        .serve(undo::workflow())?
        .serve(books::workflow())?
        .serve(Sums)?
        .serve(plain::workflow())?
        .serve(leaves::workflow())?
        .serve(counts::workflow())
}

/// The children that a run has requested, in order.
async fn children(stage: &Stage, run: &str) -> Vec<String> {
    let history = stage.store.history(run, 0, 10_000).await.unwrap();
    let asked = history.into_iter().filter(|record| record.kind == Kind::Child);
    asked.map(|record| record.detail.split_once(' ').unwrap().0.to_owned()).collect()
}

async fn child(stage: &Stage, run: &str) -> String {
    found(async || children(stage, run).await.first().cloned()).await
}

async fn status(stage: &Stage, run: &str) -> Option<Status> {
    stage.store.run(run).await.unwrap().map(|run| run.status)
}

async fn start(stage: &Stage, workflow: &str, id: &str, input: Value) {
    stage.client.start(workflow, &input).id(id).enqueue().await.unwrap();
}

#[tokio::test]
async fn a_run_waits_for_its_children_and_each_sees_the_other() {
    Both::new(serve)
        .play(async |stage| {
            start(stage, "sum", "r", json!(100)).await;
            assert_eq!(stage.client.run("r").result::<u64>(LIMIT).await.unwrap(), 10_100);
            let children = children(stage, "r").await;
            assert_eq!(children.len(), 100, "each was asked for once");
            for child in children {
                let child = stage.store.run(&child).await.unwrap().unwrap();
                assert_eq!((child.status, child.parent.as_deref()), (Status::Completed, Some("r")));
            }
            assert_eq!(stage.store.run("r").await.unwrap().unwrap().parent, None);
        })
        .await;
}

#[tokio::test]
async fn a_child_that_fails_is_an_error_and_a_retry_of_its_parent_continues_it() {
    Both::new(serve)
        .play(async |stage| {
            let name = &*named(stage, "careful");
            start(stage, "careful", name, json!(name)).await;
            let failed = stage.client.run(name).wait(LIMIT).await.unwrap();
            let child = child(stage, name).await;
            let why = format!("the child run {child} of fragile failed: it is broken");
            assert_eq!((failed.status, failed.error.as_deref()), (Status::Failed, Some(&*why)));
            let bodies = how_often(&format!("{name} parent"));
            assert!((1..=2).contains(&bodies), "one attempt until it waited, and one with the error: {bodies}");
            mend(name);
            stage.client.run(name).retry().await.unwrap();
            until(async || status(stage, name).await == Some(Status::Completed)).await;
            let said = stage.client.run(name).result::<String>(LIMIT).await.unwrap();
            assert_eq!(said, format!("{name} is fine"));
            assert_eq!(how_often(&format!("{name} first")), 1, "the child went on from where it had failed");
            assert_eq!(children(stage, name).await, [child.clone(), child], "it was asked for again");
        })
        .await;
}

#[tokio::test]
async fn children_are_cancelled_with_their_parent_and_a_child_alone_is_an_error_there() {
    Both::new(serve)
        .play(async |stage| {
            start(stage, "waits", "r", json!("patient")).await;
            let under_way = child(stage, "r").await;
            until(async || status(stage, &under_way).await.is_some()).await;
            stage.client.run("r").cancel().await.unwrap();
            until(async || status(stage, &under_way).await == Some(Status::Cancelled)).await;

            start(stage, "waits", "other", json!("patient")).await;
            let child = child(stage, "other").await;
            until(async || status(stage, &child).await.is_some()).await;
            stage.client.run(&*child).cancel().await.unwrap();
            let failed = stage.client.run("other").wait(LIMIT).await.unwrap();
            let why = format!("the child run {child} of patient was cancelled: cancelled on request");
            assert_eq!((failed.status, failed.error.as_deref()), (Status::Failed, Some(&*why)));
        })
        .await;
}

#[tokio::test]
async fn a_child_that_outlives_its_parent_goes_on_when_that_is_cancelled() {
    Both::new(serve)
        .play(async |stage| {
            start(stage, "leaves", "r", json!("patient")).await;
            let child = child(stage, "r").await;
            until(async || status(stage, &child).await.is_some()).await;
            stage.client.run("r").cancel().await.unwrap();
            until(async || status(stage, "r").await == Some(Status::Cancelled)).await;
            stage.client.run(&*child).signal("go on", &"alone").await.unwrap();
            assert_eq!(stage.client.run(&*child).result::<String>(LIMIT).await.unwrap(), "alone");
        })
        .await;
}

#[tokio::test]
async fn a_child_that_a_race_drops_is_cancelled() {
    Both::new(serve)
        .play(async |stage| {
            start(stage, "races", "r", json!({})).await;
            let slow = child(stage, "r").await;
            until(async || status(stage, &slow).await == Some(Status::Cancelled)).await;
            assert_eq!(status(stage, "r").await, Some(Status::Running));
            stage.client.run("r").signal("end", &"now").await.unwrap();
            assert_eq!(stage.client.run("r").result::<u64>(LIMIT).await.unwrap(), 42);
        })
        .await;
}

#[tokio::test]
async fn a_child_that_waits_for_a_worker_can_be_cancelled_too() {
    Both::new(serve)
        .play(async |stage| {
            start(stage, "waits", "r", json!("unheard-of")).await;
            let held = child(stage, "r").await;
            until(async || !stage.store.deferred().await.unwrap().is_empty()).await;
            stage.client.run(&*held).cancel().await.unwrap();
            let failed = stage.client.run("r").wait(LIMIT).await.unwrap();
            let why = format!("the child run {held} of unheard-of was cancelled: cancelled on request");
            assert_eq!((failed.status, failed.error.as_deref()), (Status::Failed, Some(&*why)));
        })
        .await;
}

#[tokio::test]
async fn the_children_of_a_failed_run_go_on_and_a_retry_finds_their_ends() {
    Both::new(serve)
        .play(async |stage| {
            let name = &*named(stage, "beside");
            start(stage, "fails-beside", "r", json!(name)).await;
            let child = child(stage, "r").await;
            stage.client.run("r").signal("fail", &"now").await.unwrap();
            assert_eq!(stage.client.run("r").wait(LIMIT).await.unwrap().status, Status::Failed);
            stage.client.run(&*child).signal("go on", &"well").await.unwrap();
            assert_eq!(stage.client.run(&*child).result::<String>(LIMIT).await.unwrap(), "well");
            let told = async || {
                let history = stage.store.history("r", 0, 1000).await.unwrap();
                history.iter().any(|record| record.kind == Kind::ChildEnded)
            };
            until(told).await;
            mend(name);
            stage.client.run("r").retry().await.unwrap();
            until(async || status(stage, "r").await == Some(Status::Completed)).await;
            assert_eq!(stage.client.run("r").result::<String>(LIMIT).await.unwrap(), "well");
            assert_eq!(children(stage, "r").await, [child]);
        })
        .await;
}

#[tokio::test]
async fn a_run_that_is_started_alone_outlives_the_one_that_started_it() {
    Both::new(serve)
        .play(async |stage| {
            start(stage, "starts", "r", json!({})).await;
            let started = found(async || {
                let runs = stage.client.runs().workflow("double").list(1).await.unwrap();
                runs.first().map(|run| run.id.clone())
            })
            .await;
            assert_eq!(stage.client.run(&*started).result::<u64>(LIMIT).await.unwrap(), 8);
            stage.client.run("r").signal("fail", &"now").await.unwrap();
            assert_eq!(stage.client.run("r").result::<String>(LIMIT).await.unwrap(), started);
            assert_eq!(stage.store.run(&started).await.unwrap().unwrap().parent, None);
        })
        .await;
}

#[tokio::test]
async fn the_next_attempt_of_a_task_goes_on_from_its_last_heartbeat() {
    Both::new(serve)
        .play(async |stage| {
            start(stage, "hands-out", "r", json!(10)).await;
            assert_eq!(stage.client.run("r").result::<Vec<u64>>(LIMIT).await.unwrap(), [5, 10]);
            let task = child(stage, "r").await;
            let shown = stage.client.run(&*task).snapshot().await.unwrap().unwrap();
            assert_eq!(shown.context["progress"], json!(10));
        })
        .await;
}

/// A run of `books` that waits for its word.
async fn booked(stage: &Stage, name: &str, second: &str) -> String {
    let id = named(stage, name);
    start(stage, "books", &id, json!([id, second])).await;
    until(async || stage.store.waits(&id).await.unwrap().iter().any(|wait| wait.name == "word")).await;
    id
}

async fn compensation(stage: &Stage, run: &str) -> Option<Compensation> {
    stage.store.run(run).await.unwrap().and_then(|run| run.compensation)
}

#[tokio::test]
async fn compensations_run_in_reverse_if_a_run_does_not_complete() {
    Both::new(serve)
        .play(async |stage| {
            let failing = booked(stage, "failing", "hotel").await;
            stage.client.run(&*failing).signal("word", &"fail").await.unwrap();
            until(async || compensation(stage, &failing).await == Some(Compensation::Done)).await;
            assert_eq!(undone(&failing), ["car", "hotel", "lock", "flight"]);
            assert_eq!(status(stage, &failing).await, Some(Status::Failed));
            let refused = stage.store.retry(&failing, None, None).await.unwrap();
            let why = "its compensations have been carried out; start it again, or fork it";
            assert_eq!(refused, Retried::Refused(why.into()));

            let stopped = booked(stage, "stopped", "hotel").await;
            stage.client.run(&*stopped).cancel().await.unwrap();
            until(async || compensation(stage, &stopped).await == Some(Compensation::Done)).await;
            assert_eq!(undone(&stopped), ["car", "hotel", "lock", "flight"]);
            assert_eq!(status(stage, &stopped).await, Some(Status::Cancelled));

            let good = booked(stage, "good", "hotel").await;
            stage.client.run(&*good).signal("word", &"fine").await.unwrap();
            until(async || compensation(stage, &good).await == Some(Compensation::Done)).await;
            assert_eq!(undone(&good), ["lock"], "only what cleans up");
            assert_eq!(status(stage, &good).await, Some(Status::Completed));
        })
        .await;
}

#[tokio::test]
async fn compensations_wait_if_one_fails_and_a_retry_continues_them() {
    Both::new(serve)
        .play(async |stage| {
            let run = booked(stage, "half", "broken").await;
            stage.client.run(&*run).cancel().await.unwrap();
            until(async || compensation(stage, &run).await == Some(Compensation::Failed)).await;
            assert_eq!(undone(&run), ["car"]);
            mend(&format!("{run} broken"));
            stage.client.run(&*run).retry().await.unwrap();
            until(async || compensation(stage, &run).await == Some(Compensation::Done)).await;
            assert_eq!(undone(&run), ["car", "broken", "lock", "flight"]);
            assert_eq!(status(stage, &run).await, Some(Status::Cancelled));
        })
        .await;
}

#[tokio::test]
async fn a_cancel_that_meets_the_end_of_a_run_has_one_outcome() {
    Both::new(serve)
        .play(async |stage| {
            let stage = &*stage;
            let race = |n: usize| async move {
                let id = format!("r{n}");
                start(stage, "waits", &id, json!("patient")).await;
                let child = child(stage, &id).await;
                let (child, run) = (stage.client.run(child), stage.client.run(&*id));
                // The child ends, and its parent with it; both are cancelled meanwhile.
                let (signalled, cancelled) = tokio::join!(child.signal("go on", &"well"), run.cancel());
                drop((signalled.unwrap(), cancelled.unwrap()));
                for run in [&run, &child] {
                    run.wait(LIMIT).await.unwrap();
                    let history = stage.store.history(run.id(), 0, 1000).await.unwrap();
                    let is_end = |kind| matches!(kind, Kind::Completed | Kind::Failed | Kind::Cancelled);
                    let ends: Vec<_> = history.iter().filter(|record| is_end(record.kind)).collect();
                    assert_eq!(ends.len(), 1, "{history:?}");
                }
            };
            futures_util::future::join_all((0..100).map(race)).await;
        })
        .await;
}

#[tokio::test]
async fn steps_of_an_event_driven_workflow_have_children_and_clean_up() {
    Both::new(serve)
        .play(async |stage| {
            let id = named(stage, "sums");
            start(stage, "sums", &id, json!({ "numbers": [1, 2, 3] })).await;
            assert_eq!(stage.client.run(&*id).result::<Value>(LIMIT).await.unwrap(), json!({ "sum": 24 }));
            until(async || compensation(stage, &id).await == Some(Compensation::Done)).await;
            assert_eq!(undone(&id), ["table"]);
            // Three tasks, the sum and its three, and the cleanup.
            assert_eq!(children(stage, &id).await.len(), 5);
        })
        .await;
}

#[tokio::test]
async fn children_that_record_nothing_are_heard_of_too() {
    Both::new(serve)
        .play(async |stage| {
            start(stage, "counts", "r", json!(50)).await;
            assert_eq!(stage.client.run("r").result::<u64>(LIMIT).await.unwrap(), 1275);
        })
        .await;
}
