//! Sets of events, and what a step collects over several executions.

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_shared::history::Kind;

use super::{Answered, Asked, LIMIT, answer, count, history};

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
    worker.serve(Orders)?.serve(Gather)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_complete_with_one_of_each_and_every_set_counts() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("orders", &json!({ "n": 3 })).enqueue().await.unwrap();
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
