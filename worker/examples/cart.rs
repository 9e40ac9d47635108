//! An entity: a cart that outlives the runs which fill it. Any number of them may change it at once; each change has its effect once.
//!
//! ```text
//! cargo run --example cart                                        # while `stepfleet dev` runs in another terminal
//! stepfleet start add_to_cart --input '{"user": "ann", "item": "tea"}' --wait && stepfleet entity Cart ann
//! ```

use std::collections::BTreeMap;

use stepfleet::prelude::*;

#[data]
#[derive(Debug, Default, PartialEq)]
struct Cart {
    items: BTreeMap<String, u32>,
}

impl Entity for Cart {
    const NAME: &'static str = "Cart";
}

#[data]
struct Addition {
    user: String,
    item: String,
}

/// Answers how many items are in the cart.
#[durable]
async fn add_to_cart(ctx: &Context, addition: Addition) -> Outcome<u32> {
    let Addition { user, item } = addition;
    ctx.entity::<Cart>(user)
        .call("add", |cart| {
            *cart.items.entry(item.clone()).or_default() += 1;
            cart.items.values().sum::<u32>()
        })
        .await
}

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    Worker::from_env()?.serve(add_to_cart::workflow())?.run().await
}

#[cfg(test)]
mod tests {
    use stepfleet::testing;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_item_is_added_once_wherever_the_worker_dies() {
        let before = Cart { items: [("tea".into(), 1)].into() };
        let setup = || testing::run(add_to_cart::workflow()).entity("ann", &before);
        let addition = Addition { user: "ann".into(), item: "tea".into() };
        let run = testing::call_survives_every_crash(setup, &addition).await;
        assert_eq!(run.result::<u32>(), 2);
        assert_eq!(run.entity::<Cart>("ann"), Some(Cart { items: [("tea".into(), 2)].into() }));
    }
}
