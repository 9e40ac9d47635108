//! The context of a run, each on the store in memory and on a real Redis, with three workers or more.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::run::Status;
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::documents::STOPS;
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_worker::prelude::*;
use stepfleet_worker::runtime::WorkerError;
use stepfleet_worker::testing;
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(60);
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    n: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

#[derive(Event, Serialize, Deserialize)]
struct Part(u64);

#[derive(Event, Serialize, Deserialize)]
struct Written;

/// Every operation, and what another step sees of it.
struct Operations;

#[workflow(start = Asked, stop = Answered)]
impl Operations {
    #[step]
    async fn write(&self, ctx: &Context, _ev: Asked) -> Outcome<Written> {
        let state = ctx.state();
        state.set("user", &json!({"name": "a", "orders": [{"id": 7}]})).await?;
        state.set("user.address.city", "b").await?;
        state.set("user.orders.0.id", &8).await?;
        state.remove("user.name").await?;
        state.set("gone", &1).await?;
        state.remove("gone").await?;
        assert_eq!(state.incr("count", 5).await?, 5);
        assert_eq!(state.incr("count", -2).await?, 3);
        state.push("log", "first").await?;
        state.push("log", &2).await?;
        state.insert("seen", "x", &1).await?;
        state.insert("seen", "x", &2).await?;
        state.insert("seen", "y", &json!([])).await?;
        state.edit_field("price", |price: &mut f64| *price += 1.5).await?;
        assert_eq!(state.get::<Value>("seen.x").await?, Some(json!(2)));
        let wrong = state.push("price", &1).await.unwrap_err();
        assert!(wrong.is_terminal() && wrong.to_string().contains("field price is no list"), "{wrong}");
        let wrong = state.get::<u8>("price.low").await.unwrap_err();
        assert!(wrong.is_terminal() && wrong.to_string().contains("field price is no map"), "{wrong}");
        Ok(Written)
    }

    #[step]
    async fn read(&self, ctx: &Context, _ev: Written) -> Outcome<Cleared> {
        let state = ctx.state();
        assert_eq!(state.fields().await?, ["count", "log", "price", "seen", "user"]);
        assert_eq!(state.get("user").await?, Some(json!({"orders": [{"id": 8}], "address": {"city": "b"}})));
        assert_eq!(state.get("user.address.city").await?, Some("b".to_owned()));
        assert_eq!((state.get("count").await?, state.get("price").await?), (Some(3u8), Some(1.5f64)));
        assert_eq!(state.get("log").await?, Some(json!(["first", 2])));
        assert_eq!(state.get("seen").await?, Some(json!({"x": 2, "y": []})));
        assert_eq!(state.get::<u8>("gone").await?, None);
        state.clear().await?;
        state.incr("left", 1).await?;
        assert_eq!(state.fields().await?, ["left"]);
        Ok(Cleared)
    }

    #[step]
    async fn look(&self, ctx: &Context, _ev: Cleared) -> Outcome<Answered> {
        Ok(Answered { answer: json!(ctx.state().fields().await?) })
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Cleared;

fn serve_operations(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Operations)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_what_the_next_step_reads() {
    Both::new(serve_operations)
        .play(async |stage| {
            let run = stage.client.start("operations", &json!({"n": 0})).send().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!(["left"]));
        })
        .await;
}

/// Many branches that change the same fields in every way that loses nothing.
struct Crowd;

#[derive(Serialize, Deserialize, Default)]
struct Tally {
    total: u64,
    count: u64,
    log: Vec<u64>,
    seen: HashMap<String, u64>,
    nested: HashMap<String, HashMap<String, u64>>,
}

#[workflow(start = Asked, stop = Answered)]
impl Crowd {
    #[step]
    async fn part(&self, ev: Asked) -> Outcome<Vec<Part>> {
        Ok((1..=ev.n).map(Part).collect())
    }

    #[step]
    async fn change(&self, ctx: &Context<Tally>, ev: Part) -> Outcome<Done> {
        let state = ctx.state();
        state.incr("count", 1).await?;
        state.push("log", &ev.0).await?;
        state.insert("seen", &ev.0.to_string(), &ev.0).await?;
        match ev.0 % 3 {
            0 => state.edit(move |tally| tally.total += ev.0).await?,
            1 => state.edit_field("total", move |total: &mut u64| *total += ev.0).await?,
            _ => {
                let total: u64 = state.get("total").await?.unwrap_or(0);
                state.edit_field("total", move |now: &mut u64| *now = total + ev.0).await?;
            }
        }
        state.set(&format!("nested.{}.{}", ev.0 % 7, ev.0), &ev.0).await?;
        Ok(Done(ev.0))
    }

