//! Runs whose journals are replayed against the code that made them, and against other code.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use stepfleet::prelude::*;
use stepfleet::testing::{self, Replay};

/// Counts what is done.
#[derive(Default)]
struct Shop(AtomicU32);

impl Shop {
    fn does(&self, what: &str) -> Ready<Outcome<String>> {
        self.0.fetch_add(1, SeqCst);
        ready(Ok(what.to_owned()))
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Progress {
    done: u32,
}

/// Calls of all kinds, a delay that has a timer, and a wait.
#[durable]
async fn fulfil(ctx: &Context, shop: &Shop, order: u32) -> Outcome<String> {
    let began = ctx.now().await?;
    ctx.state().set("stage", "begun").await?;
    let sizes = ctx.map(0..3u32, 2, |item| async move {
        ctx.step("reserve", || async move { shop.does(&format!("{item}")).await }).await
    });
    let (sizes, id) = ctx.join((sizes, ctx.uuid())).await?;
    ctx.publish(&Progress { done: 1 }).await?;
    let mut out = ctx.stream("notes");
    out.push("reserved").await?;
    let tried = ctx.step("charge", || async {
        let times = shop.0.load(SeqCst);
        shop.does("charge").await?;
        if times < 5 { Err(Error::msg("declined")) } else { Ok(times) }
    });
    tried.retry(RetryPolicy::fixed(Duration::from_secs(60)).attempts(9)).await?;
    let won = ctx.race((async { ctx.wait_for::<String>("cancelled").await }, async {
        ctx.sleep_until(began + Duration::from_secs(3600)).await.map(|()| "in time".to_owned())
    }));
    let won = won.await?;
    let stage: Option<String> = ctx.state().get("stage").await?;
    assert_eq!(stage.as_deref(), Some("begun"), "as the first attempt saw it");
    ctx.state().set("stage", "done").await?;
    let ok: bool = ctx.wait_for("delivered").await?;
    ctx.step("ship", || shop.does("ship")).await?;
    Ok(format!("{order} {sizes:?} {won} {ok} {}", id.len()))
}

async fn run(shop: Arc<Shop>, is_delivered: bool) -> testing::TestRun {
    let run = testing::run(fulfil::with(shop));
    if is_delivered { run.signal("delivered", &true) } else { run }.call(&7).await
}

#[tokio::test(start_paused = true)]
async fn the_same_code_goes_along_and_does_nothing() {
    for is_delivered in [false, true] {
        let run = run(Arc::default(), is_delivered).await;
        let shop = Arc::new(Shop::default());
        let replay = testing::replay(fulfil::with(shop.clone()), &run.exported()).await;
        replay.assert_along();
        assert!(replay.to_string().contains("replayed the whole journal"), "{replay}");
        assert_eq!(shop.0.load(SeqCst), 0, "nothing is done");
    }
}

/// The one fault of a replay.
fn fault(replay: &Replay) -> &str {
    let faults = replay.faults();
    assert_eq!(faults.len(), 1, "{replay}");
    faults[0]
}

async fn work() -> Outcome<u32> {
    Ok(1)
}

#[durable]
async fn old(ctx: &Context, id: u32) -> Outcome<u32> {
    ctx.step("reserve", work).await?;
    ctx.step("charge", work).await?;
    let third = ctx.step("ship", work).await?;
    ctx.wait_for::<()>("delivered").await?;
    ctx.step("thank", work).await?;
    Ok(id + third)
}

#[durable(name = "old")]
async fn renamed(ctx: &Context, id: u32) -> Outcome<u32> {
    ctx.step("reserve", work).await?;
    ctx.step("refund", work).await?;
    Ok(id)
}

#[durable(name = "old")]
async fn shorter(ctx: &Context, id: u32) -> Outcome<u32> {
    ctx.step("reserve", work).await?;
    ctx.step("charge", work).await?;
    Ok(id)
}

#[durable(name = "old")]
async fn inserted(ctx: &Context, id: u32) -> Outcome<u32> {
    ctx.step("reserve", work).await?;
    ctx.step("weigh", work).await?;
    ctx.step("charge", work).await?;
    Ok(id)
}

#[durable(name = "old")]
async fn patched(ctx: &Context, id: u32) -> Outcome<u32> {
    ctx.step("reserve", work).await?;
    if ctx.patched("weigh")? {
        ctx.step("weigh", work).await?;
    }
    ctx.step("charge", work).await?;
    ctx.step("ship", work).await?;
    if ctx.patched("insure")? {
        ctx.step("insure", work).await?;
    }
    ctx.wait_for::<()>("delivered").await?;
    Ok(id)
}

#[durable(name = "old")]
async fn waits(ctx: &Context, id: u32) -> Outcome<u32> {
    ctx.step("reserve", work).await?;
    ctx.wait_for::<()>("approved").await?;
    Ok(id)
}

#[durable(name = "old")]
async fn retyped(ctx: &Context, id: u32) -> Outcome<u32> {
    ctx.step("reserve", || async { Ok("one".to_owned()) }).await?;
    Ok(id)
}

#[durable(name = "old")]
async fn swallows(ctx: &Context, id: u32) -> Outcome<u32> {
    ctx.step("reserve", work).await?;
    let _ = ctx.step("refund", work).await;
    ctx.step("ship", work).await?;
    Ok(id)
}

#[durable(name = "old")]
async fn fails(ctx: &Context, id: u32) -> Outcome<u32> {
    ctx.step("reserve", work).await?;
    Err::<(), _>(Error::msg("no such order"))?;
    Ok(id)
}

static EXTRA: AtomicU32 = AtomicU32::new(0);

#[durable(name = "old")]
async fn longer(ctx: &Context, id: u32) -> Outcome<u32> {
    for name in ["reserve", "charge", "ship"] {
        ctx.step(name, work).await?;
    }
    ctx.state().set("stage", "shipped").await?;
    let extra = async || {
        EXTRA.fetch_add(1, SeqCst);
        Ok(())
    };
    let (first, second) = tokio::join!(ctx.step("insure", extra).retries(1), ctx.step("weigh", extra));
    first.and(second)?;
    Ok(id)
}

#[tokio::test(start_paused = true)]
async fn what_lies_beyond_the_journal_is_not_done() {
    let exported = testing::run(old::workflow()).call(&1).await.exported();
    let replay = testing::replay(longer::workflow(), &exported).await;
    replay.assert_along();
    assert!(replay.to_string().contains("3 entries, 5 calls"), "{replay}");
    assert_eq!(EXTRA.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn other_code_is_told_both_sides() {
    let exported = testing::run(old::workflow()).call(&1).await.exported();
    testing::replay(old::workflow(), &exported).await.assert_along();
    testing::replay(patched::workflow(), &exported).await.assert_along();
    for (replay, told) in [
        (
            testing::replay(renamed::workflow(), &exported).await,
            "call #2 was `charge`, and the code now asks for `refund` (replay error 1)",
        ),
        (
            testing::replay(swallows::workflow(), &exported).await,
            "call #2 was `charge`, and the code now asks for `refund` (replay error 1)",
        ),
        (
            testing::replay(inserted::workflow(), &exported).await,
            "call #2 was `charge`, and the code now asks for `weigh` (replay error 1)",
        ),
        (testing::replay(waits::workflow(), &exported).await, "now asks for the wait for `approved` (replay error 1)"),
        (
            testing::replay(shorter::workflow(), &exported).await,
            "call #3 was `ship`, and the code now returns before it (replay error 6)",
        ),
        (
            testing::replay(fails::workflow(), &exported).await,
            "call #2 was `charge`, and the code now fails before it: no such order",
        ),
        (testing::replay(retyped::workflow(), &exported).await, "the value of the call reserve"),
    ] {
        assert!(fault(&replay).contains(told), "{told}: {replay}");
        assert!(std::panic::catch_unwind(|| replay.assert_along()).is_err());
    }
    let ended = testing::run(old::workflow()).signal("delivered", &()).call(&1).await.exported();
    testing::replay(old::workflow(), &ended).await.assert_along();
    let replay = testing::replay(patched::workflow(), &ended).await;
    assert!(fault(&replay).contains("call #5 was `thank`, and the code now returns before it"), "{replay}");
}

#[durable(name = "old")]
async fn retyped_input(_ctx: &Context, id: String) -> Outcome<String> {
    Ok(id)
}

#[durable(name = "stuck", retries = 0)]
async fn stuck(ctx: &Context, (): ()) -> Outcome<()> {
    ctx.step("reserve", work).await?;
    ctx.step("charge", || async { Err::<(), _>(Error::terminal("no money")) }).retries(2).await
}

#[durable(name = "stuck", retries = 0)]
async fn stuck_no_more(ctx: &Context, (): ()) -> Outcome<()> {
    ctx.step("reserve", work).await?;
    ctx.step("ask", || async { Ok(()) }).await
}

#[tokio::test(start_paused = true)]
async fn a_run_that_failed_and_an_input_of_another_type_are_replayed() {
    let exported = testing::run(old::workflow()).call(&1).await.exported();
    let replay = testing::replay(retyped_input::workflow(), &exported).await;
    assert!(fault(&replay).contains("call #1 was `reserve`, and the code now fails before it: the input"), "{replay}");
    let failed = testing::run(stuck::workflow()).call(&()).await;
    failed.assert_status(testing::Status::Failed);
    testing::replay(stuck::workflow(), &failed.exported()).await.assert_along();
    let replay = testing::replay(stuck_no_more::workflow(), &failed.exported()).await;
    assert!(fault(&replay).contains("call #2 was `charge`, and the code now asks for `ask`"), "{replay}");
}

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    n: u32,
}

#[derive(Event, Serialize, Deserialize)]
struct Part {
    n: u32,
}

#[derive(Event, Serialize, Deserialize)]
struct Weighed {
    n: u32,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    n: u32,
}

/// Event-driven: a step that joins, records and waits.
struct Weigh {
    is_changed: bool,
}

#[workflow(start = Asked, stop = Answered)]
impl Weigh {
    #[step]
    async fn split(&self, ctx: &Context, ev: Asked) -> Outcome<Vec<Part>> {
        ctx.state().set("asked", &ev.n).await?;
        Ok((0..ev.n).map(|n| Part { n }).collect())
    }

    #[step]
    async fn weigh(&self, ev: Part) -> Outcome<Weighed> {
        Ok(Weighed { n: ev.n })
    }

    #[step]
    async fn total(&self, ctx: &Context, all: Joined<Weighed>) -> Outcome<Answered> {
        let sum: u32 = all.iter().map(|weighed| weighed.n).sum();
        let asked: Option<u32> = ctx.state().get("asked").await?;
        assert_eq!((sum, asked), (3, Some(3)), "it is given what it was given");
        let name = if self.is_changed { "sum" } else { "add" };
        ctx.step(name, || async { Ok(sum) }).await?;
        ctx.wait_for::<()>("go").await?;
        Ok(Answered { n: sum })
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_of_an_event_driven_workflow_is_replayed_as_well() {
    let run = testing::run(Weigh { is_changed: false }).start(&Asked { n: 3 }).await;
    let replay = testing::replay(Weigh { is_changed: false }, &run.exported()).await;
    replay.assert_along();
    assert!(replay.to_string().contains("#5 total replayed the whole journal: 1 entries, 2 calls"), "{replay}");
    let replay = testing::replay(Weigh { is_changed: true }, &run.exported()).await;
    assert!(
        fault(&replay)
            .contains("step total of workflow weigh version 1: call #1 was `add`, and the code now asks for `sum`"),
        "{replay}"
    );
    let ended = testing::run(Weigh { is_changed: false }).signal("go", &()).start(&Asked { n: 3 }).await;
    let replay = testing::replay(Weigh { is_changed: false }, &ended.exported()).await;
    assert!(replay.faults().is_empty());
    assert!(std::panic::catch_unwind(|| replay.assert_along()).is_err(), "there is nothing to replay");
}

#[durable(name = "keyed")]
async fn keyed(ctx: &Context, orders: Vec<u64>) -> Outcome<u64> {
    let mut sum = 0;
    for order in orders {
        sum += ctx.step("charge", || async { Ok(order) }).key(order).await?;
    }
    ctx.wait_for::<()>("go").await?;
    Ok(sum)
}

#[durable(name = "keyed")]
async fn backwards(ctx: &Context, orders: Vec<u64>) -> Outcome<u64> {
    let mut sum = 0;
    for order in orders.into_iter().rev() {
        sum += ctx.step("charge", || async { Ok(order) }).key(order).await?;
    }
    Ok(sum)
}

#[tokio::test(start_paused = true)]
async fn a_call_about_something_else_is_told_by_its_key() {
    let done = testing::run(keyed::workflow()).signal("go", &()).call(&[7, 8]).await;
    assert_eq!(done.result::<u64>(), 15);
    let exported = testing::run(keyed::workflow()).call(&[7, 8]).await.exported();
    testing::replay(keyed::workflow(), &exported).await.assert_along();
    let other = testing::replay(backwards::workflow(), &exported).await.to_string();
    assert!(other.contains("call #1 was `charge 7`, and the code now asks for `charge 8`"), "{other}");
}
