//! Calls of a body: retries and time limits of their own, sleeps, what is recorded of the world, and several at once. Each body is
//! also run with a worker that dies at each of its commits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use stepfleet::prelude::*;
use stepfleet::testing::{self, Status};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Event, Serialize, Deserialize, Default)]
struct Asked {}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Told {
    lines: Vec<String>,
}

/// What was done outside, and how often.
#[derive(Clone, Default)]
struct World(Arc<Mutex<BTreeMap<String, u32>>>);

impl World {
    /// Answers how often it was done by now: more often where a worker dies before that is recorded.
    fn does(&self, what: &str) -> u32 {
        let mut done = self.0.lock().unwrap();
        let times = done.entry(what.to_owned()).or_default();
        *times += 1;
        *times
    }

    fn done(&self, what: &str) -> u32 {
        self.0.lock().unwrap().get(what).copied().unwrap_or(0)
    }
}

/// Fails so often.
fn flaky(world: &World, what: &str, failures: u32) -> Outcome<u32> {
    let times = world.does(what);
    if times <= failures { Err(Error::msg(format!("{what} failed {times} times"))) } else { Ok(failures + 1) }
}

struct Retried(World);

#[workflow(start = Asked, stop = Told, retry = RetryPolicy::never())]
impl Retried {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let before = ctx.step("before", || async { Ok(self.0.does("before").min(1)) }).await?;
        let policy = RetryPolicy::fixed(HOUR).attempts(4).jitter(0.0);
        let flaky = ctx.step("flaky", || async { flaky(&self.0, "flaky", 3) }).retry(policy).await?;
        Ok(Told { lines: vec![format!("{before} {flaky}")] })
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_tried_again_hours_later_and_the_attempt_never_failed() {
    let world = World::default();
    let run = testing::run(Retried(world.clone())).start(&Asked {}).await;
    assert_eq!(run.result::<Told>().lines, ["1 4"]);
    assert!(run.time_skipped() >= 3 * HOUR, "{:?}", run.time_skipped());
    assert_eq!((world.done("before"), world.done("flaky"), run.step("go").retries().len()), (1, 4, 0));
    assert_eq!(run.step("go").attempts(), 4, "each delay ended an attempt");
}

/// Fails each time: its error is the result, and how often it was tried stands outside.
struct Hopeless(World, Duration);

#[workflow(start = Asked, stop = Told)]
impl Hopeless {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let policy = RetryPolicy::fixed(self.1).attempts(4);
        let error = ctx.step("hopeless", || async { flaky(&self.0, "hopeless", 99) }).retry(policy).await.unwrap_err();
        assert!(error.is_given_up());
        Ok(Told { lines: Vec::new() })
    }
}

#[tokio::test(start_paused = true)]
async fn tries_count_on_wherever_the_worker_dies() {
    testing::survives_every_crash(|| testing::run(Retried(World::default())), &Asked {}).await;
    for (delay, commits) in [(Duration::from_millis(100), 5), (HOUR, 8)] {
        let tried = async |before: Option<bool>, commit: usize| {
            let world = World::default();
            let setup = testing::run(Hopeless(world.clone(), delay));
            let setup = match before {
                Some(true) => setup.crash_before_commit("go", commit),
                Some(false) => setup.crash_after_commit("go", commit),
                None => setup,
            };
            assert_eq!(setup.start(&Asked {}).await.status(), Status::Completed);
            world.done("hopeless")
        };
        assert_eq!(tried(None, 0).await, 4);
        for commit in 1..=commits {
            // What was not recorded is tried once more, and what was is not.
            assert!((4..=5).contains(&tried(Some(true), commit).await), "before {commit}");
            assert_eq!(tried(Some(false), commit).await, 4, "after {commit}");
        }
    }
}

/// Gives up on a call and goes on with its error, over a wait.
struct GivesUp(World, bool);

