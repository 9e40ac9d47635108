//! Durable functions: served, called in the test kit, killed at each commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stepfleet_worker::prelude::*;
use stepfleet_worker::testing::{self, Status};

#[derive(Serialize, Deserialize, Clone)]
struct Order {
    goods: Vec<String>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Receipt {
    text: String,
}

#[derive(Default)]
struct Shop {
    reserved: AtomicU32,
}

impl Shop {
    #[expect(clippy::unused_async, reason = "a shop is elsewhere")]
    async fn reserve(&self, good: &str) -> Outcome<String> {
        self.reserved.fetch_add(1, Ordering::SeqCst);
        Ok(format!("<{good}>"))
    }
}

#[derive(Serialize, Deserialize, Default)]
struct Progress {
    stage: String,
}

#[durable(version = 2, timeout = "60d", retention = "1d")]
async fn fulfil(ctx: &Context<Progress>, shop: &Shop, order: Order) -> Outcome<Receipt> {
    let reserved = ctx.map(&order.goods, 2, |good| ctx.step("reserve", move || shop.reserve(good)).retries(2)).await?;
    ctx.state().set("stage", "reserved").await?;
    let fine: bool = ctx.wait_for("approval").await?;
    ctx.sleep(Duration::from_secs(86_400)).await?;
    Ok(Receipt { text: format!("{} {fine}", reserved.join("")) })
}

/// Takes nothing but its input, which is no struct.
#[durable]
async fn double(_: &Context, number: u64) -> Outcome<u64> {
    number.checked_mul(2).ok_or_else(|| Error::terminal("it is too large"))
}

mod inner {
    use super::{Context, Outcome, durable};

    /// Made elsewhere.
    #[durable(name = "text.length", retries = 0)]
    pub(crate) async fn length(ctx: &Context, text: String) -> Outcome<Option<usize>> {
        ctx.step("count", || async { Ok(text.chars().count()) }).await.map(Some)
    }
}

fn order() -> Order {
    Order { goods: vec!["tea".into(), "milk".into(), "cup".into()] }
}

#[tokio::test(start_paused = true)]
async fn a_function_goes_on_where_it_was() {
    let shop = Arc::new(Shop::default());
    let run = testing::run(fulfil::with(shop.clone())).signal("approval", &true).call(&order()).await;
    assert_eq!(run.result::<Receipt>().text, "<tea><milk><cup> true");
    assert_eq!(run.field::<String>("stage").unwrap(), "reserved");
    assert_eq!((shop.reserved.load(Ordering::SeqCst), run.step("fulfil").attempts()), (3, 3));
    let setup = || testing::run(fulfil::with(Shop::default())).signal("approval", &true);
    testing::call_survives_every_crash(setup, &order()).await;
}

#[tokio::test(start_paused = true)]
async fn an_input_may_be_of_any_type_and_one_that_cannot_be_read_fails_the_run() {
    assert_eq!(testing::run(double::workflow()).call(&21).await.result::<u64>(), 42);
    let failed = testing::run(double::workflow()).call(&u64::MAX).await;
    assert_eq!((failed.status(), failed.step("double").attempts()), (Status::Failed, 1));
    let unread = testing::run(double::workflow()).call("two").await;
    assert!(unread.error().contains("the input"), "{unread}");
    let length = testing::run(inner::length::workflow()).call("äöü").await;
    assert_eq!(length.result::<Option<usize>>(), Some(3));
}

#[tokio::test]
async fn a_function_stays_a_function_and_its_workflow_is_what_it_says() {
    let definition = fulfil::definition();
    assert_eq!((definition.name, definition.version), ("fulfil", 2));
    assert_eq!(definition.timeout, Some(Duration::from_secs(60 * 86_400)));
    assert_eq!(definition.retention, Duration::from_secs(86_400));
    assert_eq!(inner::length::definition().name, "text.length");
    let as_it_is: fn(&'static Context, u64) -> _ = double;
    let _ = as_it_is;
    let worker = Worker::from_env().and_then(|worker| worker.serve(double::workflow()));
    assert!(worker.and_then(|worker| worker.serve(inner::length::workflow())).is_ok());
}
