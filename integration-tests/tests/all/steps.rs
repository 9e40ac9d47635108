//! Steps and routing, each on the store in memory and on a real Redis, with three workers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::history::{Kind, Record};
use stepfleet::run::Status;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_worker::prelude::*;
use stepfleet_worker::runtime::WorkerError;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize, Clone)]
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
struct Number(u64);

/// Each part has two takers.
struct TwoTakers;

#[workflow(start = Asked, stop = Answered)]
impl TwoTakers {
    #[step]
    async fn parts(&self, ev: Asked) -> Outcome<Vec<Part>> {
        Ok((0..ev.n).map(Part).collect())
    }

    #[step]
    async fn once(&self, ev: Part) -> Outcome<Number> {
        Ok(Number(ev.0))
    }

    #[step]
    async fn twice(&self, ev: Part) -> Outcome<Number> {
        Ok(Number(ev.0 * 100))
    }

    #[step]
    async fn sum(&self, all: Joined<Number>) -> Outcome<Answered> {
        Ok(Answered { answer: json!(all.iter().map(|n| n.0).sum::<u64>()) })
    }
}

/// Sends parts to all who take them, and more to one of them; answers who got what once nothing is left.
struct Sender;

#[derive(Event, Serialize, Deserialize)]
struct Note(String);

#[workflow(start = Asked, stop = Answered)]
impl Sender {
    #[step(sends = [Part])]
    async fn plan(&self, ctx: &Context, ev: Asked) -> Outcome<Vec<Note>> {
        match ev.n {
            0 => ctx.send_to("nobody", &Part(1))?,
            1 => ctx.send_to("gather", &Part(1))?,
            2 => ctx.send(&Note(String::new()))?,
            3 => ctx.send(&Answered { answer: Value::Null })?,
            4 => ctx.send(&ev)?,
            _ => {
                ctx.send(&Part(1))?;
                ctx.send_to("right", &Part(2))?;
            }
        }
        Ok(vec![Note("returned".into())])
    }

    #[step]
    async fn left(&self, ev: Part) -> Outcome<Note> {
        Ok(Note(format!("left {}", ev.0)))
    }

    #[step]
    async fn right(&self, ev: Part) -> Outcome<Note> {
        Ok(Note(format!("right {}", ev.0)))
    }

    #[step]
    async fn gather(&self, notes: Joined<Note>) -> Outcome<Answered> {
        let mut notes: Vec<_> = notes.iter().map(|note| note.0.clone()).collect();
        notes.sort();
        Ok(Answered { answer: json!(notes) })
    }
}

/// Branches that are quick or never end; the first two are enough. An inner fan-out is dropped with them.
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

/// How many bodies that never end are under way in a run.
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

/// Two parts of an order come in any order, several times; each complete set is shipped.
struct Orders;

#[derive(Event, Serialize, Deserialize)]
struct Payment(u64);
#[derive(Event, Serialize, Deserialize)]
struct Packet(u64);
#[derive(Event, Serialize, Deserialize)]
struct Shipped(u64);

#[workflow(start = Asked, stop = Answered)]
impl Orders {
    #[step(sends = [Payment])]
    async fn pay(&self, ctx: &Context, ev: Asked) -> Outcome<()> {
        (1..=ev.n).try_for_each(|n| ctx.send(&Payment(n)))
    }

    #[step(sends = [Packet])]
    async fn pack(&self, ctx: &Context, ev: Asked) -> Outcome<()> {
        (1..=ev.n).try_for_each(|n| ctx.send(&Packet(n * 10)))
    }

    #[step]
    async fn ship(&self, set: Joined<(Payment, Packet)>) -> Outcome<Shipped> {
        let (payment, packet) = set.into_set();
        Ok(Shipped(payment.0 + packet.0))
    }