#[workflow(start = Asked, stop = Told)]
impl GivesUp {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let policy = RetryPolicy::fixed(Duration::from_millis(10)).attempts(3);
        let broken = ctx.step("broken", || async {
            self.0.does("broken");
            let cause = std::io::Error::other(std::fmt::Error);
            Err::<(), _>(if self.1 { Error::terminal("never") } else { Error::from(cause) })
        });
        let error = broken.retry(policy).await.unwrap_err();
        ctx.wait_for::<()>("go").await?;
        let kinds = format!("{} {} {}", error.is_terminal(), error.is_given_up(), error.type_name().unwrap_or("-"));
        Ok(Told { lines: vec![error.to_string(), kinds, error.causes().join(",")] })
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_was_given_up_on_is_the_same_in_each_attempt() {
    for (terminal, tries) in [(false, 3), (true, 1)] {
        let world = World::default();
        let run = testing::run(GivesUp(world.clone(), terminal)).signal("go", &()).start(&Asked {}).await;
        let lines = run.result::<Told>().lines;
        if terminal {
            assert_eq!(lines, ["never", "true true -", ""]);
        } else {
            let text = std::fmt::Error.to_string();
            assert_eq!(lines, [text.as_str(), "false true std::io::error::Error", ""]);
        }
        assert_eq!((world.done("broken"), run.step("go").attempts()), (tries, 2));
        testing::survives_every_crash(
            || testing::run(GivesUp(World::default(), terminal)).signal("go", &()),
            &Asked {},
        )
        .await;
    }
}

struct Fails(World);

#[workflow(start = Asked, stop = Told)]
impl Fails {
    #[step(retries = 5)]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let one = ctx.step("one", || async { flaky(&self.0, "one", 99) }).retry(RetryPolicy::fixed(HOUR).attempts(2));
        // The other one is recorded after it.
        let other = ctx.step("other", || async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(self.0.does("other"))
        });
        let (one, other) = tokio::join!(one, other);
        Ok(Told { lines: vec![format!("{} {}", one?, other?)] })
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_with_what_was_given_up_on_is_not_tried_again() {
    let world = World::default();
    let run = testing::run(Fails(world.clone())).start(&Asked {}).await;
    assert_eq!(run.status(), Status::Failed);
    assert!(run.error().contains("one failed 2 times"), "{run}");
    assert_eq!((world.done("one"), world.done("other"), run.step("go").retries().len()), (2, 1, 0));
}

/// Calls of one name, each in its own branch with its own retries.
struct Branches(World);

#[workflow(start = Asked, stop = Told)]
impl Branches {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let policy = RetryPolicy::fixed(HOUR).attempts(5).jitter(0.0);
        let lines = ctx.map(0..4u32, 3, |item| {
            let policy = policy.clone();
            async move {
                let what = format!("item {item}");
                let tried = ctx.step("try", || async { flaky(&self.0, &what, item) }).retry(policy).await?;
                ctx.sleep(HOUR * (4 - item)).await?;
                let then = ctx.step("try", || async { Ok(self.0.does(&format!("{what} then")).min(1)) }).await?;
                Ok(format!("{item}: {tried} {then}"))
            }
        });
        Ok(Told { lines: lines.await? })
    }
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_name_in_branches_that_retry_and_sleep_do_not_collide() {
    let world = World::default();
    let run = testing::run(Branches(world.clone())).start(&Asked {}).await;
    assert_eq!(run.result::<Told>().lines, ["0: 1 1", "1: 2 1", "2: 3 1", "3: 4 1"]);
    testing::survives_every_crash(|| testing::run(Branches(World::default())), &Asked {}).await;
}

struct Dropped(World);

#[workflow(start = Asked, stop = Told)]
impl Dropped {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let raced = ctx.race((
            ctx.step("hopeless", || async { flaky(&self.0, "hopeless", 99) })
                .retry(RetryPolicy::fixed(HOUR).for_ever()),
            async {
                ctx.sleep(3 * HOUR + HOUR / 2).await?;
                Ok(7)
            },
        ));
        let won = raced.await?;
        ctx.sleep(10 * HOUR).await?;
        Ok(Told { lines: vec![won.to_string()] })
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_let_go_of_between_two_tries_is_tried_no_more() {
    let world = World::default();
    let run = testing::run(Dropped(world.clone())).start(&Asked {}).await;
    assert_eq!(run.result::<Told>().lines, ["7"]);
    let tries = world.done("hopeless");
    assert!((4..=5).contains(&tries), "{tries}");
    assert_eq!(run.step("go").attempts(), tries as usize + 2, "no timer of it was left: {run}");
    testing::survives_every_crash(|| testing::run(Dropped(World::default())), &Asked {}).await;
}

struct Late(World);

#[workflow(start = Asked, stop = Told)]
impl Late {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let slow = ctx.step("slow", || async {
            if self.0.does("slow") < 3 {
                tokio::time::sleep(HOUR).await;
            }
            Ok(1u8)
        });
        let limit = Duration::from_secs(5);
        let value = slow.timeout(limit).retry(RetryPolicy::fixed(Duration::from_secs(60))).await?;
        let error = ctx.step("stuck", std::future::pending::<Outcome<()>>).timeout(limit).retries(0).await.unwrap_err();
        Ok(Told { lines: vec![value.to_string(), error.to_string()] })
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_that_takes_too_long_has_failed() {
    let world = World::default();
    let run = testing::run(Late(world.clone())).start(&Asked {}).await;
    assert_eq!(run.result::<Told>().lines, ["1", "the call stuck took longer than its timeout of 5s"]);
    assert_eq!(world.done("slow"), 3);
}

/// Reads the world, over sleeps.
struct Reads;

#[workflow(start = Asked, stop = Told)]
impl Reads {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let began = ctx.now().await?;
        let (dice, float, id) = ctx.join((ctx.random::<u64>(), ctx.random::<f64>(), ctx.uuid())).await?;
        ctx.state().set("seen", &format!("{dice} {float} {id}")).await?;
        ctx.checkpoint().await?;
        Ok(Told { lines: vec![format!("{began:?}"), dice.to_string(), float.to_string(), id] })
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_of_the_world_is_read_once() {
    let run = testing::run(Reads).start(&Asked {}).await;
    let lines = run.result::<Told>().lines;
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    assert_eq!(lines[0], format!("{began:?}"), "it is the store's clock");
    assert!((0.0..1.0).contains(&lines[2].parse::<f64>().unwrap()) && lines[3].len() == 36, "{lines:?}");
    let other = testing::run(Reads).start(&Asked {}).await.result::<Told>().lines;
    assert!(lines[1] != other[1] && lines[3] != other[3]);
    // Dies after the checkpoint: the result is still what was seen then.
    let run = testing::run(Reads).crash_before_commit("go", 6).start(&Asked {}).await;
    let lines = run.result::<Told>().lines;
    assert_eq!(run.field::<String>("seen").unwrap(), format!("{} {} {}", lines[1], lines[2], lines[3]));
}

struct Sleeps;

#[workflow(start = Asked, stop = Told)]
impl Sleeps {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let began = ctx.now().await?;
        ctx.sleep(24 * HOUR).await?;
        ctx.sleep_until(began + 30 * HOUR).await?;
        ctx.sleep_until(began).await?;
        ctx.sleep(Duration::ZERO).await?;
        let slept = ctx.now().await?.duration_since(began).unwrap();
        Ok(Told { lines: vec![format!("{}", slept.as_secs() / 3600)] })
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_sleeps_for_and_until_and_not_at_all() {
    let run = testing::survives_every_crash(|| testing::run(Sleeps), &Asked {}).await;
    assert_eq!(run.result::<Told>().lines, ["30"]);
    assert!(run.time_skipped() >= 30 * HOUR && run.time_skipped() < 31 * HOUR, "{:?}", run.time_skipped());
}

/// Works on items, some of which cannot be.
struct Each(World);

#[workflow(start = Asked, stop = Told)]
impl Each {
    #[step]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let work = |item: u32| {
            ctx.step("work", move || async move {
                self.0.does(&format!("item {item}"));
                if item % 3 == 2 { Err(Error::terminal(format!("no {item}"))) } else { Ok(item * 10) }
            })
            .retries(1)
        };
        let each = ctx.map(0..6, 2, work).each().await;
        let lines = each.into_iter().map(|ended| ended.map_or_else(|error| error.to_string(), |v| v.to_string()));
        let lines: Vec<String> = lines.collect();
        ctx.sleep(HOUR).await?;
        let whole = ctx.map(0..6, 2, work).await.unwrap_err();
        let all = ctx.join_all((0..3u32).map(|n| ctx.step("n", move || async move { Ok(n) }))).await?;
        ctx.sleep(HOUR).await?;
        Ok(Told { lines: [lines, vec![whole.to_string(), format!("{all:?}")]].concat() })
    }
}

#[tokio::test(start_paused = true)]
async fn items_end_on_their_own_or_all_with_the_first_error() {
    let world = World::default();
    let run = testing::run(Each(world.clone())).start(&Asked {}).await;
    assert_eq!(run.result::<Told>().lines, ["0", "10", "no 2", "30", "40", "no 5", "no 2", "[0, 1, 2]"]);
    assert_eq!((world.done("item 1"), world.done("item 5")), (2, 1), "the second time it stopped before");
    testing::survives_every_crash(|| testing::run(Each(World::default())), &Asked {}).await;
}
