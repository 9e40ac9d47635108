//! Several waits at a time, in a body and in the branches of a fan-out.

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_shared::history::Kind;

use super::{Answered, Asked, LIMIT, count, counted, id, nothing_is_held, until, waiting};

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
            // It is chance which one is seen first.
            tokio::select! {
                stop = ctx.wait_for::<String>("stop") => return Ok(Answered { answer: json!([stop?, read]) }),
                message = ctx.wait_for::<u64>("message") => read.push(message?),
            }
            ctx.step("noted", || async { Ok(count(ctx.run_id(), "noted")) }).await?;
        }
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Payments)?.serve(Pair)?.serve(Mailbox)
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_that_wait_for_one_name_get_their_own_signals_in_any_order() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("payments", &json!({ "n": 6 })).id("payments").enqueue().await.unwrap();
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
            let run = stage.client.start("pair", &json!({})).id("pair").enqueue().await.unwrap();
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
            let run = stage.client.start("mailbox", &json!({})).id(id).enqueue().await.unwrap();
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