    #[step(concurrency = 1)]
    async fn count(&self, ctx: &Context, ev: Shipped) -> Outcome<Option<Answered>> {
        let mut shipped: Vec<u64> = ctx.state().get("shipped").await?.unwrap_or_default();
        shipped.push(ev.0);
        shipped.sort_unstable();
        ctx.state().set("shipped", &shipped).await?;
        Ok((shipped.len() == 3).then(|| Answered { answer: json!(shipped) }))
    }
}

/// A step of which at most so many execute at once, in whatever worker; and one that keeps its order.
struct Narrow;

#[derive(Event, Serialize, Deserialize)]
struct Item(u64);
#[derive(Event, Serialize, Deserialize)]
struct Through(u64);
#[derive(Event, Serialize, Deserialize)]
struct Ordered(u64);

static AT_ONCE: AtomicU64 = AtomicU64::new(0);
static MOST: AtomicU64 = AtomicU64::new(0);

#[workflow(start = Asked, stop = Answered)]
impl Narrow {
    #[step]
    async fn items(&self, ev: Asked) -> Outcome<Vec<Item>> {
        Ok((0..ev.n).map(Item).collect())
    }

    #[step(concurrency = 3, retries = 5, backoff = "1ms", max_backoff = "2ms")]
    async fn pass(&self, ctx: &Context, ev: Item) -> Outcome<Through> {
        let now = AT_ONCE.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(now, Ordering::SeqCst);
        // Others have every chance to come in between.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        AT_ONCE.fetch_sub(1, Ordering::SeqCst);
        if ev.0.is_multiple_of(7) && ctx.attempt() == 1 {
            return Err(Error::msg("once more"));
        }
        Ok(Through(ev.0))
    }

    #[step(concurrency = 1, retries = 5, backoff = "1ms", max_backoff = "2ms")]
    async fn order(&self, ctx: &Context, ev: Item) -> Outcome<Ordered> {
        if ev.0.is_multiple_of(5) && ctx.attempt() == 1 {
            return Err(Error::msg("once more"));
        }
        let mut seen: Vec<u64> = ctx.state().get("order").await?.unwrap_or_default();
        seen.push(ev.0);
        ctx.state().set("order", &seen).await?;
        Ok(Ordered(ev.0))
    }

    #[step]
    async fn all(&self, ctx: &Context, through: Joined<Through>) -> Outcome<()> {
        ctx.state().set("through", &through.len()).await
    }

    #[step]
    async fn end(&self, ctx: &Context, ordered: Joined<Ordered>) -> Outcome<Answered> {
        let order: Vec<u64> = ctx.state().get("order").await?.unwrap_or_default();
        Ok(Answered { answer: json!({ "order": order, "count": ordered.len() }) })
    }
}

/// One step ends the run while others are at work.
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

/// Waits for events from outside, as often as it takes.
struct Desk;

#[derive(Event, Serialize, Deserialize)]
struct Visitor {
    name: String,
}
#[derive(Event, Serialize, Deserialize)]
struct Close;

#[workflow(start = Asked, stop = Answered, external = [Visitor, Close])]
impl Desk {
    #[step]
    async fn open(&self, ctx: &Context, ev: Asked) -> Outcome<()> {
        ctx.state().set("open", &ev.n).await
    }

    #[step(concurrency = 1)]
    async fn greet(&self, ctx: &Context, ev: Visitor) -> Outcome<()> {
        let mut names: Vec<String> = ctx.state().get("names").await?.unwrap_or_default();
        names.push(ev.name);
        ctx.state().set("names", &names).await
    }

    #[step]
    async fn watch(&self, ctx: &Context, ev: Visitor) -> Outcome<()> {
        ctx.state().set(&format!("seen-{}", ev.name), &true).await
    }

    #[step]
    async fn close(&self, ctx: &Context, _: Close) -> Outcome<Answered> {
        let names: Option<Vec<String>> = ctx.state().get("names").await?;
        Ok(Answered { answer: json!(names) })
    }
}

/// Gathers numbers three at a time; every attempt fails once after it has put its number in.
struct Gather;

