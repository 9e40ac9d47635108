//! Durable functions: served, called in the test kit, killed at each commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stepfleet::prelude::*;
use stepfleet::testing::{self, Status};
use stepfleet_shared::history::Kind;

#[derive(Serialize, Deserialize, Clone)]
struct Order {
    goods: Vec<String>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Receipt {
    text: String,
}

#[derive(Default)]
struct Shop {
    reserved: AtomicU32,
}

impl Shop {
    #[expect(clippy::unused_async, reason = "a shop is elsewhere")]
    async fn reserve(&self, good: &str) -> Outcome<String> {
        self.reserved.fetch_add(1, Ordering::SeqCst);
        Ok(format!("<{good}>"))
    }
}

#[derive(Serialize, Deserialize, Default)]
struct Progress {
    stage: String,
}

#[durable(version = 2, timeout = "60d", retention = "1d")]
async fn fulfil(ctx: &Context<Progress>, shop: &Shop, order: Order) -> Outcome<Receipt> {
    let reserved = ctx.map(&order.goods, 2, |good| ctx.step("reserve", move || shop.reserve(good)).retries(2)).await?;
    ctx.state().set("stage", "reserved").await?;
    let fine: bool = ctx.wait_for("approval").await?;
    ctx.sleep(Duration::from_secs(86_400)).await?;
    Ok(Receipt { text: format!("{} {fine}", reserved.join("")) })
}

/// Takes nothing but its input, which is no struct.
#[durable]
async fn double(_: &Context, number: u64) -> Outcome<u64> {
    number.checked_mul(2).ok_or_else(|| Error::terminal("it is too large"))
}

mod inner {
    use super::{Context, Outcome, durable};

    /// Made elsewhere.
    #[durable(name = "text.length", retries = 0)]
    pub(crate) async fn length(ctx: &Context, text: String) -> Outcome<Option<usize>> {
        ctx.step("count", || async { Ok(text.chars().count()) }).await.map(Some)
    }
}

fn order() -> Order {
    Order { goods: vec!["tea".into(), "milk".into(), "cup".into()] }
}

#[tokio::test(start_paused = true)]
async fn a_function_goes_on_where_it_was() {
    let shop = Arc::new(Shop::default());
    let run = testing::run(fulfil::with(shop.clone())).signal("approval", &true).call(&order()).await;
    assert_eq!(run.result::<Receipt>().text, "<tea><milk><cup> true");
    assert_eq!(run.field::<String>("stage").unwrap(), "reserved");
    assert_eq!((shop.reserved.load(Ordering::SeqCst), run.step("fulfil").attempts()), (3, 3));
    let setup = || testing::run(fulfil::with(Shop::default())).signal("approval", &true);
    testing::call_survives_every_crash(setup, &order()).await;
}

#[tokio::test(start_paused = true)]
async fn an_input_may_be_of_any_type_and_one_that_cannot_be_read_fails_the_run() {
    assert_eq!(testing::run(double::workflow()).call(&21).await.result::<u64>(), 42);
    let failed = testing::run(double::workflow()).call(&u64::MAX).await;
    assert_eq!((failed.status(), failed.step("double").attempts()), (Status::Failed, 1));
    let unread = testing::run(double::workflow()).call("two").await;
    assert!(unread.error().contains("the input"), "{unread}");
    let length = testing::run(inner::length::workflow()).call("äöü").await;
    assert_eq!(length.result::<Option<usize>>(), Some(3));
}

#[tokio::test]
async fn a_function_stays_a_function_and_its_workflow_is_what_it_says() {
    let definition = fulfil::definition();
    assert_eq!((definition.name, definition.version), ("fulfil", 2));
    assert_eq!(definition.timeout, Some(Duration::from_secs(60 * 86_400)));
    assert_eq!(definition.retention, Duration::from_secs(86_400));
    assert_eq!(inner::length::definition().name, "text.length");
    let as_it_is: fn(&'static Context, u64) -> _ = double;
    let _ = as_it_is;
    let worker = Worker::from_env().and_then(|worker| worker.serve(double::workflow()));
    assert!(worker.and_then(|worker| worker.serve(inner::length::workflow())).is_ok());
}

/// Writes the state between its calls.
#[durable(retries = 0)]
async fn stages(ctx: &Context, rounds: u64) -> Outcome<Vec<u64>> {
    let mut seen = Vec::new();
    for round in 0..rounds {
        let done: u64 = ctx.state().get("done").await?.unwrap_or(0);
        ctx.state().set("stage", &round).await?;
        if done.is_multiple_of(2) {
            ctx.step("even", async || Ok(done)).await?;
        }
        let (one, ()) = ctx
            .join((
                async {
                    let one = ctx.step("one", async || Ok(1)).await?;
                    ctx.state().incr("done", one).await?;
                    ctx.sleep(Duration::from_secs(60)).await?;
                    Ok(one)
                },
                async {
                    ctx.sleep(Duration::from_secs(30)).await?;
                    ctx.state().push("rounds", &round).await?;
                    ctx.checkpoint().await
                },
            ))
            .await?;
        seen.push(done + u64::try_from(one).unwrap_or_default());
    }
    Ok(seen)
}

#[tokio::test(start_paused = true)]
async fn the_state_is_committed_before_each_call_and_once() {
    let run = testing::call_survives_every_crash(|| testing::run(stages::workflow()), &3u64).await;
    assert_eq!(run.result::<Vec<u64>>(), [1, 2, 3]);
    let fields = (run.field::<u64>("done"), run.field::<u64>("stage"), run.field::<Vec<u64>>("rounds"));
    assert_eq!(fields, (Some(3), Some(2), Some(vec![0, 1, 2])));
}

/// The same, as an event-driven step that commits by itself.
struct Rounds;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize)]
struct Done {
    seen: Vec<u64>,
}

