//! Waits, and calls that are recorded, each on the store in memory and on a real Redis, with three workers.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::Client;
use stepfleet::history::Kind;
use stepfleet::published::Position;
use stepfleet::run::Status;
use stepfleet::step::OpenWait;
use stepfleet::store::Store;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_integration_tests::signals::{let_go, wait_for_arrival};
use stepfleet_worker::prelude::*;
use stepfleet_worker::runtime::WorkerError;

const LIMIT: Duration = Duration::from_secs(30);
const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");

/// How often something was done, by run and name.
static DONE: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn count(run: &str, name: &str) -> u64 {
    let mut done = DONE.lock().unwrap();
    let count = done.entry(format!("{run} {name}")).or_default();
    *count += 1;
    *count
}

fn counted(run: &str, name: &str) -> u64 {
    DONE.lock().unwrap().get(&format!("{run} {name}")).copied().unwrap_or(0)
}

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    #[serde(default)]
    n: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

#[derive(Deserialize, Serialize)]
struct Approval {
    by: String,
}

/// Does something once, waits, and does something else once.
struct Approved;

#[workflow(start = Asked, stop = Answered)]
impl Approved {
    #[step(timeout = "20s")]
    async fn order(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        let run = ctx.run_id();
        count(run, "outside");
        let reserved = ctx.step("reserve", || async { Ok(count(run, "reserve")) }).await?;
        let approval: Approval = ctx.wait_for("approval").filter("order", ev.n).await?;
        let shipped = ctx.step("ship", || async { Ok(count(run, "ship")) }).await?;
        Ok(Answered { answer: json!([reserved, approval.by, shipped]) })
    }
}

/// Waits for leave to go on before it waits for more.
struct TwoWaits;

#[workflow(start = Asked, stop = Answered)]
impl TwoWaits {
    #[step]
    async fn wait(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        ctx.wait_for::<()>("go").await?;
        let answer = ctx.wait_for("answer").await?;
        Ok(Answered { answer })
    }
}

/// Each branch waits for its own payment, and the joining step for one more.
struct Payments;

#[derive(Event, Serialize, Deserialize)]
struct Bill(u64);

#[derive(Event, Serialize, Deserialize)]
struct Paid(u64, u64);

#[derive(Serialize, Deserialize)]
struct Payment {
    order: u64,
    cents: u64,
}

#[workflow(start = Asked, stop = Answered)]
impl Payments {
    #[step]
    async fn bill(&self, ev: Asked) -> Outcome<Vec<Bill>> {
        Ok((0..ev.n).map(Bill).collect())
    }

    #[step]
    async fn collect(&self, ctx: &Context, ev: Bill) -> Outcome<Paid> {
        let payment: Payment = ctx.wait_for("paid").filter("order", ev.0).await?;
        Ok(Paid(ev.0, payment.cents))
    }

    #[step]
    async fn close(&self, ctx: &Context, all: Joined<Paid>) -> Outcome<Answered> {
        let word: String = ctx.wait_for("close").await?;
        let mut paid: Vec<_> = all.iter().map(|paid| (paid.0, paid.1)).collect();
        paid.sort_unstable();
        Ok(Answered { answer: json!({ "paid": paid, "word": word }) })
    }
}

/// Two waits at the same time; both are answered.
struct Pair;

#[workflow(start = Asked, stop = Answered)]
impl Pair {
    #[step]
    async fn both(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let (left, right) = tokio::try_join!(ctx.wait_for::<u64>("left"), ctx.wait_for::<u64>("right"))?;
        let sum = ctx.step("sum", || async { Ok(left * 10 + right) }).await?;
        Ok(Answered { answer: json!(sum) })
    }
}

/// Counts messages until it is told to stop.
struct Mailbox;

#[workflow(start = Asked, stop = Answered)]
impl Mailbox {
    #[step]
    async fn read(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let mut read: Vec<u64> = Vec::new();
        loop {
            // Which one is looked at first is a matter of chance.
            tokio::select! {
                stop = ctx.wait_for::<String>("stop") => return Ok(Answered { answer: json!([stop?, read]) }),
                message = ctx.wait_for::<u64>("message") => read.push(message?),
            }
            ctx.step("noted", || async { Ok(count(ctx.run_id(), "noted")) }).await?;
        }
    }
}

