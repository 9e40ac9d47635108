//! Bodies that have read what others changed meanwhile: they run again.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::buggy::{Buggy, When};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::redis::connect;
use stepfleet_integration_tests::until;
use stepfleet_shared::store::ReaderStore;
use tokio_util::sync::CancellationToken;

use super::{Answered, Asked, Done, LIMIT, MEETINGS, Part, meeting};

/// Each branch gets a number that no other gets.
struct Tickets;

#[workflow(start = Asked, stop = Answered)]
impl Tickets {
    #[step]
    async fn part(&self, ev: Asked) -> Outcome<Vec<Part>> {
        Ok((1..=ev.n).map(Part).collect())
    }

    #[step]
    async fn draw(&self, ctx: &Context, _: Part) -> Outcome<Done> {
        let met = meeting(ctx.run_id());
        let next = |last: &mut u64| {
            *last += 1;
            *last
        };
        let ticket = ctx.state().edit_field("last", next).await?;
        if met.bodies <= 2 {
            met.barrier.unwrap().wait().await;
        }
        Ok(Done(ticket))
    }

    #[step]
    async fn sum(&self, all: Joined<Done>) -> Outcome<Answered> {
        let mut tickets: Vec<u64> = all.iter().map(|done| done.0).collect();
        tickets.sort_unstable();
        Ok(Answered { answer: json!(tickets) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_gets_another_answer_runs_again() {
    Both::new(|worker| worker.serve(Tickets))
        .play(async |stage| {
            let id = format!("tickets-{}", if stage.redis.is_some() { "redis" } else { "memory" });
            let run = stage.client.start("tickets", &json!({"n": 20})).id(&id).enqueue().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!((1..=20).collect::<Vec<u64>>()));
            let bodies = MEETINGS.lock().unwrap()[&id].bodies;
            assert!(bodies > 20, "the first two have drawn the same, and one of them ran again: {bodies}");
        })
        .await;
}

/// Two branches that have read the same value when they both write it.
struct Rivals;

#[workflow(start = Asked, stop = Answered)]
impl Rivals {
    #[step]
    async fn part(&self, _ev: Asked) -> Outcome<Vec<Part>> {
        Ok(vec![Part(1), Part(2)])
    }

    #[step]
    async fn write(&self, ctx: &Context, ev: Part) -> Outcome<Done> {
        let (state, met) = (ctx.state(), meeting(ctx.run_id()));
        let value = ctx
            .step("call", || async {
                MEETINGS.lock().unwrap().get_mut(ctx.run_id()).unwrap().calls += 1;
                Ok(ev.0)
            })
            .await?;
        // Not part of what was read: it must be undone with the rest.
        state.set("last", &ev.0).await?;
        state.push("tries", &met.bodies).await?;
        let order: Vec<u64> = state.get("order").await?.unwrap_or_default();
        let order = [order, vec![value]].concat();
        state.edit_field("order", move |now: &mut Vec<u64>| now.clone_from(&order)).await?;
        if met.bodies <= 2 {
            met.barrier.unwrap().wait().await;
        }
        if ev.0 == 2 {
            ctx.checkpoint().await?;
        }
        Ok(Done(ev.0))
    }

    #[step]
    async fn sum(&self, ctx: &Context, _all: Joined<Done>) -> Outcome<Answered> {
        let state = ctx.state();
        let order: Vec<u64> = state.get("order").await?.unwrap_or_default();
        let last: u64 = state.get("last").await?.unwrap_or_default();
        let tries: Vec<usize> = state.get("tries").await?.unwrap_or_default();
        Ok(Answered { answer: json!([order, last, tries]) })
    }
}

fn serve_rivals(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Rivals)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_knows_what_others_have_changed_runs_again_and_leaks_nothing() {
    Both::new(serve_rivals)
        .play(async |stage| {
            for round in 0..20 {
                let id = format!("{}-{round}", if stage.redis.is_some() { "redis" } else { "memory" });
                let run = stage.client.start("rivals", &json!({"n": 0})).id(id.clone()).enqueue().await.unwrap();
                let end: Value = run.result(LIMIT).await.unwrap();
                let (mut order, last, tries): (Vec<u64>, u64, Vec<usize>) =
                    serde_json::from_value(end["answer"].clone()).unwrap();
                assert_eq!(order.last(), Some(&last));
                order.sort_unstable();
                assert_eq!((order, tries.len()), (vec![1, 2], 2), "one of the three bodies left nothing behind");
                assert_eq!(tries.last(), Some(&3), "the one that ran again came last");
                let met = MEETINGS.lock().unwrap()[&id].clone();
                assert_eq!((met.bodies, met.calls), (3, 2), "what was recorded was not done again");
            }
        })
        .await;
}

/// A step that others overtake again and again.
struct Unlucky;

/// The Redis of the one run of it.
static REDIS: OnceLock<redis::Client> = OnceLock::new();

#[workflow(start = Asked, stop = Answered)]
impl Unlucky {
    #[step(retries = 0)]
    async fn write(&self, ctx: &Context, _ev: Asked) -> Outcome<Answered> {
        let met = meeting(ctx.run_id());
        let known: usize = ctx.state().get("field").await?.unwrap_or_default();
        ctx.state().edit_field("field", move |field: &mut usize| *field = known + 1).await?;
        // Changed by another client meanwhile.
        let mut redis = connect(REDIS.get().unwrap()).await?;
        let context = format!("sf:{{0}}:context:{}", ctx.run_id());
        redis::cmd("HSET").arg(context).arg("field").arg(met.bodies).exec_async(&mut redis).await?;
        Ok(Answered { answer: json!(met.bodies) })
    }
}

fn serve_unlucky(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Unlucky)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_always_overtaken_fails_in_the_end() {
    let fleet = Fleet::new().await;
    REDIS.set(redis::Client::open(fleet.redis.url.as_str()).unwrap()).unwrap();
    let _coordinator = fleet.coordinator();
    let worker = serve_unlucky(Worker::new(fleet.another_store(), stepfleet::Config::default())).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(worker.run_until(stop.clone().cancelled_owned()));
    let run = fleet.client.start("unlucky", &json!({"n": 0})).enqueue().await.unwrap();
    let end = run.wait(LIMIT).await.unwrap();
    let error = end.error.unwrap();
    assert!(error.contains("1000 times in a row") && error.contains("edit_field"), "{error}");
    assert_eq!((end.error_attempt, meeting(run.id()).bodies), (Some(1), 1002));
    stop.cancel();
    task.await.unwrap().unwrap();
}

/// One step makes a call and a checkpoint beside each other, and the other overtakes it.
struct Overtaken;

/// The store of the one worker that serves it.
static STORE: Mutex<Option<Buggy>> = Mutex::new(None);
/// The result that each of its bodies got from its call.
static DRAWN: Mutex<Vec<usize>> = Mutex::new(Vec::new());

#[derive(Event, Serialize, Deserialize)]
struct Ended(Vec<usize>);

impl Overtaken {
    /// Returns once the call is recorded; the first body does not learn of it.
    async fn recorded() {
        while STORE.lock().unwrap().as_ref().unwrap().left() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn overtaken(run: &str) {
        let store = STORE.lock().unwrap().clone().unwrap();
        while store.context(run).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Another number each time.
    fn draw(run: &str) -> usize {
        let mut meetings = MEETINGS.lock().unwrap();
        let met = meetings.entry(run.to_owned()).or_default();
        met.calls += 1;
        met.calls
    }

    async fn commit(ctx: &Context) -> Outcome<()> {
        let known: u64 = ctx.state().get("field").await?.unwrap_or_default();
        ctx.state().edit_field("field", move |field: &mut u64| *field = known + 1).await?;
        Self::recorded().await;
        Self::overtaken(ctx.run_id()).await;
        ctx.checkpoint().await
    }
}

#[workflow(start = Asked, stop = Ended)]
impl Overtaken {
    #[step]
    async fn write(&self, ctx: &Context, _ev: Asked) -> Outcome<()> {
        Self::recorded().await;
        ctx.state().set("field", &1).await
    }

    #[step]
    async fn read(&self, ctx: &Context, _ev: Asked) -> Outcome<Ended> {
        let call = ctx.step("draw", async || Ok(Self::draw(ctx.run_id())));
        let (drawn, ()) = tokio::try_join!(call, Self::commit(ctx))?;
        DRAWN.lock().unwrap().push(drawn);
        // A later attempt gets the recorded result.
        ctx.wait_for::<()>("go").await?;
        Ok(Ended(std::mem::take(&mut *DRAWN.lock().unwrap())))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_record_is_on_its_way_when_the_body_runs_again_is_not_made_again() {
    Both::new(|worker| worker.serve(Overtaken))
        .workers(0)
        .play(async |stage| {
            let id = format!("overtaken-{}", if stage.redis.is_some() { "redis" } else { "memory" });
            let store = Buggy::new(stage.another_store(), "checkpoint", When::Never, 1);
            STORE.lock().unwrap().replace(store.clone());
            stage.add_worker_on(Arc::new(store), Duration::from_secs(10));
            let run = stage.client.start("overtaken", &json!({"n": 0})).id(&id).enqueue().await.unwrap();
            until(async || run.waits().await.unwrap().len() == 1).await;
            run.signal("go", &()).await.unwrap();
            let drawn: Vec<usize> = run.result(LIMIT).await.unwrap();
            assert_eq!(drawn, [1, 1], "the body that ran again, and the one after the wait");
            assert_eq!(MEETINGS.lock().unwrap()[&id].calls, 1);
        })
        .await;
}
