//! A body that runs again is given what its calls came to in the order in which it was given it before, wherever its
//! worker died.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{self, BoxFuture, Either};
use futures_util::stream::{FuturesUnordered, StreamExt};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use stepfleet::prelude::*;
use stepfleet::testing;
use tokio::time::Instant;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Told {
    lines: Vec<String>,
}

/// Asks two shops for a quote, and reserves at each as soon as it has answered.
struct Quotes;

#[workflow(start = Asked, stop = Told)]
impl Quotes {
    #[step]
    async fn compare(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let quote = |shop: &'static str, ms| {
            ctx.step("quote", move || async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(shop.to_owned())
            })
        };
        let mut quotes: FuturesUnordered<_> = [quote("slow", 400), quote("fast", 5)].into_iter().collect();
        let mut lines = Vec::new();
        while let Some(shop) = quotes.next().await {
            let shop = shop?;
            let ticket = ctx.step("reserve", || future::ready(Ok(format!("ticket of {shop}")))).await?;
            lines.push(format!("{shop}: {ticket}"));
        }
        ctx.wait_for::<()>("go").await?;
        Ok(Told { lines })
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_ended_first_comes_first_after_a_wait_and_after_each_crash() {
    let quotes = || testing::run(Quotes).signal("go", &());
    let run = testing::survives_every_crash(quotes, &Asked {}).await;
    assert_eq!(run.result::<Told>().lines, ["fast: ticket of fast", "slow: ticket of slow"]);
}

/// A part of a body. Each call takes so many ms from when what it follows had ended, on a clock that goes on over a crash.
#[derive(Clone, Debug)]
enum Part {
    Call(u64),
    /// Fails each time, so often: is given up on.
    Hopeless(u32, u64),
    Wait,
    /// A child run, which ends when the body rests.
    Child,
    /// Registers what is to be done at the end.
    Cleanup,
    /// Counts in the state, and commits that or not.
    Count(bool),
    /// Until a timer fires, whose clock goes on when nothing else is left to do.
    Sleep(u64),
    Seq(Vec<Part>),
    Join(Vec<Part>),
    /// The first one counts, and the others are dropped.
    Race(Vec<Part>),
    /// After each one another call.
    Unordered(Vec<(Part, u64)>),
    /// The first of two, then another call, and then the one that was kept.
    Keep(Box<(Part, Part)>, u64),
    /// So many at a time.
    Buffered(usize, Vec<Part>),
}

/// `most`: how long at most the body awaits a call without polling others, which then end unseen. `kin`: whether it has child runs, whose
/// ends come in an order of chance where there are several.
fn parts(most: u64, kin: bool) -> impl Strategy<Value = Part> {
    let (ms, alone) = (|| 1..1_000_000u64, move || 0..=most);
    let leaf = prop_oneof![
        6 => ms().prop_map(Part::Call),
        2 => (1..4u32, ms()).prop_map(|(tries, ms)| Part::Hopeless(tries, ms)),
        1 => Just(Part::Wait),
        1 => Just(if kin { Part::Child } else { Part::Wait }),
        1 => Just(if kin { Part::Cleanup } else { Part::Wait }),
        2 => any::<bool>().prop_map(Part::Count),
        1 => ms().prop_map(Part::Sleep),
    ];
    leaf.prop_recursive(3, 16, 4, move |part| {
        let list = || prop::collection::vec(part.clone(), 1..4);
        prop_oneof![
            list().prop_map(Part::Seq),
            list().prop_map(Part::Join),
            list().prop_map(Part::Race),
            prop::collection::vec((part.clone(), alone()), 1..4).prop_map(Part::Unordered),
            (part.clone(), part.clone(), alone()).prop_map(|(one, other, ms)| Part::Keep(Box::new((one, other)), ms)),
            (1..3usize, list()).prop_map(|(width, parts)| Part::Buffered(width, parts)),
        ]
    })
}

#[task]
async fn echo(ctx: &Context, path: String) -> Outcome<String> {
    ctx.step("echo", async || Ok(path.clone())).await
}

