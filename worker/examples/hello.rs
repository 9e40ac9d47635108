//! The least: one durable function with one recorded step.
//!
//! ```text
//! cargo run --example hello                                       # while `stepfleet dev` runs in another terminal
//! stepfleet start hello --input '"Ada"' --wait                    # in a third
//! ```

use stepfleet::prelude::*;

#[durable]
async fn hello(ctx: &Context, name: String) -> Outcome<String> {
    // Once recorded, the result is reused: wherever the worker dies after this, the run goes on with it.
    let greeting = ctx.step("greet", async || Ok(format!("Hello, {name}!"))).await?;
    ctx.sleep(std::time::Duration::from_secs(3)).await?; // Kill the worker here and start it again.
    Ok(greeting)
}

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    Worker::from_env()?.serve(hello::workflow())?.run().await
}

#[cfg(test)]
mod tests {
    use stepfleet::testing;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_greets_wherever_the_worker_dies() {
        let run = testing::call_survives_every_crash(|| testing::run(hello::workflow()), "Ada").await;
        assert_eq!(run.result::<String>(), "Hello, Ada!");
    }
}
