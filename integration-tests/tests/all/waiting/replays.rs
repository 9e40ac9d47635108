//! A body that runs again after its wait takes the same path, or fails with a replay error.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;

use super::{Answered, Asked, LIMIT, count, counted, id, waiting};

/// Continues after an error, waits, and must get the same error later.
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

/// Its code differs each time.
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

/// Reserves at each of two shops as soon as the shop has answered, and waits.
struct Quotes;

#[workflow(start = Asked, stop = Answered)]
impl Quotes {
    #[step]
    async fn compare(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let quote = |shop: &'static str, ms| {
            ctx.step("quote", move || async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(shop.to_owned())
            })
        };
        let mut quotes: FuturesUnordered<_> = [quote("slow", 400), quote("fast", 5)].into_iter().collect();
        let mut pairs = Vec::new();
        while let Some(shop) = quotes.next().await {
            let shop = shop?;
            let ticket = ctx.step("reserve", async || Ok(format!("ticket of {shop}"))).await?;
            pairs.push(json!([shop, ticket]));
        }
        ctx.wait_for::<()>("go").await?;
        Ok(Answered { answer: json!(pairs) })
    }
}

/// Its names are for people.
struct Named;

const CALL: &str = "convert a.pdf: 100 % ~,&";
const SIGNAL: &str = "Freigabe für Brief 7.1, bitte";
const BUFFER: &str = "Stapel *1+2*";

#[workflow(start = Asked, stop = Answered)]
impl Named {
    #[step(retries = 0)]
    async fn go(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        let made = ctx.step(CALL, async || Ok(count(ctx.run_id(), "made"))).await?;
        let none = ctx.collect(BUFFER, 2, &ev).await?.is_none();
        tokio::select! {
            late = ctx.wait_for::<u8>(SIGNAL).filter("n", 7).timeout(Duration::ZERO) => assert!(late.is_err()),
            _ = ctx.wait_for::<u8>(SIGNAL) => {}
        }
        let number: u8 = ctx.wait_for(SIGNAL).timeout(Duration::from_secs(3600)).await?;
        Ok(Answered { answer: json!([made, none, number]) })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Undeterred)?.serve(Fickle)?.serve(Quotes)?.serve(Named)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_in_which_kept_calls_ended_is_the_same_after_a_wait() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "quotes");
            let run = stage.client.start("quotes", &json!({})).id(id).enqueue().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("go", &()).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!([["fast", "ticket of fast"], ["slow", "ticket of slow"]]));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_signals_and_buffers_have_names_for_people() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "named");
            let run = stage.client.start("named", &json!({})).id(id).enqueue().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            assert_eq!(stage.store.waits(id).await.unwrap()[0].name, SIGNAL);
            run.signal(SIGNAL, &7).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!((end["answer"].clone(), counted(id, "made")), (json!([1, true, 7]), 1));
            let history = stage.store.history(id, 0, 100).await.unwrap();
            let told = |kind| history.iter().find(|record| record.kind == kind).unwrap().told().into_owned();
            assert_eq!((told(Kind::Signal), told(Kind::Left)), (SIGNAL.to_owned(), format!("1 buffer 0 {BUFFER}")));
            let long = run.signal(&"x".repeat(201), &7).await.unwrap_err();
            assert!(long.to_string().contains("201 bytes; at most 200"), "{long}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_a_body_has_gone_on_with_is_the_same_for_ever() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "undeterred");
            let run = stage.client.start("undeterred", &json!({})).id(id).enqueue().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("manual", &"by hand").await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!((end["answer"].clone(), counted(id, "charge")), (json!(["no money", "by hand"]), 1));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_has_changed_is_told_so() {
    Both::new(serve)
        .play(async |stage| {
            let id = &id(stage, "fickle");
            let run = stage.client.start("fickle", &json!({})).id(id).enqueue().await.unwrap();
            waiting(&*stage.store, id, 1).await;
            run.signal("go", &()).await.unwrap();
            let ended = run.wait(LIMIT).await.unwrap();
            let error = ended.error.unwrap();
            assert_eq!(ended.status, Status::Failed);
            assert!(
                error.contains("call #1 was `charge`, and the code now asks for `refund` (replay error 1)"),
                "{error}"
            );
            assert_eq!(counted(id, "attempt"), 2, "no retry would help");
        })
        .await;
}
