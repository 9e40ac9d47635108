//! Failures that another step catches.

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::Both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;

use super::{Answered, Asked, Fetch, SHORT, answer, asked, of_kind, result};

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

    /// A step that names the failed one comes before one for all; 2 recoveries for each lineage.
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
            let both = "cannot mend either (while it dealt with the failure of step other: never)";
            assert_eq!(seen, (Status::Failed, Some(both), Some("rest")), "none catches itself");
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
