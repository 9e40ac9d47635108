//! Many branches that change the same fields, and lose nothing.

use std::collections::HashMap;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;

use super::{Answered, Asked, Done, LIMIT, MEETINGS, Part, meeting};

/// Many branches that change the same fields in every lossless way.
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

fn serve_crowd(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Crowd)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_branches_on_ten_workers_lose_nothing() {
    const BRANCHES: u64 = 200;
    Both::new(serve_crowd)
        .workers(10)
        .play(async |stage| {
            let run = stage.client.start("crowd", &json!({"n": BRANCHES})).enqueue().await.unwrap();
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
        // The first one has read the same as the others.
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
            let run = stage.client.start("contended", &json!({"n": BRANCHES})).id(&id).enqueue().await.unwrap();
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