#[workflow(start = Asked, stop = Done)]
impl Rounds {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Done> {
        let mut seen = Vec::new();
        for _ in 0..3 {
            ctx.step("work", async || Ok(())).await?;
            seen.push(ctx.state().get("done").await?.unwrap_or(0));
            ctx.state().incr("done", 1).await?;
            ctx.checkpoint().await?;
        }
        Ok(Done { seen })
    }
}

#[tokio::test(start_paused = true)]
async fn calls_and_checkpoints_may_follow_each_other() {
    let run = testing::survives_every_crash(|| testing::run(Rounds), &Asked {}).await;
    assert_eq!((run.result::<Done>().seen, run.field::<u64>("done")), (vec![0, 1, 2], Some(3)));
}

/// As it was shipped first, and as it was changed: served under one version.
#[durable(name = "ship", retries = 0)]
async fn ship_first(ctx: &Context, (): ()) -> Outcome<String> {
    ctx.step("pack", async || Ok(())).await?;
    ctx.wait_for::<()>("go").await?;
    ctx.step("send", async || Ok("sent".to_owned())).await
}

#[durable(name = "ship", retries = 0)]
async fn ship_patched(ctx: &Context, (): ()) -> Outcome<String> {
    ctx.step("pack", async || Ok(())).await?;
    ctx.wait_for::<()>("go").await?;
    let weighed = if ctx.patched("weigh")? {
        ctx.step("weigh", async || Ok("weighed, ".to_owned())).await?
    } else {
        String::new()
    };
    ctx.step("send", async || Ok(format!("{weighed}sent"))).await
}

#[tokio::test(start_paused = true)]
async fn a_change_goes_the_new_way_wherever_the_worker_dies() {
    let patched = || testing::run(ship_patched::workflow()).signal("go", &());
    let run = testing::call_survives_every_crash(patched, &()).await;
    assert_eq!(run.result::<String>(), "weighed, sent");
    let first = testing::run(ship_first::workflow()).signal("go", &()).call(&()).await;
    assert_eq!(first.result::<String>(), "sent");
}

/// A month after the other, each with a journal of its own.
#[durable(retries = 0)]
async fn subscription(ctx: &Context, month: u32) -> Outcome<String> {
    let charged: u64 = ctx.step("charge", async || Ok(u64::from(month))).retries(1).await?;
    ctx.state().incr("charged", charged.cast_signed()).await?;
    ctx.sleep(Duration::from_secs(30 * 86_400)).await?;
    if month == 3 {
        return Ok(format!("charged {}", ctx.state().get::<u64>("charged").await?.unwrap_or(0)));
    }
    ctx.state().set("month", &month).await?;
    // Whatever is under way beside it is dropped.
    let next = month + 1;
    let on = ctx.continue_as_new::<_, String>(&next);
    let (on, ()) = ctx.join((on, ctx.sleep(Duration::from_secs(1)))).await?;
    unreachable!("it went on: {on}")
}

