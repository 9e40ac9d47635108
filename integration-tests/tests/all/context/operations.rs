//! Every operation, and what the next step sees of it.

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;

use super::{Answered, Asked, LIMIT};

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
        assert!(wrong.is_terminal() && wrong.to_string().contains("field price is not a list"), "{wrong}");
        let wrong = state.get::<u8>("price.low").await.unwrap_err();
        assert!(wrong.is_terminal() && wrong.to_string().contains("field price is neither a map"), "{wrong}");
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
            let run = stage.client.start("operations", &json!({"n": 0})).enqueue().await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!(["left"]));
        })
        .await;
}
