//! Bodies of durable functions that await what is not the SDK's, and bodies that only look as if they did.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use stepfleet::prelude::*;
use stepfleet::testing::{self, Status, TestRun};
use tokio::sync::{mpsc, oneshot};

const MOMENT: Duration = Duration::from_millis(3);

async fn work(n: u32) -> Outcome<u32> {
    // Work may await anything.
    tokio::time::sleep(MOMENT).await;
    tokio::spawn(async move { n }).await.map_err(Error::msg)
}

#[durable(retries = 0)]
async fn sleeps(ctx: &Context, is_first: bool) -> Outcome<()> {
    if !is_first {
        ctx.step("charge", || work(1)).await?;
        ctx.state().set("stage", "charged").await?;
    }
    tokio::time::sleep(MOMENT).await;
    ctx.step("ship", || work(2)).await.map(drop)
}

#[durable(retries = 0)]
async fn spawns(ctx: &Context, (): ()) -> Outcome<u32> {
    let mine = ctx.step("charge", || work(1));
    // Beside a call it may be one of its branches; alone it is not.
    let (mine, other) = tokio::join!(mine, tokio::spawn(tokio::time::sleep(Duration::from_secs(2))));
    other.map_err(Error::msg)?;
    mine
}

#[durable(retries = 0)]
async fn hangs(_ctx: &Context, (): ()) -> Outcome<()> {
    std::future::pending().await
}

fn refused(run: &TestRun, told: &str) {
    run.assert_status(Status::Failed);
    assert!(run.error().contains("awaits a future that is not Stepfleet's") && run.error().contains(told), "{run}");
    assert!(run.error().contains("Put it into ctx.step"), "{run}");
    assert_eq!(run.attempts(), 1, "it is not tried again");
}

#[tokio::test]
async fn a_body_that_awaits_something_else_fails_and_says_after_which_call() {
    refused(&testing::run(sleeps::workflow()).call(&true).await, "before its first recorded call");
    refused(&testing::run(sleeps::workflow()).call(&false).await, "workflow sleeps version 1 awaits");
    refused(&testing::run(sleeps::workflow()).call(&false).await, "after call #1, `charge`");
    refused(&testing::run(spawns::workflow()).call(&()).await, "after call #1, `charge`");
    refused(&testing::run(hangs::workflow()).call(&()).await, "before its first recorded call");
}

#[tokio::test]
async fn so_does_a_replay() {
    let exported = testing::run(fine::workflow()).call(&3).await.exported();
    testing::replay(fine::workflow(), &exported).await.assert_along();
    let replay = testing::replay(no_more::workflow(), &exported).await;
    assert!(replay.faults()[0].contains("awaits a future that is not Stepfleet's"), "{replay}");
}

#[durable(name = "fine")]
async fn no_more(_ctx: &Context, _: u32) -> Outcome<u32> {
    tokio::time::sleep(MOMENT).await;
    Ok(1)
}

/// All that looks as if it awaited something else.
#[durable(retries = 0)]
async fn fine(ctx: &Context, n: u32) -> Outcome<u32> {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let (a, b) = tokio::join!(ctx.step("a", || work(1)), ctx.step("b", || work(2)));
    let mut sum = a? + b?;
    sum += tokio::select! {
        biased;
        c = ctx.step("c", || work(3)) => c?,
        () = async { ctx.sleep(Duration::from_secs(3600)).await.unwrap() } => 0,
    };
    // Whoever is not woken is not polled.
    let mut all: FuturesUnordered<_> = (0..n).map(|item| ctx.step("item", move || work(item))).collect();
    while let Some(item) = all.next().await {
        sum += item?;
        tokio::task::yield_now().await;
    }
    // Two branches, of which one waits for the other.
    let (tell, told) = oneshot::channel();
    let first = async {
        let value = ctx.step("tell", || work(5)).await?;
        let _ = tell.send(value);
        Ok::<_, Error>(())
    };
    let second = async { told.await.map_err(Error::msg) };
    let (first, second) = tokio::join!(first, second);
    first?;
    sum += second?;
    // More than a task may do in one go.
    let (tell, mut told) = mpsc::unbounded_channel();
    for one in 0..2000u32 {
        tell.send(one).map_err(Error::msg)?;
    }
    drop(tell);
    while told.recv().await.is_some() {}
    let mut out = ctx.stream("thoughts");
    for _ in 0..100 {
        out.push(&"x".repeat(5000)).await?;
    }
    out.finish().await?;
    ctx.state().set("sum", &sum).await?;
    ctx.checkpoint().await?;
    let tried = ctx.step("fails", || async { Err::<u32, _>(Error::msg("no")) });
    tried.retry(RetryPolicy::fixed(Duration::from_millis(5)).attempts(3).jitter(0.0)).await.unwrap_err();
    ctx.race((ctx.sleep(Duration::from_secs(60)), ctx.sleep(Duration::from_secs(90)))).await?;
    Ok(sum)
}

#[tokio::test]
async fn bodies_that_await_their_calls_alone_are_left_alone() {
    for _ in 0..20 {
        let run = testing::run(fine::workflow()).call(&4).await;
        assert_eq!(run.result::<u32>(), 1 + 2 + 3 + 6 + 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn also_on_several_threads() {
    let runs = (0..50).map(|_| tokio::spawn(async { testing::run(fine::workflow()).call(&4).await.result::<u32>() }));
    for run in futures_util::future::join_all(runs).await {
        assert_eq!(run.unwrap(), 17);
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize)]
struct Answered {}

struct Events;

#[workflow(start = Asked, stop = Answered)]
impl Events {
    #[step]
    async fn answer(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        tokio::time::sleep(MOMENT).await;
        ctx.step("look", || work(1)).await?;
        tokio::time::sleep(MOMENT).await;
        Ok(Answered {})
    }
}

#[task]
async fn prints(_ctx: &Context, n: u32) -> Outcome<u32> {
    work(n).await
}

#[tokio::test]
async fn a_step_of_an_event_driven_workflow_and_a_task_may_await_anything() {
    testing::run(Events).start(&Asked {}).await.assert_status(Status::Completed);
    assert_eq!(testing::run(prints::workflow()).call(&3).await.result::<u32>(), 3);
}
