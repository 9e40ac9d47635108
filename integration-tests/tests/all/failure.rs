//! How runs deal with failures: retries, steps that catch, and timeouts; on both stores, with three workers.

use std::error::Error as StdError;
use std::fmt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::history::{Kind, Record};
use stepfleet::run::Status;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::redis::{TestRedis, redis_cli};
use stepfleet_worker::prelude::*;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize, Clone)]
struct Asked {
    how: String,
    #[serde(default)]
    n: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

fn answer(answer: Value) -> Answered {
    Answered { answer }
}

#[derive(Debug)]
struct Fetch(std::io::Error);

impl fmt::Display for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot fetch")
    }
}

impl StdError for Fetch {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

/// Its steps fail as they are asked to, each under a policy of its own.
struct Tried;

#[derive(Event, Serialize, Deserialize)]
struct LookBack {}
#[derive(Event, Serialize, Deserialize)]
struct Always {}
#[derive(Event, Serialize, Deserialize)]
struct Late {}
#[derive(Event, Serialize, Deserialize)]
struct Only {
    how: String,
}

#[derive(Event, Serialize, Deserialize)]
struct Once {}
#[derive(Event, Serialize, Deserialize)]
struct Kept {}

#[derive(Emit)]
enum Way {
    Once(Once),
    LookBack(LookBack),
    Always(Always),
    Late(Late),
    Only(Only),
}

const SHORT: Duration = Duration::from_millis(20);

/// Errors of the network, except where it says that nobody is there.
fn only_network() -> RetryOn {
    RetryOn::of::<Fetch>().or(RetryOn::message("overloaded")).and(RetryOn::cause("refused").not())
}

#[workflow(start = Asked, stop = Answered, retry = RetryPolicy::incrementing(SHORT, SHORT).jitter(0.0))]
impl Tried {
    #[step]
    async fn ask(&self, ev: Asked) -> Outcome<Way> {
        Ok(match ev.how.as_str() {
            "look back" => Way::LookBack(LookBack {}),
            "always" => Way::Always(Always {}),
            "late" => Way::Late(Late {}),
            "once" => Way::Once(Once {}),
            _ => Way::Only(Only { how: ev.how }),
        })
    }

    /// By the policy of the workflow: four attempts.
    #[step]
    async fn look_back(&self, ctx: &Context, _: LookBack) -> Outcome<Answered> {
        let elapsed = u64::try_from(ctx.elapsed().as_millis()).unwrap_or(u64::MAX);
        if ctx.attempt() < 4 {
            return Err(Error::msg(format!("attempt {} after {elapsed}", ctx.attempt())));
        }
        Ok(answer(json!({ "failures": ctx.failures(), "elapsed": elapsed, "last": ctx.last_error() })))
    }

    #[step]
    async fn once(&self, ctx: &Context, _: Once) -> Outcome<Kept> {
        if ctx.failures() == 0 { Err(Error::msg("not yet")) } else { Ok(Kept {}) }
    }

    #[step]
    async fn keep(&self, _: Kept) -> Outcome<Answered> {
        std::future::pending().await
    }

    #[step(retry = RetryPolicy::fixed(SHORT).attempts(3))]
    async fn always(&self, _: Always) -> Outcome<Answered> {
        Err(Error::msg("no luck"))
    }

    /// However many attempts there are, the time ends it.
    #[step(retry = RetryPolicy::fixed(SHORT).jitter(0.0).within(Duration::from_millis(200)))]
    async fn late(&self, _: Late) -> Outcome<Answered> {
        Err(Error::msg("no luck"))
    }

