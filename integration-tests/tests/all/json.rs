//! Values keep their types when JSON is between a step and a caller, or are refused, with the place of what JSON cannot express;
//! on the memory store and on a real Redis.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::Both;
use stepfleet_shared::run::Status;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    how: String,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Told {
    mean: f64,
    seats: BTreeMap<u32, String>,
}

/// Types that JSON writes differently: keys that are numbers, and types with one form for people and another for
/// machines.
#[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
struct Plan {
    seats: BTreeMap<u32, String>,
    hosts: Vec<Option<IpAddr>>,
    takes: Duration,
    ratio: Option<f64>,
    code: (u8, char),
}

fn plan() -> Plan {
    Plan {
        seats: BTreeMap::from([(7, "Ada".to_owned())]),
        hosts: vec![Some([10, 0, 0, 1].into()), None],
        takes: Duration::from_millis(1500),
        ratio: Some(0.1),
        code: (255, 'é'),
    }
}

struct Planner;

#[workflow(start = Asked, stop = Told, retry = RetryPolicy::never())]
impl Planner {
    #[step]
    async fn plan(&self, ctx: &Context<Plan>, ev: Asked) -> Outcome<Told> {
        match ev.how.as_str() {
            "write" => ctx.state().edit(|state| *state = plan()).await?,
            // Like a caller that does not know the type of the keys.
            "insert" => {
                ctx.state().insert("seats", "8", "Bob").await?;
                ctx.state().insert("seats", "7", "Eve").await?;
            }
            "nan" => return Ok(Told { mean: f64::NAN, seats: BTreeMap::new() }),
            "publish" => ctx.publish(&Told { mean: f64::INFINITY, seats: BTreeMap::new() }).await?,
            "fail" => Err(Terminal("no ink"))?,
            _ => {}
        }
        Ok(Told { mean: 0.5, seats: ctx.state().load().await?.seats })
    }

    #[step]
    async fn mend(&self, failed: StepFailed) -> Outcome<Told> {
        let asked: Asked = failed.event()?;
        Err(Error::terminal(if asked.how == "fail" { "no paper either".to_owned() } else { failed.error }))
    }
}

#[tokio::test]
async fn a_snapshot_goes_in_again_as_it_went_out() {
    Both::new(|worker| worker.serve(Planner))
        .play(async |stage| {
            let written = stage.client.start("planner", &json!({ "how": "write" })).enqueue().await.unwrap();
            let told: Told = written.result(LIMIT).await.unwrap();
            assert_eq!(told.seats, plan().seats);
            let snapshot = written.snapshot().await.unwrap().unwrap();
            assert_eq!(snapshot.context["hosts"], json!(["10.0.0.1", null]), "as it is written for people");
            let read = stage.client.start("planner", &json!({ "how": "read" })).context(&snapshot.context);
            let read = read.enqueue().await.unwrap();
            assert_eq!(read.result::<Told>(LIMIT).await.unwrap(), told);
            let again = read.snapshot().await.unwrap().unwrap();
            assert_eq!(again.context, snapshot.context);
        })
        .await;
}

#[tokio::test]
async fn an_entry_of_a_map_whose_keys_are_numbers_is_inserted_by_its_text() {
    Both::new(|worker| worker.serve(Planner))
        .play(async |stage| {
            let written = stage.client.start("planner", &json!({ "how": "write" })).enqueue().await.unwrap();
            written.wait(LIMIT).await.unwrap();
            let inserted = stage.client.start("planner", &json!({ "how": "insert" })).context_from(written.id());
            let told: Told = inserted.enqueue().await.unwrap().result(LIMIT).await.unwrap();
            assert_eq!(told.seats, BTreeMap::from([(7, "Eve".to_owned()), (8, "Bob".to_owned())]));
        })
        .await;
}

#[tokio::test]
async fn a_nan_is_refused_with_its_place_and_not_made_null() {
    Both::new(|worker| worker.serve(Planner))
        .play(async |stage| {
            for (how, what) in [("nan", "the result"), ("publish", "the event Told")] {
                let run = stage.client.start("planner", &json!({ "how": how })).enqueue().await.unwrap();
                let ended = run.wait(LIMIT).await.unwrap();
                assert_eq!(ended.status, Status::Failed);
                let error = ended.error.unwrap();
                assert!(
                    error.contains(&format!("{what} cannot be written as JSON: `mean` is infinite or not a number")),
                    "{error}"
                );
            }
        })
        .await;
}

#[tokio::test]
async fn a_step_that_fails_to_mend_does_not_hide_what_failed_first() {
    Both::new(|worker| worker.serve(Planner))
        .play(async |stage| {
            let run = stage.client.start("planner", &json!({ "how": "fail" })).enqueue().await.unwrap();
            let error = run.wait(LIMIT).await.unwrap().error.unwrap();
            assert!(error.contains("no paper either") && error.contains("step plan: no ink"), "{error}");
        })
        .await;
}

/// The error for a value of another type names its place.
#[tokio::test]
async fn an_error_names_the_place_of_an_unreadable_field() {
    Both::new(|worker| worker.serve(Planner))
        .play(async |stage| {
            let context: Value = json!({ "seats": { "7": "Ada", "x": "Eve" } });
            let run =
                stage.client.start("planner", &json!({ "how": "read" })).context(&context).enqueue().await.unwrap();
            let error = run.wait(LIMIT).await.unwrap().error.unwrap();
            assert!(error.contains("seats"), "{error}");
        })
        .await;
}
