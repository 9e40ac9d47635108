//! Runs of whole fleets that are exported and replayed, against the same code and against other code.

use std::future::{Ready, ready};
use std::process::Command;
use std::time::Duration;

use stepfleet::prelude::*;
use stepfleet::testing;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::found;
use stepfleet_shared::export::Export;

const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(60);

fn done(what: &str) -> Ready<Outcome<String>> {
    ready(Ok(what.to_owned()))
}

#[durable(retries = 0)]
async fn order(ctx: &Context, number: u64) -> Outcome<String> {
    let began: u64 = ctx.state().get("orders").await?.unwrap_or(0);
    ctx.state().set("orders", &(began + 1)).await?;
    let items = ctx.map(0..3u64, 3, |item| async move {
        ctx.step("reserve", || async move { done(&format!("{item}")).await }).await
    });
    let items = items.await?;
    ctx.step("charge", || done("charge")).retries(2).await?;
    let ok = ctx.wait_for_user(Approval::ask("Ship it?").named("ship")).await?;
    if number == 13 {
        return ctx.step("ship", || async { Err(Error::terminal("no such street")) }).retries(0).await;
    }
    ctx.step("ship", || done("ship")).await?;
    Ok(format!("{} {began} {}", items.concat(), ok.answer))
}

#[durable(name = "order", retries = 0)]
async fn changed(ctx: &Context, _number: u64) -> Outcome<String> {
    let items = ctx.map(0..3u64, 3, |item| async move {
        ctx.step("reserve", || async move { done(&format!("{item}")).await }).await
    });
    items.await?;
    ctx.step("refund", || done("refund")).await
}

/// The output of `stepfleet export`, or of the client.
async fn exported(stage: &Stage, run: &str) -> String {
    let ours = stage.client.run(run).export().await.unwrap().unwrap();
    let Some(redis) = &stage.redis else { return serde_json::to_string(&ours).unwrap() };
    let output = Command::new(STEPFLEET).args(["export", run]).env("STEPFLEET_REDIS", &redis.url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(Export::read(&text).unwrap(), ours);
    text
}

async fn goes_along(stage: &Stage, run: &str) {
    let text = exported(stage, run).await;
    let replay = testing::replay(order::workflow(), &text).await;
    replay.assert_along();
    assert!(replay.to_string().contains("replayed the whole journal"), "{replay}");
    let replay = testing::replay(changed::workflow(), &text).await;
    let told = "call #4 was `charge`, and the code now asks for `refund` (replay error 1)";
    assert!(replay.faults().len() == 1 && replay.faults()[0].contains(told), "{replay}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_exported_and_replayed_while_it_waits_after_it_failed_and_after_it_completed() {
    Both::new(|worker| worker.serve(order::workflow()))
        .play(async |stage| {
            for (id, number) in [("good", 7u64), ("bad", 13)] {
                let run = stage
                    .client
                    .start("order", &number)
                    .id(id)
                    .context(&serde_json::json!({ "orders": 4 }))
                    .enqueue()
                    .await
                    .unwrap();
                found(async || run.questions().await.unwrap().pop()).await;
                goes_along(stage, id).await;
                run.answer("ship", &true, None).await.unwrap().taken(LIMIT).await.unwrap();
                run.wait(LIMIT).await.unwrap();
                goes_along(stage, id).await;
            }
            let good: String = stage.client.run("good").result(LIMIT).await.unwrap();
            assert_eq!(good, "012 4 true", "nothing of it was changed");
        })
        .await;
}

/// One whose steps record nothing.
struct Plain;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize)]
struct Answered {}

#[workflow(start = Asked, stop = Answered)]
impl Plain {
    #[step]
    async fn answer(&self, _: Asked) -> Outcome<Answered> {
        Ok(Answered {})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_an_empty_or_unknown_run_says_so() {
    Both::new(|worker| worker.serve(Plain))
        .play_on_redis(async |stage| {
            let run = stage.client.start("plain", &Asked {}).id("r").enqueue().await.unwrap();
            run.wait(LIMIT).await.unwrap();
            let url = &stage.redis.as_ref().unwrap().url;
            for (run, why) in [("r", "has nothing recorded"), ("nothing", "nothing")] {
                let output =
                    Command::new(STEPFLEET).args(["export", run]).env("STEPFLEET_REDIS", url).output().unwrap();
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(!output.status.success() && told.contains(why) && output.stdout.is_empty(), "{told}");
            }
        })
        .await;
}