    #[step(retry = RetryPolicy::fixed(SHORT).attempts(2).on(only_network()))]
    async fn only(&self, ev: Only) -> Outcome<Answered> {
        let network = |text: &str| Fetch(std::io::Error::other(text.to_owned()));
        match ev.how.as_str() {
            "slow network" => Err(network("timed out"))?,
            "refused" => Err(network("connection refused"))?,
            "overloaded" => Err(Error::msg("overloaded, try later")),
            _ => Err(std::io::Error::other("disk full"))?,
        }
    }
}

async fn history(stage: &Stage, run: &str) -> Vec<Record> {
    stage.store.history(run, 0, 1000).await.unwrap()
}

async fn of_kind(stage: &Stage, run: &str, kind: Kind) -> Vec<String> {
    let records = history(stage, run).await.into_iter();
    records.filter(|record| record.kind == kind).map(|record| record.detail).collect()
}

async fn asked(stage: &Stage, workflow: &str, input: Value) -> stepfleet::run::Run {
    let run = stage.client.start(workflow, &input).send().await.unwrap();
    run.wait(LIMIT).await.unwrap()
}

fn result(run: &stepfleet::run::Run) -> Value {
    let found = run.result.as_deref().unwrap_or_else(|| panic!("no result: {:?}", run.error));
    serde_json::from_slice::<Value>(found).unwrap()["answer"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_sees_what_came_before_it() {
    Both::new(|worker| worker.serve(Tried))
        .play(async |stage| {
            let run = asked(stage, "tried", json!({ "how": "look back" })).await;
            let found = result(&run);
            assert_eq!(found["failures"], 3);
            let retries = of_kind(stage, &run.id, Kind::Retry).await;
            let told = |at: usize| retries[at].split_once(' ').unwrap();
            assert_eq!([told(0).0, told(1).0, told(2).0], ["20", "40", "60"], "the delays are those of the policy");
            assert_eq!(found["last"], told(2).1);
            let elapsed = |at: usize| told(at).1.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
            let all = [elapsed(0), elapsed(1), elapsed(2), found["elapsed"].as_u64().unwrap()];
            assert!(all.is_sorted() && all[1] >= 20 && all[2] >= 60 && all[3] >= 120, "{all:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_attempts_goes_away_with_their_step() {
    Both::new(|worker| worker.serve(Tried))
        .play(async |stage| {
            let run = stage.client.start("tried", &json!({ "how": "once" })).send().await.unwrap();
            // The run itself goes on.
            while of_kind(stage, run.id(), Kind::Done).await.len() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(of_kind(stage, run.id(), Kind::Retry).await, ["20 not yet"]);
            nothing_is_left_of(stage, run.id()).await;
            run.cancel().await.unwrap();
            assert_eq!(run.wait(LIMIT).await.unwrap().status, Status::Cancelled);
        })
        .await;
}

/// What is kept for later attempts goes away with the step.
async fn nothing_is_left_of(stage: &Stage, run: &str) {
    let Some(redis) = &stage.redis else { return };
    let mut connection = redis.connection().await;
    for pattern in [format!("sf:{{0}}:journal:{run}:*"), format!("sf:{{0}}:extra:{run}")] {
        let keys: Vec<String> = redis::cmd("KEYS").arg(&pattern).query_async(&mut connection).await.unwrap();
        assert!(keys.is_empty(), "{keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_after_so_many_attempts_or_so_much_time() {
    Both::new(|worker| worker.serve(Tried))
        .play(async |stage| {
            let run = asked(stage, "tried", json!({ "how": "always" })).await;
            let seen = (run.status, run.error.as_deref(), run.error_step.as_deref(), run.error_attempt);
            assert_eq!(seen, (Status::Failed, Some("no luck"), Some("always"), Some(3)));
            assert_eq!(of_kind(stage, &run.id, Kind::Retry).await.len(), 2);
            let run = asked(stage, "tried", json!({ "how": "late" })).await;
            let retries = of_kind(stage, &run.id, Kind::Retry).await.len();
            // Each retry takes a tenth of the time at least.
            assert!(run.status == Status::Failed && retries <= 10, "{retries} retries");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_a_policy_is_not_for_are_not_tried_again() {
    Both::new(|worker| worker.serve(Tried))
        .play(async |stage| {
            for (how, retries, error) in [
                ("slow network", 1, "cannot fetch: timed out"),
                ("refused", 0, "cannot fetch: connection refused"),
                ("overloaded", 1, "overloaded, try later"),
                ("disk", 0, "disk full"),
            ] {
                let run = asked(stage, "tried", json!({ "how": how })).await;
                assert_eq!((run.status, run.error.as_deref()), (Status::Failed, Some(error)));
                assert_eq!(of_kind(stage, &run.id, Kind::Retry).await.len(), retries, "{how}");
            }
        })
        .await;
}

/// Steps whose failures are caught.
struct Caught;

#[derive(Event, Serialize, Deserialize)]
struct Named {
    n: u64,
}
#[derive(Event, Serialize, Deserialize)]
struct Other {
    n: u64,
}
#[derive(Event, Serialize, Deserialize)]
struct Page {
    n: u64,
    joins_badly: bool,
}
#[derive(Event, Serialize, Deserialize)]
struct Text {
    n: u64,
    joins_badly: bool,
}

#[derive(Emit)]
enum Course {
    Named(Named),
    Other(Other),
    Pages(Vec<Page>),
}

#[derive(Emit)]
enum Recovered {
    Answered(Answered),
    Again(Named),
    Text(Text),
}

#[workflow(start = Asked, stop = Answered, retry = RetryPolicy::never())]
impl Caught {
    #[step]
    async fn ask(&self, ctx: &Context, ev: Asked) -> Outcome<Course> {
        ctx.state().set("asked", &ev.how).await?;
        let page = |n| Page { n, joins_badly: ev.how == "join" };
        Ok(match ev.how.as_str() {
            "named" | "again" => Course::Named(Named { n: ev.n }),
            "other" => Course::Other(Other { n: ev.n }),
            _ => Course::Pages((0..ev.n).map(page).collect()),
        })
    }

    #[step(retry = RetryPolicy::fixed(SHORT).attempts(2))]
    async fn named(&self, ctx: &Context, ev: Named) -> Outcome<Answered> {
        ctx.state().set("lost", &ev.n).await?;
        Err(Fetch(std::io::Error::other(format!("no {}", ev.n))))?
    }

    #[step]
    async fn other(&self, _: Other) -> Outcome<Answered> {
        Err(Terminal("never"))?
    }

    #[step]
    async fn read(&self, ev: Page) -> Outcome<Text> {
        if ev.n % 2 == 1 {
            return Err(Error::msg("cannot read"));
        }
        Ok(Text { n: ev.n, joins_badly: ev.joins_badly })
    }

    #[step]
    async fn gather(&self, all: Joined<Text>) -> Outcome<Answered> {
        if all.iter().any(|text| text.joins_badly) {
            return Err(Error::msg("cannot gather"));
        }
        let mut found: Vec<u64> = all.iter().map(|text| text.n).collect();
        found.sort_unstable();
        Ok(answer(json!(found)))
    }

    /// Named goes before all; 2 recoveries for each lineage.
    #[step(catches = ["named", "read"], recoveries = 2)]
    async fn mend(&self, ctx: &Context, failed: StepFailed) -> Outcome<Recovered> {
        if failed.step == "read" {
            let page: Page = failed.event()?;
            return Ok(Recovered::Text(Text { n: page.n + 100, joins_badly: page.joins_badly }));
        }
        let named: Named = failed.event()?;
        if named.n > 0 {
            return Ok(Recovered::Again(Named { n: named.n - 1 }));
        }
        let (asked, lost) = (ctx.state().get::<Value>("asked").await?, ctx.state().get::<Value>("lost").await?);
        Ok(Recovered::Answered(answer(json!({ "failed": failed, "asked": asked, "lost": lost }))))
    }

    #[step(catches = "all")]
    async fn rest(&self, failed: StepFailed) -> Outcome<Answered> {
        if failed.event == "Other" && failed.event::<Other>()?.n == 1 {
            return Err(Error::msg("cannot mend either"));
        }
        Ok(answer(json!({ "rest": failed })))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_goes_to_the_step_that_catches_it() {
    Both::new(|worker| worker.serve(Caught))
        .play(async |stage| {
            let run = asked(stage, "caught", json!({ "how": "named" })).await;
            let found = result(&run);
            let failed = &found["failed"];
            assert_eq!(
                (&failed["step"], &failed["event"], &failed["input"]),
                (&json!("named"), &json!("Named"), &json!({ "n": 0 }))
            );
            assert_eq!((&failed["attempts"], &failed["error"]), (&json!(2), &json!("cannot fetch: no 0")));
            assert_eq!(failed["causes"], json!(["no 0"]));
            assert!(failed["elapsed_ms"].as_u64() >= Some(16), "{failed}");
            assert_eq!(
                (&found["asked"], &found["lost"]),
                (&json!("named"), &Value::Null),
                "the context without what failed wrote"
            );
            assert_eq!(of_kind(stage, &run.id, Kind::Caught).await, ["cannot fetch: no 0"]);

            let found = result(&asked(stage, "caught", json!({ "how": "other" })).await);
            assert_eq!((&found["rest"]["step"], &found["rest"]["error"]), (&json!("other"), &json!("never")));
            assert_eq!(found["rest"]["attempts"], 1, "a terminal error");

            let run = asked(stage, "caught", json!({ "how": "other", "n": 1 })).await;
            let seen = (run.status, run.error.as_deref(), run.error_step.as_deref());
            assert_eq!(seen, (Status::Failed, Some("cannot mend either"), Some("rest")), "none catches itself");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_and_joining_steps_are_caught_where_they_stand() {
    Both::new(|worker| worker.serve(Caught))
        .play(async |stage| {
            let run = asked(stage, "caught", json!({ "how": "pages", "n": 7 })).await;
            assert_eq!(result(&run), json!([0, 2, 4, 6, 101, 103, 105]));
            assert_eq!(of_kind(stage, &run.id, Kind::Caught).await.len(), 3);

            let failed = result(&asked(stage, "caught", json!({ "how": "join", "n": 2 })).await)["rest"].clone();
            assert_eq!((&failed["step"], &failed["event"]), (&json!("gather"), &json!("Text")));
            let mut shown: Vec<_> = failed["input"].as_array().unwrap().iter().map(|text| text["n"].as_u64()).collect();
            shown.sort_unstable();
            assert_eq!(shown, [Some(0), Some(101)]);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lineage_is_recovered_so_often_and_then_its_run_fails() {
    Both::new(|worker| worker.serve(Caught))
        .play(async |stage| {
            let run = asked(stage, "caught", json!({ "how": "again", "n": 1 })).await;
            assert_eq!(result(&run)["failed"]["input"], json!({ "n": 0 }), "twice is within the limit");
            let run = asked(stage, "caught", json!({ "how": "again", "n": 5 })).await;
            assert_eq!(of_kind(stage, &run.id, Kind::Caught).await, ["cannot fetch: no 5", "cannot fetch: no 4"]);
            assert_eq!(run.status, Status::Failed);
            let error = run.error.unwrap();
            assert!(error.starts_with("cannot fetch: no 3 (not recovered: ") && error.contains("mend"), "{error}");
        })
        .await;
}

/// Never ends by itself.
struct Endless;

#[derive(Event, Serialize, Deserialize)]
struct Held {
    branch: u64,
}

#[workflow(start = Asked, stop = Answered, timeout = "3s")]
impl Endless {
    #[step]
    async fn split(&self, ev: Asked) -> Outcome<Vec<Held>> {
        Ok((0..ev.n).map(|branch| Held { branch }).collect())
    }

    #[step(backoff = "1h")]
    async fn hold(&self, ev: Held) -> Outcome<Option<Answered>> {
        if ev.branch == 0 {
            return Err(Error::msg("later"));
        }
        std::future::pending().await
    }

    #[step]
    async fn watch(&self, ev: Asked) -> Outcome<Answered> {
        if ev.how == "at once" { Ok(answer(json!("in time"))) } else { std::future::pending().await }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_too_long_names_its_active_steps() {
    Both::new(|worker| worker.serve(Endless))
        .play(async |stage| {
            let run = asked(stage, "endless", json!({ "how": "never", "n": 4 })).await;
            assert_eq!(run.status, Status::Failed);
            let expected = "the run did not end within its timeout of 3s; active steps: hold (3 running, 1 waiting to \
                            retry), watch (1 running)";
            let history = stage.store.history(&run.id, 0, 100).await.unwrap();
            assert_eq!(run.error.as_deref(), Some(expected), "{history:?}");
            // Its steps have stopped: their slots are free for others.
            for _ in 0..12 {
                let run = asked(stage, "endless", json!({ "how": "at once", "n": 0 })).await;
                assert_eq!(result(&run), "in time");
                has_no_timer(stage, &format!("timeout {}", run.id)).await;
            }
        })
        .await;
}

async fn has_no_timer(stage: &Stage, timer: &str) {
    let Some(redis) = &stage.redis else { return };
    let mut connection = redis.connection().await;
    let due: Option<u64> =
        redis::cmd("ZSCORE").arg("sf:{0}:timers").arg(timer).query_async(&mut connection).await.unwrap();
    assert_eq!(due, None, "{timer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_is_kept_with_its_chain_of_causes() {
    Both::new(|worker| worker.serve(Tried))
        .play(async |stage| {
            let run = asked(stage, "tried", json!({ "how": "refused" })).await;
            let seen = (run.error.as_deref(), run.error_step.as_deref(), run.error_attempt);
            assert_eq!(seen, (Some("cannot fetch: connection refused"), Some("only"), Some(1)));
            let Some(redis) = &stage.redis else { return };
            let key = format!("sf:{{0}}:run:{}", run.id);
            let told = redis_cli(&redis.url, &["HMGET", &key, "status", "error", "error_step", "error_attempt"]);
            assert_eq!(told.lines().collect::<Vec<_>>(), ["failed", "cannot fetch: connection refused", "only", "1"]);
            let show = Command::new(env!("CARGO_BIN_EXE_test-stepfleet"))
                .args(["show", &run.id])
                .env("STEPFLEET_REDIS", &redis.url)
                .env("NO_COLOR", "1")
                .output()
                .unwrap();
            let shown = String::from_utf8_lossy(&show.stdout);
            assert!(shown.contains("cannot fetch: connection refused") && shown.contains("only, attempt 1"), "{shown}");
        })
        .await;
}

/// Redis, the coordinator and all workers are killed while a retry waits for its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_delay_survives_that_everything_is_killed() {
    let mut fleet = Fleet::on(TestRedis::process().await);
    let mut all: Vec<Process> = (0..3).map(|_| fleet_worker(&fleet)).collect();
    all.push(fleet.coordinator_process(env!("CARGO_BIN_EXE_test-stepfleet")));
    fleet.workers_ready(3).await;
    let run = fleet.client.start("patient", &json!({ "n": 4000 })).id("r").send().await.unwrap();
    let retry = loop {
        let history = fleet.store.history("r", 0, 100).await.unwrap();
        if let Some(retry) = history.into_iter().find(|record| record.kind == Kind::Retry) {
            break retry;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    for process in &all {
        process.signal(Signal::KILL);
    }
    drop(all);
    fleet.redis.kill();
    fleet.redis.start_again().await;
    let mut all: Vec<Process> = (0..3).map(|_| fleet_worker(&fleet)).collect();
    all.push(fleet.coordinator_process(env!("CARGO_BIN_EXE_test-stepfleet")));
    let end: Value = run.result(LIMIT).await.unwrap();
    let history = fleet.store.history("r", 0, 100).await.unwrap();
    let done = history.iter().find(|record| record.kind == Kind::Done).unwrap();
    assert_eq!((done.attempt, history.iter().filter(|record| record.kind == Kind::Retry).count()), (2, 1));
    assert!(done.began_ms().unwrap() >= retry.at_ms + 4000, "{history:?}");
    assert_eq!(end["answer"], "attempt 2 after \"not yet\", 4s later: true");
}

fn fleet_worker(fleet: &Fleet) -> Process {
    fleet.worker(env!("CARGO_BIN_EXE_test-worker"), &[])
}