/// Gives up in time.
struct Impatient;

#[workflow(start = Asked, stop = Answered)]
impl Impatient {
    #[step]
    async fn wait(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        let answer: Outcome<String> = ctx.wait_for("answer").timeout(Duration::from_millis(ev.n)).await;
        match answer {
            Err(error) if error.is_overdue() => {
                ctx.step("sorry", || async { Ok(count(ctx.run_id(), "sorry")) }).await?;
                Ok(Answered { answer: json!("overdue") })
            }
            answer => Ok(Answered { answer: json!(answer?) }),
        }
    }
}

/// Goes on after an error, waits, and is not to be told anything else later.
struct Undeterred;

#[workflow(start = Asked, stop = Answered)]
impl Undeterred {
    #[step(retries = 0)]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let charge = async || match count(ctx.run_id(), "charge") {
            1 => Err(Error::msg("no money")),
            _ => Ok(()),
        };
        let Err(error) = ctx.step("charge", charge).await else { return Err(Terminal("it was tried again"))? };
        let word: String = ctx.wait_for("manual").await?;
        Ok(Answered { answer: json!([error.to_string(), word]) })
    }
}

#[derive(Event, Serialize, Deserialize)]
struct InputRequired {
    prompt: String,
}

/// Asks whoever follows the run.
struct Asker;

#[workflow(start = Asked, stop = Answered)]
impl Asker {
    #[step]
    async fn ask(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let question = InputRequired { prompt: "What is your name?".into() };
        let name: String = ctx.ask("name", question).timeout(Duration::from_secs(3600)).await?;
        ctx.wait_for::<()>("go").await?;
        Ok(Answered { answer: json!(name) })
    }
}

/// Its code is another each time.
struct Fickle;

#[workflow(start = Asked, stop = Answered)]
impl Fickle {
    #[step]
    async fn change(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let name = if count(ctx.run_id(), "attempt") == 1 { "charge" } else { "refund" };
        ctx.step(name, || async { Ok(()) }).await?;
        ctx.wait_for::<()>("go").await?;
        Ok(Answered { answer: Value::Null })
    }
}

/// A call that takes its time beside a wait.
struct Beside;

#[workflow(start = Asked, stop = Answered)]
impl Beside {
    #[step]
    async fn work(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let run = ctx.run_id();
        let slow = ctx.step("slow", || async {
            count(run, "begun");
            while counted(run, "let go") == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(7)
        });
        let (slow, answer) = tokio::try_join!(slow, ctx.wait_for::<u64>("answer"))?;
        Ok(Answered { answer: json!(slow + answer) })
    }
}

/// Waits for what is there already, in every way; then for what is not, and no longer than it must.
struct Served;

