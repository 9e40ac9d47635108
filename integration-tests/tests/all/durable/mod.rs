//! Durable functions on whole fleets.

mod killed;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::fleet::nothing_is_held;
use stepfleet_integration_tests::found;
use stepfleet_shared::history::Kind;

const LIMIT: Duration = Duration::from_secs(90);
const RUNS: usize = 6;

/// How often each call of each run did its work outside.
static DONE: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

fn does(run: &str, what: &str) -> u32 {
    let mut done = DONE.lock().unwrap();
    let times = done.entry(format!("{run} {what}")).or_default();
    *times += 1;
    *times
}

/// The work that was done since for the runs of this stage.
fn done(stage: &Stage, run: &str) -> BTreeMap<String, u32> {
    let prefix = format!("{} ", key(stage.redis.is_some(), run));
    let done = DONE.lock().unwrap();
    let of_run = done.iter().filter_map(|(key, times)| Some((key.strip_prefix(&prefix)?.to_owned(), *times)));
    of_run.collect()
}

fn key(on_redis: bool, run: &str) -> String {
    format!("{}{run}", if on_redis { "redis-" } else { "memory-" })
}

#[derive(Serialize, Deserialize)]
struct Input {
    on_redis: bool,
}

fn flaky(run: &str, what: &str, failures: u32) -> Outcome<u32> {
    let times = does(run, what);
    if times <= failures { Err(Error::msg(format!("{what} failed {times} times"))) } else { Ok(times) }
}

/// Everything that a body may call, in branches, with short retries in the worker and longer ones by a timer.
#[durable(retries = 0)]
async fn all_kinds(ctx: &Context, input: Input) -> Outcome<Vec<String>> {
    let run = &key(input.on_redis, ctx.run_id());
    let (began, id, dice) = ctx.join((ctx.now(), ctx.uuid(), ctx.random::<u64>())).await?;
    ctx.state().set("seen", &format!("{id} {dice}")).await?;
    let branch = |item: u32| async move {
        let what = format!("item {item}");
        // Half of the retries wait in the worker.
        let delay = Duration::from_millis(if item.is_multiple_of(2) { 20 } else { 1010 });
        let policy = RetryPolicy::fixed(delay).jitter(0.0).attempts(3);
        let tried = ctx.step("item", || async { flaky(run, &what, item % 3) }).retry(policy).await?;
        ctx.sleep(Duration::from_millis(50 * u64::from(item))).await?;
        ctx.step("item", || async { Ok(does(run, &format!("{what} again"))) }).await?;
        Ok(tried)
    };
    let tried = ctx.map(0..5, 3, branch).await?;
    let given_up = ctx.step("broken", || async { flaky(run, "broken", 99) }).retries(0).await.unwrap_err();
    let late = ctx.step("stuck", std::future::pending::<Outcome<()>>).timeout(Duration::from_millis(30)).retries(0);
    let late = late.await.unwrap_err();
    let won = ctx.race((
        async {
            ctx.sleep(Duration::from_secs(3600)).await?;
            Ok("slow")
        },
        async {
            ctx.sleep_until(began + Duration::from_millis(100)).await?;
            Ok("fast")
        },
    ));
    let won = won.await?;
    Ok(vec![format!("{id} {dice}"), format!("{tried:?}"), given_up.to_string(), late.to_string(), won.to_owned()])
}