/// Does what its plan says, and tells what it has seen.
struct Planned {
    plan: Arc<Part>,
    began: Instant,
    /// When calls end, and which.
    ends: Ends,
    /// Whether the order of its calls is a part of the result.
    tells: bool,
}

type Ends = Arc<Mutex<BTreeMap<u64, BTreeSet<String>>>>;

#[workflow(start = Asked, stop = Told)]
impl Planned {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        self.tell(ctx).await
    }
}

/// The same, which goes on in memory where its worker lives.
#[durable]
async fn planned(ctx: &Context, planned: &Planned, _: Asked) -> Outcome<Told> {
    planned.tell(ctx).await
}

impl Planned {
    async fn tell(&self, ctx: &Context) -> Outcome<Told> {
        let trace = Mutex::default();
        // A checkpoint before all calls is where the next attempt begins.
        ctx.step("begin", async || Ok(())).await?;
        self.play(ctx, &trace, &self.plan, "0".into(), 0).await;
        // All that was recorded is replayed once more.
        ctx.wait_for::<()>("end").await?;
        let counted = ctx.state().get::<u64>("count").await?.unwrap_or(0);
        let seen = trace.lock().unwrap().iter().filter(|line| line.ends_with('#')).count();
        assert_eq!(counted, seen as u64, "each is counted once");
        Ok(Told { lines: if self.tells { trace.into_inner().unwrap() } else { Vec::new() } })
    }

    /// Answers when it has ended, in ms.
    fn play<'a>(
        &'a self,
        ctx: &'a Context,
        trace: &'a Mutex<Vec<String>>,
        part: &'a Part,
        path: String,
        at: u64,
    ) -> BoxFuture<'a, u64> {
        Box::pin(async move {
            let inner =
                |number: usize, part: &'a Part, at: u64| self.play(ctx, trace, part, format!("{path}.{number}"), at);
            let end = match part {
                Part::Call(ms) => self.call(ctx, trace, &path, at + ms).await,
                Part::Hopeless(tries, ms) => self.fail(ctx, trace, &path, at + ms, *tries).await,
                Part::Sleep(ms) => {
                    ctx.sleep(Duration::from_millis(*ms)).await.unwrap();
                    at
                }
                Part::Count(commits) => {
                    let count = ctx.state().incr("count", 1).await.unwrap();
                    trace.lock().unwrap().push(format!("{path} {count} #"));
                    if *commits {
                        ctx.checkpoint().await.unwrap();
                    }
                    at
                }
                Part::Child => {
                    let echoed = ctx.task::<echo>(&path).await;
                    assert_eq!(echoed.ok().as_ref(), Some(&path), "it was given the result of another");
                    at
                }
                Part::Cleanup => {
                    ctx.cleanup::<echo>(&path).await.unwrap();
                    at
                }
                Part::Wait => ctx.wait_for::<u64>("word").await.map_or(at, |word| at.max(word)),
                Part::Seq(parts) => {
                    let mut at = at;
                    for (number, part) in parts.iter().enumerate() {
                        at = inner(number, part, at).await;
                    }
                    at
                }
                Part::Join(parts) => {
                    let all = parts.iter().enumerate().map(|(number, part)| inner(number, part, at));
                    future::join_all(all).await.into_iter().max().unwrap_or(at)
                }
                Part::Race(parts) => {
                    let all = parts.iter().enumerate().map(|(number, part)| inner(number, part, at));
                    future::select_all(all).await.0
                }
                Part::Unordered(parts) => {
                    let one = async |number: usize, part, ms: u64| (inner(number, part, at).await, number, ms);
                    let mut all: FuturesUnordered<_> =
                        parts.iter().enumerate().map(|(number, (part, ms))| one(number, part, *ms)).collect();
                    let mut last = at;
                    while let Some((end, number, ms)) = all.next().await {
                        last = self.call(ctx, trace, &format!("{path}.{number}.then"), last.max(end) + ms).await;
                    }
                    last
                }
                Part::Keep(parts, ms) => {
                    let (one, other) = (inner(0, &parts.0, at), inner(1, &parts.1, at));
                    let (end, kept) = match future::select(one, other).await {
                        Either::Left((end, kept)) | Either::Right((end, kept)) => (end, kept),
                    };
                    let end = self.call(ctx, trace, &format!("{path}.then"), end + ms).await;
                    end.max(kept.await)
                }
                Part::Buffered(width, parts) => {
                    let all: Vec<_> = parts.iter().enumerate().map(|(number, part)| inner(number, part, at)).collect();
                    let ends: Vec<u64> = futures_util::stream::iter(all).buffer_unordered(*width).collect().await;
                    ends.into_iter().max().unwrap_or(at)
                }
            };
            trace.lock().unwrap().push(path);
            end
        })
    }

    /// All calls have one name: nothing but their order tells them apart. Each records what the body had seen before it.
    async fn call(&self, ctx: &Context, trace: &Mutex<Vec<String>>, path: &str, until: u64) -> u64 {
        self.ends.lock().unwrap().entry(until).or_default().insert(path.to_owned());
        let made = (path.to_owned(), until, trace.lock().unwrap().clone());
        let work = || async {
            tokio::time::sleep_until(self.began + Duration::from_millis(until)).await;
            Ok(made.clone())
        };
        let given = ctx.step("call", work).await;
        assert_eq!(given.ok(), Some(made.clone()), "it was given the value of another, or of another time");
        until
    }
}