#[workflow(start = Asked, stop = Answered)]
impl Served {
    #[step]
    async fn gather(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        let run = ctx.run_id();
        count(run, "bodies");
        let plain: u64 = ctx.wait_for("number").await?;
        let about: Approval = ctx.wait_for("approval").filter("by", "bob").await?;
        let word: String = ctx.ask("word", InputRequired { prompt: "A word?".into() }).await?;
        let pair = tokio::try_join!(ctx.wait_for::<u64>("number"), ctx.wait_for::<u64>("number"))?;
        let (last, slow) = tokio::join!(
            ctx.wait_for::<u64>("number").timeout(Duration::from_secs(3600)),
            ctx.step("slow", || async { Ok(count(run, "slow")) }),
        );
        let first: Option<Vec<Vote>> = ctx.collect("votes", 1, &Vote { n: ev.n }).await?;
        let late: Outcome<u64> = ctx.wait_for("number").timeout(Duration::ZERO).await;
        assert!(late.unwrap_err().is_overdue());
        let numbers = [plain, pair.0, pair.1, last?, slow?];
        Ok(Answered { answer: json!([numbers, about.by, word, first.unwrap().len()]) })
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Vote {
    n: u64,
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker
        .serve(Approved)?
        .serve(TwoWaits)?
        .serve(Payments)?
        .serve(Pair)?
        .serve(Mailbox)?
        .serve(Impatient)?
        .serve(Undeterred)?
        .serve(Asker)?
        .serve(Fickle)?
        .serve(Beside)?
        .serve(Served)
}

/// Waits until the run waits for so many signals.
async fn waiting(store: &dyn Store, run: &str, count: usize) -> Vec<OpenWait> {
    for _ in 0..6000 {
        let waits = store.waits(run).await.unwrap();
        if waits.len() == count {
            return waits;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{run} does not wait for {count} signals: {:?}", store.history(run, 0, 100).await);
}

async fn nothing_is_held(store: &dyn Store) {
    for _ in 0..6000 {
        if store.workers().await.unwrap().iter().all(|worker| worker.held == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("something is held for ever");
}

async fn kinds(stage: &Stage, run: &str, kind: Kind) -> usize {
    stage.store.history(run, 0, 1000).await.unwrap().into_iter().filter(|record| record.kind == kind).count()
}

async fn until(stage: &Stage, run: &str, kind: Kind, count: usize) {
    for _ in 0..6000 {
        if kinds(stage, run, kind).await >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{run}: {:?}", stage.store.history(run, 0, 1000).await);
}

/// Ids that no two plays share.
fn id(stage: &Stage, name: &str) -> String {
    format!("{name}-{}", if stage.redis.is_some() { "redis" } else { "memory" })
}

#[tokio::test(flavor = "multi_thread")]
async fn more_runs_wait_than_there_are_slots_and_what_is_recorded_is_done_once() {
    Both::new(serve)
        .play(async |stage| {
            let ids: Vec<_> = (0..20).map(|n| id(stage, &format!("order-{n}"))).collect();
            let mut runs = Vec::new();
            for (n, id) in ids.iter().enumerate() {
                runs.push(stage.client.start("approved", &json!({ "n": n })).id(id).send().await.unwrap());
            }
            for (n, id) in ids.iter().enumerate() {
                let waits = waiting(&*stage.store, id, 1).await;
                assert_eq!((&*waits[0].name, &*waits[0].step, waits[0].due_ms), ("approval", "order", None));
                assert_eq!(waits[0].filter, [("order".to_owned(), n.to_string())]);
            }
            nothing_is_held(&*stage.store).await;
            assert!(stage.memory.as_ref().is_none_or(|memory| memory.breaches().is_empty()));
            // They are worth nothing to whoever waits for another order.
            for run in &runs {
                run.signal("approval", &json!({ "order": 99, "by": "nobody" })).await.unwrap();
            }
            for (n, run) in runs.iter().enumerate() {
                run.signal("approval", &json!({ "order": n, "by": format!("boss {n}") })).await.unwrap();
            }
            for (n, (run, id)) in runs.iter().zip(&ids).enumerate() {
                let end: Value = run.result(LIMIT).await.unwrap();
                assert_eq!(end["answer"], json!([1, format!("boss {n}"), 1]));
                assert_eq!((counted(id, "reserve"), counted(id, "ship"), counted(id, "outside")), (1, 1, 2));
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_before_its_wait_is_kept() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("two_waits", &json!({})).id("kept").send().await.unwrap();
            waiting(&*stage.store, "kept", 1).await;
            run.signal("answer", &"early").await.unwrap();
            run.signal("go", &()).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], "early");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_before_its_wait_costs_no_attempt() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "served");
            // They are in the inbox before the run is there.
            stage.client.start("served", &json!({})).id(id).delay(Duration::from_millis(300)).send().await.unwrap();
            let run = stage.client.run(id.as_str());
            for n in [1, 2, 3, 4] {
                run.signal("number", &n).await.unwrap();
            }
            run.signal("approval", &json!({ "by": "ann" })).await.unwrap();
            run.signal("approval", &json!({ "by": "bob" })).await.unwrap();
            run.signal("word", &"otter").await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!([[1, 2, 3, 4, 1], "bob", "otter", 1]));
            let history = stage.store.history(id, 0, 1000).await.unwrap();
            let attempts = history.iter().map(|record| record.attempt).max();
            assert_eq!((attempts, counted(id, "bodies"), counted(id, "slow")), (Some(1), 1, 1), "{history:?}");
            let count = |kind| history.iter().filter(|record| record.kind == kind).count();
            assert_eq!((count(Kind::Suspended), count(Kind::Overdue), count(Kind::Done)), (0, 1, 1), "{history:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_comes_while_a_call_is_under_way_costs_no_attempt() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "beside-again");
            let run = stage.client.start("beside", &json!({})).id(id).send().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("answer", &30).await.unwrap();
            until(stage, id, Kind::Signal, 1).await;
            count(id, "let go");
            run.result::<Value>(LIMIT).await.unwrap();
            let history = stage.store.history(id, 0, 1000).await.unwrap();
            assert_eq!(history.iter().map(|record| record.attempt).max(), Some(1), "{history:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_that_wait_for_one_name_get_their_own_signals_in_any_order() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("payments", &json!({ "n": 6 })).id("payments").send().await.unwrap();
            waiting(&*stage.store, "payments", 6).await;
            nothing_is_held(&*stage.store).await;
            for order in (0..6).rev() {
                run.signal("paid", &Payment { order, cents: 100 + order }).await.unwrap();
            }
            until(stage, "payments", Kind::Suspended, 7).await;
            assert_eq!(waiting(&*stage.store, "payments", 1).await[0].step, "close");
            run.signal("close", &"done").await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            let paid: Vec<_> = (0..6).map(|order| (order, 100 + order)).collect();
            assert_eq!(end["answer"], json!({ "paid": paid, "word": "done" }));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_waits_at_a_time_are_answered_in_any_order() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("pair", &json!({})).id("pair").send().await.unwrap();
            waiting(&*stage.store, "pair", 2).await;
            run.signal("right", &2).await.unwrap();
            until(stage, "pair", Kind::Suspended, 2).await;
            run.signal("left", &1).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], 12);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_loses_a_race_loses_no_signal() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "mailbox");
            let run = stage.client.start("mailbox", &json!({})).id(id).send().await.unwrap();
            waiting(&*stage.store, id, 2).await;
            for n in 0..5 {
                run.signal("message", &n).await.unwrap();
            }
            until(stage, id, Kind::Suspended, 2).await;
            run.signal("stop", &"enough").await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            let read: Vec<u64> = serde_json::from_value(end["answer"][1].clone()).unwrap();
            assert_eq!(end["answer"][0], "enough");
            assert_eq!(read, (0..read.len() as u64).collect::<Vec<_>>(), "in order, and none twice");
            assert_eq!(counted(id, "noted"), read.len() as u64, "each once");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_wait() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "impatient");
            let run = stage.client.start("impatient", &json!({ "n": 30 })).id(id).send().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!((end["answer"].clone(), counted(id, "sorry")), (json!("overdue"), 1));
            assert_eq!(kinds(stage, id, Kind::Overdue).await, 1);

            let run = stage.client.start("impatient", &json!({ "n": 3_600_000 })).id("patient").send().await.unwrap();
            let waits = waiting(&*stage.store, "patient", 1).await;
            let left = waits[0].due_ms.unwrap() - stage.store.now_ms().await.unwrap();
            assert!((3_500_000..=3_600_000).contains(&left), "{left}");
            run.signal("answer", &"in time").await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], "in time");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_a_body_has_gone_on_with_is_the_same_for_ever() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "undeterred");
            let run = stage.client.start("undeterred", &json!({})).id(id).send().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("manual", &"by hand").await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!((end["answer"].clone(), counted(id, "charge")), (json!(["no money", "by hand"]), 1));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_published_once_and_waits_for_its_answer() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("asker", &json!({})).id("asker").send().await.unwrap();
            let waits = waiting(&*stage.store, "asker", 1).await;
            assert!(waits[0].name == "name" && waits[0].due_ms.is_some());
            run.signal("name", &"Ada").await.unwrap();
            until(stage, "asker", Kind::Suspended, 2).await;
            run.signal("go", &()).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], "Ada");
            let published = stage.store.published("asker", Position::BEGINNING, 100).await.unwrap();
            let questions = published.iter().filter(|entry| format!("{entry:?}").contains("InputRequired")).count();
            assert_eq!(questions, 1, "{published:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_has_changed_is_told_so() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "fickle");
            let run = stage.client.start("fickle", &json!({})).id(id).send().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("go", &()).await.unwrap();
            let ended = run.wait(LIMIT).await.unwrap();
            let error = ended.error.unwrap();
            assert_eq!(ended.status, Status::Failed);
            assert!(
                error.contains("the call \"refund\" now") && error.contains("the call \"charge\" there"),
                "{error}"
            );
            assert_eq!(counted(id, "attempt"), 2, "no retry would help");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_beside_a_wait_is_not_cut_off_and_the_wait_can_be_seen_meanwhile() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "beside");
            let run = stage.client.start("beside", &json!({})).id(id).send().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("answer", &30).await.unwrap();
            until(stage, id, Kind::Signal, 1).await;
            assert_eq!(stage.store.run(id).await.unwrap().unwrap().status, Status::Running);
            count(id, "let go");
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!((end["answer"].clone(), counted(id, "begun")), (json!(37), 1));
        })
        .await;
}