#[tokio::test]
async fn everything_that_a_body_may_call_is_done_as_often_as_it_should() {
    let both = Both::new(|worker| worker.serve(all_kinds::workflow()));
    both.play(async |stage: &mut Stage| {
        let input = json!({ "on_redis": stage.redis.is_some() });
        let mut runs = Vec::new();
        for number in 0..RUNS {
            let start = stage.client.start("all_kinds", &input).id(format!("run-{number}"));
            runs.push(start.enqueue().await.unwrap());
        }
        for run in runs {
            let lines: Vec<String> = run.result(LIMIT).await.unwrap();
            let seen = stage.store.context(run.id()).await.unwrap().remove(0).1;
            let seen = String::from_utf8_lossy(&seen);
            assert!(seen.contains(&lines[0]), "the context has {seen}, and the result {}", lines[0]);
            let late = "the call stuck took longer than its timeout of 30ms";
            assert_eq!(lines[1..], ["[1, 2, 3, 1, 2]", "broken failed 1 times", late, "fast"]);
            let mut expected: BTreeMap<_, _> = (0..5).map(|item| (format!("item {item}"), item % 3 + 1)).collect();
            expected.extend((0..5).map(|item| (format!("item {item} again"), 1)));
            expected.insert("broken".into(), 1);
            assert_eq!(done(stage, run.id()), expected);
            let history = stage.store.history(run.id(), 0, 1000).await.unwrap();
            assert!(history.iter().all(|record| record.kind != Kind::Retry), "{history:?}");
            assert!(history.iter().any(|record| record.kind == Kind::Suspended), "{history:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_sleep_is_shown_as_one_and_takes_no_signal() {
    #[durable]
    async fn sleeper(ctx: &Context, (): ()) -> Outcome<String> {
        ctx.sleep(Duration::from_millis(1500)).await?;
        ctx.wait_for("(sleep)").await
    }
    let both = Both::new(|worker| worker.serve(sleeper::workflow()));
    both.play(async |stage: &mut Stage| {
        let run = stage.client.start("sleeper", &Value::Null).id("s").enqueue().await.unwrap();
        let wait = found(async || run.waits().await.unwrap().pop()).await;
        assert_eq!(wait.name, "(sleep)");
        // Neither name belongs to the sleep: both signals are kept.
        run.signal("%sleep.1", &"wrong").await.unwrap();
        run.signal("(sleep)", &"right").await.unwrap();
        assert_eq!(run.result::<String>(LIMIT).await.unwrap(), "right");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_function_is_seen_while_it_goes_on_and_is_written_once() {
    #[durable(name = "stages")]
    async fn stages(ctx: &Context, (): ()) -> Outcome<Vec<Option<String>>> {
        let before = ctx.state().get("stage").await?;
        ctx.step("look", async || Ok(())).await?;
        ctx.state().set("stage", "waiting").await?;
        ctx.state().incr("count", 1).await?;
        ctx.wait_for::<()>("go").await?;
        let after = ctx.state().get("stage").await?;
        ctx.state().set("stage", "done").await?;
        Ok(vec![before, after])
    }
    let both = Both::new(|worker| worker.serve(stages::workflow()));
    both.play(async |stage| {
        stage.client.start("stages", &()).id("r").enqueue().await.unwrap();
        found(async || (stage.store.waits("r").await.unwrap().len() == 1).then_some(())).await;
        let field = async |name| stage.client.run("r").snapshot().await.unwrap().unwrap().context.get(name).cloned();
        assert_eq!((field("stage").await, field("count").await), (Some(json!("waiting")), Some(json!(1))));
        stage.client.run("r").signal("go", &()).await.unwrap();
        let seen: Vec<Option<String>> = stage.client.run("r").result(LIMIT).await.unwrap();
        assert_eq!(seen, [None, Some("waiting".to_owned())], "the later attempt sees what the first one saw");
        assert_eq!((field("stage").await, field("count").await), (Some(json!("done")), Some(json!(1))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_with_very_many_calls_goes_on_with_another_worker() {
    const CALLS: u32 = 20_000;
    #[durable(name = "long", retries = 0)]
    async fn long(ctx: &Context, on_redis: bool) -> Outcome<u64> {
        let run = &key(on_redis, ctx.run_id());
        let mut sum = 0;
        for number in 0..CALLS {
            let work = async || {
                does(run, "call");
                Ok(u64::from(number))
            };
            sum += ctx.step("call", work).await?;
        }
        ctx.wait_for::<()>("go").await?;
        Ok(sum)
    }
    let both = Both::new(|worker| worker.serve(long::workflow()));
    both.play(async |stage| {
        let on_redis = stage.redis.is_some();
        stage.client.start("long", &on_redis).id("many").enqueue().await.unwrap();
        found(async || (stage.store.waits("many").await.unwrap().len() == 1).then_some(())).await;
        stage.stop_workers().await;
        stage.client.run("many").signal("go", &()).await.unwrap();
        stage.add_worker();
        let sum: u64 = stage.client.run("many").result(LIMIT).await.unwrap();
        assert_eq!(sum, u64::from(CALLS) * u64::from(CALLS - 1) / 2);
        assert_eq!(done(stage, "many").get("call"), Some(&CALLS), "each was made once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_runs_that_wait_hold_no_worker_and_all_go_on() {
    #[durable(name = "patient")]
    async fn patient(ctx: &Context, number: u64) -> Outcome<u64> {
        let word: u64 = ctx.wait_for("word").await?;
        Ok(number + word)
    }
    let both = Both::new(|worker| worker.serve(patient::workflow()));
    both.play(async |stage| {
        let id = |number: u64| format!("p-{number}");
        for number in 0..1000 {
            stage.client.start("patient", &number).id(id(number)).enqueue().await.unwrap();
        }
        let suspended = async || {
            let mut count = 0;
            for number in 0..1000 {
                count += stage.store.waits(&id(number)).await.unwrap().len();
            }
            (count == 1000).then_some(())
        };
        found(suspended).await;
        nothing_is_held(&*stage.store).await;
        for number in 0..1000 {
            stage.client.run(id(number)).signal("word", &(number * 1000)).await.unwrap();
        }
        for number in 0..1000 {
            assert_eq!(stage.client.run(id(number)).result::<u64>(LIMIT).await.unwrap(), number * 1001);
        }
    })
    .await;
}