impl Planned {
    /// As `call`, with retries that do not help.
    async fn fail(&self, ctx: &Context, trace: &Mutex<Vec<String>>, path: &str, until: u64, tries: u32) -> u64 {
        self.ends.lock().unwrap().entry(until).or_default().insert(path.to_owned());
        let made = format!("{path} {until} {:?}", trace.lock().unwrap());
        let work = || async {
            tokio::time::sleep_until(self.began + Duration::from_millis(until)).await;
            Err::<(), _>(Error::msg(&made))
        };
        let (shortest, longest) = (Duration::from_millis(1), Duration::from_secs(100));
        let policy = RetryPolicy::random(shortest, longest).attempts(tries);
        let error = ctx.step("call", work).retry(policy).await.unwrap_err();
        assert_eq!(error.to_string(), Error::msg(&made).to_string(), "it was given the error of another");
        until
    }
}

/// `keeps`: the body is a durable function, which one of so many workers keeps in memory while it waits.
fn replay(most: u64, tells: bool, keeps: Option<usize>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let cases = std::env::var("STEPFLEET_REPLAYS").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&parts(most, !tells), |plan| {
            let (plan, ends) = (Arc::new(plan), Ends::default());
            let setup = || {
                let planned = Planned { plan: plan.clone(), began: Instant::now(), ends: ends.clone(), tells };
                let run = match keeps {
                    None => testing::run(planned),
                    Some(workers) => testing::run(planned::with(planned)).keeps(10).workers(workers),
                };
                let run = run.serve(echo::workflow());
                (0..20).fold(run, |run, _| run.signal("word", &0u64)).signal("end", &())
            };
            runtime.block_on(async { setup().call(&Asked {}).await });
            // What ends at the same time may come in any order.
            prop_assume!(ends.lock().unwrap().values().all(|paths| paths.len() == 1));
            let run = runtime.block_on(testing::call_survives_every_crash(setup, &Asked {}));
            prop_assert_eq!(run.status(), testing::Status::Completed, "{}", run);
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_bodies_end_alike_wherever_their_worker_dies() {
    replay(0, true, None);
}

#[test]
fn random_bodies_that_let_calls_end_unseen_are_never_given_the_value_of_another() {
    replay(1_000_000, false, None);
}

#[test]
fn random_functions_that_go_on_in_memory_end_as_those_that_are_replayed() {
    replay(0, true, Some(1));
}

#[test]
fn random_functions_go_on_now_in_memory_and_now_elsewhere() {
    replay(1_000_000, false, Some(2));
}