#[derive(Event, Serialize, Deserialize, Clone)]
struct Piece(u64);
#[derive(Event, Serialize, Deserialize)]
struct Three(Vec<u64>);

#[workflow(start = Asked, stop = Answered)]
impl Gather {
    #[step(sends = [Piece])]
    async fn pieces(&self, ctx: &Context, ev: Asked) -> Outcome<()> {
        (0..ev.n).try_for_each(|n| ctx.send(&Piece(n)))
    }

    #[step(retries = 3, backoff = "1ms", max_backoff = "1ms")]
    async fn gather(&self, ctx: &Context, ev: Piece) -> Outcome<Option<Three>> {
        let three = ctx.collect("pieces", 3, &ev).await?;
        if ctx.attempt() == 1 {
            return Err(Error::msg("once more"));
        }
        Ok(three.map(|pieces| Three(pieces.iter().map(|piece| piece.0).collect())))
    }

    #[step(concurrency = 1)]
    async fn all(&self, ctx: &Context, ev: Three) -> Outcome<Option<Answered>> {
        let mut all: Vec<u64> = ctx.state().get("all").await?.unwrap_or_default();
        assert_eq!(ev.0.len(), 3);
        all.extend(ev.0);
        all.sort_unstable();
        ctx.state().set("all", &all).await?;
        Ok((all.len() == 12).then(|| Answered { answer: json!(all) }))
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker
        .serve(TwoTakers)?
        .serve(Sender)?
        .serve(Race)?
        .serve(Orders)?
        .serve(Narrow)?
        .serve(Early)?
        .serve(Desk)?
        .serve(Gather)
}

async fn answer(stage: &Stage, workflow: &str, n: u64) -> Value {
    let run = stage.client.start(workflow, &json!({ "n": n })).send().await.unwrap();
    let end: Value = run.result(LIMIT).await.unwrap();
    end["answer"].clone()
}

async fn history(stage: &Stage, run: &str) -> Vec<Record> {
    stage.store.history(run, 0, 10_000).await.unwrap()
}

/// Waits until the history is as it should be.
async fn history_until(stage: &Stage, run: &str, is_so: impl Fn(&[Record]) -> bool) -> Vec<Record> {
    for _ in 0..3000 {
        let records = history(stage, run).await;
        if is_so(&records) {
            return records;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the history never came to that: {:?}", history(stage, run).await);
}

/// Waits until no worker holds anything.
async fn nothing_is_held(stage: &Stage) {
    for _ in 0..3000 {
        if stage.store.workers().await.unwrap().iter().all(|worker| worker.held == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("something is still held: {:?}", stage.store.workers().await);
}

/// Waits until each body that never ends was dropped.
async fn all_are_dropped(run: &str) {
    let under_way = || UNDER_WAY.lock().unwrap().get(run).copied().unwrap_or(0);
    for _ in 0..3000 {
        if under_way() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} bodies of run {run} were never dropped", under_way());
}

fn count(records: &[Record], kind: Kind, step: &str) -> usize {
    records.iter().filter(|record| record.kind == kind && record.step == step).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_that_takes_an_event_gets_it() {
    Both::new(serve)
        .play(async |stage| {
            assert_eq!(answer(stage, "two_takers", 5).await, 10 + 1000);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_goes_to_all_who_take_it_or_to_the_one_that_is_named() {
    Both::new(serve)
        .play(async |stage| {
            assert_eq!(answer(stage, "sender", 9).await, json!(["left 1", "returned", "right 1", "right 2"]));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_sent_fails_the_step_at_once_and_says_why() {
    Both::new(serve)
        .play(async |stage| {
            for (n, why) in [
                (0, "step plan sends Part to step nobody, which is not there; steps that take Part: left, right"),
                (1, "step plan sends Part to step gather, which does not take it; steps that take Part: left, right"),
                (2, "step plan sends Note and does not say so"),
                (3, "step plan sends Answered, which ends the run: return it instead"),
                (4, "step plan sends Asked and does not say so; write #[step(sends = [Asked])]"),
            ] {
                let run = stage.client.start("sender", &json!({ "n": n })).send().await.unwrap();
                let end = run.wait(LIMIT).await.unwrap();
                if n == 2 {
                    // It returns notes: what is returned may be sent too.
                    assert_eq!(end.status, Status::Completed);
                    continue;
                }
                assert_eq!(end.status, Status::Failed);
                assert!(end.error.as_deref().unwrap().starts_with(why), "{:?}", end.error);
                assert_eq!(end.error_attempt, Some(1));
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_with_the_first_drops_the_rest_however_deep() {
    Both::new(serve)
        .concurrency(20)
        .play(async |stage| {
            let run = stage.client.start("race", &json!({ "n": 5 })).id("race").send().await.unwrap();
            history_until(stage, "race", |records| count(records, Kind::Done, "podium") == 1).await;
            // The run is under way; the rest of its fan-out is not.
            nothing_is_held(stage).await;
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
async fn a_set_is_complete_with_one_of_each_and_every_set_counts() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("orders", &json!({ "n": 3 })).send().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            let total: u64 = end["answer"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
            assert_eq!((total, end["answer"].as_array().unwrap().len()), (6 + 60, 3));
            let records = history(stage, run.id()).await;
            assert_eq!(count(&records, Kind::Done, "ship"), 3);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_collected_is_put_in_once_however_often_it_is_attempted() {
    Both::new(serve)
        .play(async |stage| {
            assert_eq!(answer(stage, "gather", 12).await, json!((0..12).collect::<Vec<_>>()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_step_has_no_more_at_once_and_one_at_a_time_keeps_its_order() {
    Both::new(serve)
        .concurrency(16)
        .play(async |stage| {
            MOST.store(0, Ordering::SeqCst);
            let answer = answer(stage, "narrow", 60).await;
            assert_eq!(answer["order"], json!((0..60).collect::<Vec<_>>()));
            assert_eq!(answer["count"], 60);
            let most = MOST.load(Ordering::SeqCst);
            assert!((1..=3).contains(&most), "{most} at once");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_event_ends_its_siblings_and_nothing_of_theirs_appears_later() {
    Both::new(serve)
        .concurrency(8)
        .play(async |stage| {
            let run = stage.client.start("early", &json!({ "n": 6 })).id("early").send().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], "early");
            let before = history(stage, run.id()).await;
            nothing_is_held(stage).await;
            all_are_dropped("early").await;
            assert_eq!(history(stage, run.id()).await, before);
            assert_eq!(count(&before, Kind::Done, "work"), 1);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_from_outside_while_a_run_rests() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("desk", &json!({ "n": 1 })).send().await.unwrap();
            history_until(stage, run.id(), |records| count(records, Kind::Done, "open") == 1).await;
            assert_eq!(run.status().await.unwrap().unwrap().status, Status::Running);
            for name in ["ann", "bob"] {
                run.send("Visitor", &json!({ "name": name })).await.unwrap();
            }
            run.send_to(Some("watch"), "Visitor", &json!({ "name": "eve" })).await.unwrap();
            let records = history_until(stage, run.id(), |records| {
                count(records, Kind::Done, "greet") == 2 && count(records, Kind::Done, "watch") == 3
            })
            .await;
            assert!(records.iter().all(|record| record.kind != Kind::Failed));
            run.send("Nonsense", &json!({})).await.unwrap();
            run.send("Close", &Value::Null).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!(["ann", "bob"]));
            run.send("Close", &Value::Null).await.unwrap();
            let reasons = stage.reasons(2).await;
            assert!(reasons[0].contains("no step of desk version 1 takes Nonsense by itself"), "{reasons:?}");
            assert!(reasons[1].contains("has ended: it takes no more events"), "{reasons:?}");
        })
        .await;
}
