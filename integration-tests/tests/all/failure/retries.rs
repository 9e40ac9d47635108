//! Attempts and the policies that allow them.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::redis::redis_cli;
use stepfleet_integration_tests::until;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;

use super::{Answered, Asked, Fetch, LIMIT, SHORT, answer, asked, of_kind, result};

/// Its steps fail as requested, each with its own policy.
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

/// Errors of the network, except that nobody listens.
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

    /// The time ends it, however many attempts are left.
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
            let run = stage.client.start("tried", &json!({ "how": "once" })).enqueue().await.unwrap();
            // The run itself goes on.
            until(async || of_kind(stage, run.id(), Kind::Done).await.len() >= 2).await;
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
            // Each retry takes at least a tenth of the time.
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