#[tokio::test(start_paused = true)]
async fn a_function_that_continues_as_new_has_its_state_and_a_journal_of_its_own() {
    let run = testing::call_survives_every_crash(|| testing::run(subscription::workflow()), &1).await;
    assert_eq!(run.result::<String>(), "charged 6");
    assert_eq!((run.step("subscription").executions(), run.field::<u32>("month")), (3, Some(2)));
    assert_eq!(run.time_skipped(), Duration::from_secs(90 * 86_400));
}

struct NoFunction;

#[workflow(start = Asked, stop = Done)]
impl NoFunction {
    #[step(retries = 0)]
    async fn go(&self, ctx: &Context, ev: Asked) -> Outcome<Done> {
        ctx.continue_as_new(&ev).await
    }
}

#[tokio::test]
async fn a_step_of_an_event_driven_workflow_cannot_continue_as_new() {
    let run = testing::run(NoFunction).start(&Asked {}).await;
    assert!(run.error().contains("only a durable function can continue as new"), "{run}");
}

#[task]
async fn doubled(ctx: &Context, n: u64) -> Outcome<u64> {
    if n == 13 {
        return Err(Error::terminal("not that one"));
    }
    ctx.step("double", || async { Ok(2 * n) }).await
}

#[durable]
async fn sum_of(ctx: &Context, numbers: Vec<u64>) -> Outcome<u64> {
    let doubled: Vec<u64> = ctx.map(numbers, 2, |n| async move { ctx.task::<doubled>(&n).await }).await?;
    Ok(doubled.iter().sum())
}

#[tokio::test]
async fn child_runs_are_executed_where_the_test_serves_their_workflow() {
    let run = || testing::run(sum_of::workflow()).serve(doubled::workflow());
    assert_eq!(run().call(&[1, 2, 3]).await.result::<u64>(), 12);
    let failed = run().call(&[1, 13]).await;
    failed.assert_status(Status::Failed);
    assert!(failed.error().contains("of doubled failed: not that one"), "{failed}");
    let alone = testing::run(sum_of::workflow()).call(&[1]).await;
    assert!(alone.error().contains("does not serve the workflow doubled; give it to the test kit"), "{alone}");
}

#[task]
async fn unbook(_: &Context, n: u64) -> Outcome<u64> {
    Ok(n)
}

#[durable(retries = 0)]
async fn book(ctx: &Context, fails: bool) -> Outcome<u64> {
    for n in 0..3u64 {
        ctx.compensate::<unbook>(&n).await?;
        ctx.step("book", || async { Ok(()) }).await?;
    }
    ctx.cleanup::<unbook>(&3).await?;
    if fails { Err(Error::terminal("sold out")) } else { Ok(7) }
}

#[tokio::test(start_paused = true)]
async fn compensations_are_carried_out_wherever_the_worker_dies() {
    for (fails, undone) in [(true, 4), (false, 1)] {
        let run = || testing::run(book::workflow()).serve(unbook::workflow());
        let run = testing::call_survives_every_crash(run, &fails).await;
        let ended = run.history().records().iter().filter(|record| record.kind == Kind::ChildEnded).count();
        assert_eq!(ended, undone, "{run}");
        run.assert_status(if fails { Status::Failed } else { Status::Completed });
    }
}

/// Waits three times; answers how often its body has begun.
#[durable]
async fn patient(ctx: &Context, begun: &AtomicU32, (): ()) -> Outcome<u32> {
    begun.fetch_add(1, Ordering::SeqCst);
    for _ in 0..3 {
        ctx.wait_for::<()>("go").await?;
    }
    Ok(begun.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_function_is_replayed_after_each_wait_unless_its_worker_is_told_to_keep_it() {
    let run = || {
        let run = testing::run(patient::with(AtomicU32::default())).workers(1);
        (0..3).fold(run, |run, _| run.signal("go", &()))
    };
    let kept = run().keeps(1).call(&()).await.result::<u32>();
    let replayed = run().call(&()).await.result::<u32>();
    assert_eq!((kept, replayed), (1, 4));
}