fn three_workers(fleet: &Fleet) -> Vec<Process> {
    (0..3).map(|_| fleet.worker(WORKER, &[("STEPFLEET_CONCURRENCY", "1")])).collect()
}

async fn answer(fleet: &Fleet, run: &str) -> String {
    let end: Value = fleet.client.run(run).result(LIMIT).await.unwrap();
    end["answer"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_was_recorded_outlives_a_worker_that_is_killed() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut workers = three_workers(&fleet);
    fleet.workers_ready(3).await;
    let mut redis = fleet.redis.connection().await;
    let run = fleet.client.start("gated_wait", &json!({ "n": 3_600_000 })).id("killed").send().await.unwrap();
    let pid = wait_for_arrival(&mut redis, "killed").await;
    workers.iter_mut().find(|worker| worker.id() == pid).unwrap().kill();
    let other = wait_for_arrival(&mut redis, "killed").await;
    assert_ne!(other, pid);
    // One each for the attempt that is there and for the one after the signal.
    let_go(&mut redis, "killed", 2).await;
    waiting(&*fleet.store, "killed", 1).await;
    // The one that has begun to wait may be killed too: nobody holds it.
    nothing_is_held(&*fleet.store).await;
    workers.iter_mut().find(|worker| worker.id() == other).unwrap().kill();
    run.signal("approval", &"fine").await.unwrap();
    assert_eq!(answer(&fleet, "killed").await, "reserved 1 times, fine");
}

#[tokio::test]
async fn waits_and_their_deadlines_outlive_a_restart_of_everything() {
    let mut fleet = Fleet::on(TestRedis::process().await);
    let mut coordinator = fleet.coordinator_process(STEPFLEET);
    let mut workers = three_workers(&fleet);
    fleet.workers_ready(3).await;
    let mut redis = fleet.redis.connection().await;
    for (id, limit) in [("late", 5000), ("answered", 3_600_000)] {
        fleet.client.start("gated_wait", &json!({ "n": limit })).id(id).send().await.unwrap();
        let_go(&mut redis, id, 2).await;
    }
    let mut before = Vec::new();
    for id in ["late", "answered"] {
        before.extend(waiting(&*fleet.store, id, 1).await);
    }
    nothing_is_held(&*fleet.store).await;
    workers.iter_mut().for_each(Process::kill);
    coordinator.kill();
    fleet.redis.kill();
    fleet.redis.start_again().await;
    fleet.store = fleet.another_store();
    fleet.client = Client::with_store(fleet.store.clone());
    let mut after = Vec::new();
    for id in ["late", "answered"] {
        after.extend(fleet.store.waits(id).await.unwrap());
    }
    assert_eq!(after, before);
    let _coordinator = fleet.coordinator_process(STEPFLEET);
    let _workers = three_workers(&fleet);
    assert_eq!(answer(&fleet, "late").await, "reserved 1 times, overdue");
    let ended = fleet.client.run("late").status().await.unwrap().unwrap();
    assert!(ended.finished_ms >= before[0].due_ms, "{ended:?}");

    let mut show =
        Process::start(std::path::Path::new(STEPFLEET), &["--redis", &fleet.redis.url, "show", "answered"], &[]);
    assert!(
        show.ended().await.success() && show.log().contains("the signal approval, in step order"),
        "{}",
        show.log()
    );
    fleet.client.run("answered").signal("approval", &"fine").await.unwrap();
    assert_eq!(answer(&fleet, "answered").await, "reserved 1 times, fine");
}
