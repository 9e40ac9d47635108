//! Retries and compensation: an order is paid and shipped. The card's bank fails now and then, which retries mend; where nothing can be
//! shipped, the payment is given back.
//!
//! ```text
//! cargo run --example checkout                                    # while `stepfleet dev` runs in another terminal
//! stepfleet start checkout --input '{"item": "tea", "cents": 450}' --wait     # and with "item": "unicorn"
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stepfleet::prelude::*;

#[data]
struct Order {
    item: String,
    cents: u32,
}

/// The world outside: a bank and a warehouse, made up.
#[derive(Default)]
struct World {
    calls: AtomicU32,
    /// What was charged, in cents, by key.
    charges: Mutex<BTreeMap<String, u32>>,
}

impl World {
    /// Fails at each second call. A bank that is asked twice with one key charges once.
    fn charge(&self, key: &str, cents: u32) -> Outcome<()> {
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            return Err(Error::msg("the bank does not answer"));
        }
        self.charges.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), cents);
        Ok(())
    }

    fn refund(&self, key: &str) {
        self.charges.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn ship(item: &str) -> Outcome<String> {
        if item == "unicorn" {
            // No retry will help.
            return Err(Terminal("unicorns are sold out"))?;
        }
        Ok(format!("{item} is on its way"))
    }
}

#[task(retries = 20)]
async fn refund(_: &Context, world: &World, key: String) -> Outcome<()> {
    world.refund(&key);
    Ok(())
}

#[durable]
async fn checkout(ctx: &Context, world: &World, order: Order) -> Outcome<String> {
    // Registered before the charge, under a key that is recorded: no crash in between leaves a charge behind.
    let key = ctx.uuid().await?;
    ctx.compensate::<refund>(&key).await?;
    ctx.step("charge", async || world.charge(&key, order.cents)).retries(5).await?;
    ctx.step("ship", async || World::ship(&order.item)).retries(5).await
}

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    let world = Arc::new(World::default());
    Worker::from_env()?.serve(checkout::with(world.clone()))?.serve(refund::with(world))?.run().await
}

#[cfg(test)]
mod tests {
    use stepfleet::testing::{self, TestRun};

    use super::*;

    /// The run, and what is charged after it.
    async fn order(item: &str) -> (TestRun, Vec<u32>) {
        let world = Arc::new(World::default());
        let setup = testing::run(checkout::with(world.clone())).serve(refund::with(world.clone()));
        let run = setup.call(&Order { item: item.into(), cents: 450 }).await;
        let charges = world.charges.lock().unwrap().values().copied().collect();
        (run, charges)
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_is_paid_at_the_second_try_and_shipped() {
        let (run, charges) = order("tea").await;
        assert_eq!((run.result::<String>().as_str(), charges), ("tea is on its way", vec![450]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_shipped_is_refunded() {
        let (run, charges) = order("unicorn").await;
        assert!(run.error().contains("unicorns are sold out") && charges.is_empty(), "{run}");
    }
}
