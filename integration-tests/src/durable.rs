//! Durable functions under test, whose work happens outside of Stepfleet.

use std::collections::BTreeMap;
use std::time::Duration;

use stepfleet::prelude::*;

use crate::signals;
use crate::workflows::Levers;

/// How often the function's hopeless call is tried.
pub const TRIES: u32 = 4;
/// Between two of these tries: it has a timer.
pub const DELAY: Duration = Duration::from_millis(1200);

/// Does the work outside once more; returns how often it was done so far.
async fn does(redis: &Levers, run: &str, what: &str) -> Outcome<u32> {
    let mut connection = redis.connection().await?;
    Ok(redis::cmd("INCR").arg(format!("done:{run}:{what}")).query_async(&mut connection).await?)
}

/// Two calls with a gate between them, one that is given up, and a sleep of this many ms. Returns the recorded id, the error of
/// the call that is given up, and whether it slept long enough.
#[durable(retries = 0)]
pub async fn steady(ctx: &Context, redis: &Levers, ms: u64) -> Outcome<(String, String, bool)> {
    let run = ctx.run_id();
    let id = ctx.uuid().await?;
    ctx.step("first", || does(redis, run, "first")).await?;
    signals::arrive_and_wait(&mut redis.connection().await?, run).await?;
    ctx.step("second", || does(redis, run, "second")).await?;
    let hopeless = ctx.step("hopeless", || async {
        let times = does(redis, run, "hopeless").await?;
        Err::<(), _>(Error::msg(format!("it failed {times} times")))
    });
    let error = hopeless.retry(RetryPolicy::fixed(DELAY).attempts(TRIES).jitter(0.0)).await.unwrap_err();
    let began = ctx.now().await?;
    ctx.sleep(Duration::from_millis(ms)).await?;
    let slept = ctx.now().await?.duration_since(began).is_ok_and(|slept| slept >= Duration::from_millis(ms));
    ctx.step("last", || does(redis, run, "last")).await?;
    Ok((id, error.to_string(), slept))
}

/// What the runs of a talk share.
#[derive(Default, Serialize, Deserialize)]
pub struct Talk {
    /// What was said, in order.
    pub said: Vec<String>,
}

/// Says something in a talk, in two calls with a pause between; returns how much was said so far.
#[durable]
pub async fn talk(ctx: &Context<Talk>, text: String) -> Outcome<usize> {
    let said = ctx.step("hear", || async { Ok(text.clone()) }).await?;
    ctx.sleep(Duration::from_millis(5)).await?;
    if said == "nonsense" {
        ctx.state().push("said", &said).await?;
        ctx.checkpoint().await?;
        return Err(Error::terminal("it makes no sense"));
    }
    ctx.state().push("said", &said).await?;
    Ok(ctx.state().load().await?.said.len())
}

/// What the runs of a session keep to themselves.
#[derive(Default, Serialize, Deserialize)]
pub struct Diary {
    /// In order.
    secrets: Vec<String>,
    by_day: BTreeMap<String, String>,
    last: Option<String>,
    count: i64,
}

/// Passes a secret through everything that is stored: a recorded call, the state in all its forms, a wait, the result.
#[durable]
pub async fn confide(ctx: &Context<Diary>, secret: String) -> Outcome<Vec<String>> {
    let heard = ctx.step("hear", || async { Ok(secret.clone()) }).await?;
    ctx.state().push("secrets", &heard).await?;
    ctx.state().incr("count", 1).await?;
    ctx.sleep(Duration::from_millis(5)).await?;
    ctx.state().insert("by_day", "today", &heard).await?;
    ctx.state().set("last", &Some(heard.clone())).await?;
    ctx.publish(&Said { text: heard }).await?;
    let diary = ctx.state().load().await?;
    let count = i64::try_from(diary.secrets.len()).unwrap_or_default();
    if diary.count != count || diary.last.as_ref() != diary.by_day.get("today") {
        return Err(Error::terminal("the diary was not read as it was written"));
    }
    Ok(diary.secrets)
}

/// Published by [`confide()`].
#[derive(Event, Serialize, Deserialize)]
pub struct Said {
    text: String,
}

/// A number that many change.
#[derive(Default, Serialize, Deserialize)]
pub struct Counter {
    /// The number.
    pub count: u64,
    /// Who has changed it, in order.
    pub by: Vec<String>,
}

impl Entity for Counter {
    const NAME: &'static str = "Counter";
}

/// Increases the entity in one call, and in three branches at once; returns the highest number that it got.
#[durable]
pub async fn count(ctx: &Context, key: String) -> Outcome<u64> {
    let counter = ctx.entity::<Counter>(key);
    let run = ctx.run_id().to_owned();
    let next = |counter: &mut Counter| {
        counter.count += 1;
        counter.by.push(run.clone());
        counter.count
    };
    let first = counter.call("count", next).await?;
    ctx.sleep(Duration::from_millis(5)).await?;
    let branches = (counter.call("count", next), counter.call("count", next), counter.call("count", next));
    let (a, b, c) = ctx.join(branches).await?;
    Ok(first.max(a).max(b).max(c))
}

/// How a story is told.
#[derive(Serialize, Deserialize)]
pub struct Tale {
    wavers: bool,
}

/// Streams a story within a recorded call, with a gate in its middle. If it wavers, it says something else the second time.
#[durable]
pub async fn telling(ctx: &Context, redis: &Levers, tale: Tale) -> Outcome<String> {
    let run = ctx.run_id();
    ctx.step("tell", || async {
        let place = if tale.wavers && does(redis, run, "tell").await? > 1 { "hill " } else { "time " };
        let (mut out, mut told) = (ctx.stream("story"), String::new());
        for word in ["Once ", "upon ", "a ", place] {
            out.push(word).await?;
            told += word;
        }
        signals::arrive_and_wait(&mut redis.connection().await?, run).await?;
        for word in ["there ", "was ", "an ", "otter."] {
            out.push(word).await?;
            told += word;
        }
        Ok(told)
    })
    .await
}

/// What a run with children is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Household {
    /// How many children it has, all at once.
    pub members: u64,
    /// Whether each waits for the signal `go`.
    #[serde(default)]
    pub waits: bool,
}

/// Has children; returns the sum of their results, the numbers from 1.
#[durable]
pub async fn family(ctx: &Context, household: Household) -> Outcome<u64> {
    let Household { members, waits } = household;
    let child = |n: u64| ctx.run_workflow::<u64, _>("member", &(n, waits));
    let numbers = ctx.map(1..=members, usize::MAX, child).await?;
    Ok(numbers.into_iter().sum())
}

/// A child of `family`.
#[durable]
pub async fn member(ctx: &Context, input: (u64, bool)) -> Outcome<u64> {
    let (n, waits) = input;
    if waits {
        let _: String = ctx.wait_for("go").await?;
    }
    ctx.step("work", || async { Ok(n) }).await
}
