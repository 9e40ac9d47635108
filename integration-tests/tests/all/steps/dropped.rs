//! Executing steps that are no longer needed: the rest of a fan-out whose first were enough, the siblings of a stop event.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::fleet::nothing_is_held;
use stepfleet_integration_tests::seen;
use stepfleet_shared::history::Kind;

use super::{Answered, Asked, LIMIT, count, history, history_until};

/// Branches that are quick or never end; the first two are enough. An inner fan-out is dropped too.
struct Race;

#[derive(Event, Serialize, Deserialize)]
struct Lane(u64);
#[derive(Event, Serialize, Deserialize)]
struct Lap(u64);
#[derive(Event, Serialize, Deserialize)]
struct Time(u64);
#[derive(Event, Serialize, Deserialize)]
struct Lapped(u64);

#[derive(Emit)]
enum Way {
    Quick(Time),
    Long(Vec<Lap>),
}

#[derive(Event, Serialize, Deserialize)]
struct Go;

/// How many endless bodies of a run are executing.
static UNDER_WAY: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);

struct Counted(String);

impl Counted {
    fn of<S>(ctx: &Context<S>) -> Self {
        *UNDER_WAY.lock().unwrap().entry(ctx.run_id().to_owned()).or_default() += 1;
        Self(ctx.run_id().to_owned())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *UNDER_WAY.lock().unwrap().get_mut(&self.0).unwrap() -= 1;
    }
}

#[workflow(start = Asked, stop = Answered, external = [Go])]
impl Race {
    #[step]
    async fn lanes(&self, ev: Asked) -> Outcome<Vec<Lane>> {
        Ok((0..ev.n).map(Lane).collect())
    }

    #[step]
    async fn run(&self, ctx: &Context, ev: Lane) -> Outcome<Way> {
        ctx.state().set(&format!("ran{}", ev.0), &true).await?;
        Ok(if ev.0 < 2 { Way::Quick(Time(ev.0)) } else { Way::Long(vec![Lap(ev.0), Lap(ev.0)]) })
    }

    #[step]
    async fn lap(&self, ctx: &Context, ev: Lap) -> Outcome<Lapped> {
        let _counted = Counted::of(ctx);
        std::future::pending::<()>().await;
        Ok(Lapped(ev.0))
    }

    #[step]
    async fn laps(&self, laps: Joined<Lapped>) -> Outcome<Time> {
        Ok(Time(laps[0].0))
    }

    #[step]
    async fn podium(&self, ctx: &Context, first: Joined<Time, First<2>>) -> Outcome<()> {
        let mut first: Vec<_> = first.iter().map(|time| time.0).collect();
        first.sort_unstable();
        ctx.state().set("podium", &first).await
    }

    #[step]
    async fn go(&self, ctx: &Context, _: Go) -> Outcome<Answered> {
        let podium: Option<Vec<u64>> = ctx.state().get("podium").await?;
        Ok(Answered { answer: json!(podium) })
    }
}

/// One step ends the run while others are executing.
struct Early;

#[derive(Event, Serialize, Deserialize)]
struct Work(u64);

#[workflow(start = Asked, stop = Answered)]
impl Early {
    #[step]
    async fn begin(&self, ev: Asked) -> Outcome<Vec<Work>> {
        Ok((0..ev.n).map(Work).collect())
    }

    #[step]
    async fn work(&self, ctx: &Context, ev: Work) -> Outcome<Answered> {
        ctx.state().set(&format!("began{}", ev.0), &true).await?;
        if ev.0 > 0 {
            let _counted = Counted::of(ctx);
            std::future::pending::<()>().await;
        }
        Ok(Answered { answer: json!("early") })
    }
}

/// Waits until each endless body was dropped.
async fn all_are_dropped(run: &str) {
    let under_way = async || UNDER_WAY.lock().unwrap().get(run).copied().unwrap_or(0);
    seen(under_way, |under_way| *under_way == 0).await;
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Race)?.serve(Early)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_with_the_first_drops_the_rest_however_deep() {
    Both::new(serve)
        .concurrency(20)
        .play(async |stage| {
            let run = stage.client.start("race", &json!({ "n": 5 })).id("race").enqueue().await.unwrap();
            history_until(stage, "race", |records| count(records, Kind::Done, "podium") == 1).await;
            // The run is active; the rest of its fan-out is not.
            nothing_is_held(&*stage.store).await;
            all_are_dropped("race").await;
            let records = history(stage, "race").await;
            assert_eq!(count(&records, Kind::Done, "lap"), 0);
            run.send("Go", &Value::Null).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!([0, 1]));
            let later = history(stage, "race").await;
            let new: Vec<_> = later[records.len()..].iter().map(|record| (record.kind, record.step.as_str())).collect();
            assert_eq!(new, [(Kind::Done, "go"), (Kind::Completed, "go")]);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_event_ends_its_siblings_and_nothing_of_theirs_appears_later() {
    Both::new(serve)
        .concurrency(8)
        .play(async |stage| {
            let run = stage.client.start("early", &json!({ "n": 6 })).id("early").enqueue().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], "early");
            let before = history(stage, run.id()).await;
            nothing_is_held(&*stage.store).await;
            all_are_dropped("early").await;
            assert_eq!(history(stage, run.id()).await, before);
            assert_eq!(count(&before, Kind::Done, "work"), 1);
        })
        .await;
}