    #[step]
    async fn sum(&self, ctx: &Context<Tally>, _all: Joined<Done>) -> Outcome<Answered> {
        Ok(Answered { answer: json!(ctx.state().load().await?) })
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Done(u64);

fn serve_crowd(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Crowd)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_branches_on_ten_workers_lose_nothing() {
    const BRANCHES: u64 = 200;
    Both::new(serve_crowd)
        .workers(10)
        .play(async |stage| {
            let run = stage.client.start("crowd", &json!({"n": BRANCHES})).send().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            let mut tally: Tally = serde_json::from_value(end["answer"].clone()).unwrap();
            tally.log.sort_unstable();
            let all: Vec<u64> = (1..=BRANCHES).collect();
            assert_eq!((tally.total, tally.count), (all.iter().sum(), BRANCHES));
            assert_eq!(tally.log, all);
            assert_eq!(tally.seen.len() as u64, BRANCHES);
            assert_eq!(tally.nested.values().map(|part| part.len() as u64).sum::<u64>(), BRANCHES);
            let history = stage.store.history(run.id(), 0, 10_000).await.unwrap();
            let attempts = history.iter().filter(|record| record.step == "change").map(|record| record.attempt);
            assert_eq!(attempts.max(), Some(1), "a conflict is no new attempt");
        })
        .await;
}

/// Many branches whose bodies need not know what they change: in every kind of transaction, and with checkpoints.
struct Contended;

#[workflow(start = Asked, stop = Answered)]
impl Contended {
    #[step]
    async fn part(&self, ev: Asked) -> Outcome<Vec<Part>> {
        Ok((1..=ev.n).map(Part).collect())
    }

    #[step]
    async fn change(&self, ctx: &Context<Tally>, ev: Part) -> Outcome<Done> {
        let (state, met) = (ctx.state(), meeting(ctx.run_id()));
        let (n, name) = (ev.0, ev.0.to_string());
        match n % 5 {
            0 => state.edit(move |tally| tally.total += n).await?,
            1 => state.set(&format!("nested.all.{n}"), &n).await?,
            2 => {
                state.set(&format!("nested.gone.{n}"), &n).await?;
                ctx.checkpoint().await?;
                state.remove(&format!("nested.gone.{n}")).await?;
                state.edit_field("total", move |total: &mut u64| *total += n).await?;
            }
            _ => state.edit_field("total", move |total: &mut u64| *total += n).await?,
        }
        state.edit_field("log", move |log: &mut Vec<u64>| log.push(n)).await?;
        state.insert("seen", &name, &n).await?;
        // Whoever comes first has read what the others have read.
        if met.bodies <= 2 {
            met.barrier.unwrap().wait().await;
        }
        Ok(Done(n))
    }

    #[step]
    async fn sum(&self, ctx: &Context<Tally>, _all: Joined<Done>) -> Outcome<Answered> {
        Ok(Answered { answer: json!(ctx.state().load().await?) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_of_two_hundred_branches_run_no_body_again() {
    const BRANCHES: u64 = 200;
    Both::new(|worker| worker.serve(Contended))
        .play(async |stage| {
            let id = format!("contended-{}", if stage.redis.is_some() { "redis" } else { "memory" });
            let run = stage.client.start("contended", &json!({"n": BRANCHES})).id(&id).send().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            let mut tally: Tally = serde_json::from_value(end["answer"].clone()).unwrap();
            tally.log.sort_unstable();
            let all: Vec<u64> = (1..=BRANCHES).collect();
            assert_eq!(tally.log, all, "each edit counts once");
            assert_eq!(tally.total, all.iter().filter(|n| *n % 5 != 1).sum::<u64>());
            assert_eq!(tally.seen.len() as u64, BRANCHES);
            assert_eq!(tally.nested["all"].len(), all.iter().filter(|n| *n % 5 == 1).count());
            assert!(tally.nested["gone"].is_empty());
            let bodies = MEETINGS.lock().unwrap()[&id].bodies;
            assert_eq!(bodies as u64, BRANCHES, "a body ran again");
        })
        .await;
}

/// Each branch is told a number that no other is told.
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
async fn a_body_that_is_told_another_answer_runs_again() {
    Both::new(|worker| worker.serve(Tickets))
        .play(async |stage| {
            let id = format!("tickets-{}", if stage.redis.is_some() { "redis" } else { "memory" });
            let run = stage.client.start("tickets", &json!({"n": 20})).id(&id).send().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!((1..=20).collect::<Vec<u64>>()));
            let bodies = MEETINGS.lock().unwrap()[&id].bodies;
            assert!(bodies > 20, "the first two have drawn the same, and one of them ran again: {bodies}");
        })
        .await;
}

/// Two branches that have read the same when they both write it.
struct Rivals;

/// How often bodies ran, and where they meet, by run.
static MEETINGS: LazyLock<Mutex<HashMap<String, Meeting>>> = LazyLock::new(Mutex::default);

#[derive(Clone, Default)]
struct Meeting {
    barrier: Option<Arc<Barrier>>,
    bodies: usize,
    /// What was done within `ctx.step`.
    calls: usize,
}

fn meeting(run: &str) -> Meeting {
    let mut meetings = MEETINGS.lock().unwrap();
    let meeting = meetings.entry(run.to_owned()).or_default();
    meeting.barrier.get_or_insert_with(|| Arc::new(Barrier::new(2)));
    meeting.bodies += 1;
    meeting.clone()
}

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
        // Not part of what was read: it must be undone where the rest is.
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
                let run = stage.client.start("rivals", &json!({"n": 0})).id(id.clone()).send().await.unwrap();
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
        // By somebody else, behind its back.
        let mut redis = REDIS.get().unwrap().get_multiplexed_async_connection().await?;
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
    let worker = serve_unlucky(Worker::new(fleet.another_store(), stepfleet_worker::Config::default())).unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(worker.run_until(stop.clone().cancelled_owned()));
    let run = fleet.client.start("unlucky", &json!({"n": 0})).send().await.unwrap();
    let end = run.wait(LIMIT).await.unwrap();
    let error = end.error.unwrap();
    assert!(error.contains("each of 1000 times") && error.contains("edit_field"), "{error}");
    assert_eq!((end.error_attempt, meeting(run.id()).bodies), (Some(1), 1002));
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_step_goes_on_at_the_document_that_it_had_reached() {
    const DOCUMENTS: u64 = 300;
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut workers: Vec<_> = (0..3).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(3).await;
    let run = fleet.client.start("documents", &json!({"n": DOCUMENTS})).id("long").send().await.unwrap();
    let mut redis = fleet.redis.connection().await;
    for stop in STOPS {
        let victim = wait_for_arrival(&mut redis, "long").await;
        let snapshot = run.snapshot().await.unwrap().unwrap();
        assert_eq!(snapshot.context["done"], stop - 1, "others see what was committed");
        let at = workers.iter().position(|worker| worker.id() == victim).unwrap();
        workers.remove(at).kill();
        wait_for_arrival(&mut redis, "long").await;
        let_go(&mut redis, "long", 1).await;
    }
    let end: Value = run.result(LIMIT).await.unwrap();
    assert_eq!(end["answer"], "300 read, attempt 3");
    let read: Vec<u64> = redis::cmd("LRANGE").arg("read:long").arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    // Only what was under way when its worker died was read twice.
    let mut expected: Vec<u64> = (1..=DOCUMENTS).chain(STOPS).collect();
    expected.sort_unstable();
    assert_eq!(read, expected);
}

/// The same in memory: its worker dies at a checkpoint, before it took effect and after.
struct Reader;

static READ: Mutex<Vec<u64>> = Mutex::new(Vec::new());

#[workflow(start = Asked, stop = Answered)]
impl Reader {
    #[step]
    async fn read(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        let from: u64 = ctx.state().get("done").await?.unwrap_or(0);
        for document in from + 1..=ev.n {
            READ.lock().unwrap().push(document);
            ctx.state().incr("done", 1).await?;
            ctx.checkpoint().await?;
        }
        Ok(Answered { answer: json!(ctx.attempt()) })
    }
}

#[tokio::test]
async fn a_long_step_goes_on_at_the_document_that_it_had_reached_in_memory() {
    let setup = testing::run(Reader).crash_before_commit("read", 150).crash_after_commit("read", 220);
    let run = setup.start(&Asked { n: 300 }).await;
    assert_eq!(run.result::<Answered>().answer, 3);
    let mut expected: Vec<u64> = (1..=300).chain([150]).collect();
    expected.sort_unstable();
    assert_eq!(*READ.lock().unwrap(), expected);
}

/// Answers how much its context counts.
struct Counter;

#[workflow(start = Asked, stop = Answered)]
impl Counter {
    #[step]
    async fn count(&self, ctx: &Context, _ev: Asked) -> Outcome<Answered> {
        Ok(Answered { answer: json!(ctx.state().incr("count", 1).await?) })
    }
}

fn serve_counter(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Counter)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_worker_keep_their_context_and_its_source() {
    Both::new(serve_counter)
        .workers(0)
        .play(async |stage| {
            let start = || stage.client.start("counter", &json!({"n": 0}));
            let all = [start().context_from("b").id("c"), start().context_from("a").id("b"), start().id("a")];
            let mut runs = Vec::new();
            for start in all {
                runs.push(start.context(&json!({"count": 5})).send().await.unwrap());
            }
            while stage.store.deferred().await.unwrap().len() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stage.add_worker();
            for run in runs {
                assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["answer"], 6, "{}", run.id());
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_rejected_is_no_source() {
    Both::new(serve_counter)
        .play(async |stage| {
            let fields = [("op", "start"), ("workflow", "counter"), ("context", "[1]"), ("id", "bad")];
            let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            stage.store.enqueue(&fields).await.unwrap();
            assert_eq!(stage.client.run("bad").wait(LIMIT).await.unwrap().status, Status::Rejected);
            let run =
                stage.client.start("counter", &json!({"n": 0})).context_from("bad").id("also").send().await.unwrap();
            let end = run.wait(LIMIT).await.unwrap();
            assert_eq!(end.status, Status::Rejected);
            assert!(end.error.unwrap().contains("run bad"));
        })
        .await;
}
