//! A worker that serves the workflow `hello`.

use std::time::Duration;

use stepfleet::prelude::*;

/// Greets somebody, after a short rest. Once recorded, the result of `ctx.step` is reused; everything else in a body may run
/// again. So a worker that is killed in between loses nothing: another one goes on after the last step that was recorded.
#[durable]
async fn hello(ctx: &Context, name: String) -> Outcome<String> {
    let greeting = ctx.step("greet", || async { Ok(format!("Hello, {name}!")) }).retries(3).await?;
    ctx.sleep(Duration::from_secs(2)).await?;
    ctx.step("sign", || async { Ok(format!("{greeting} Have a good day.")) }).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    Worker::from_env()?.serve(hello::workflow())?.run().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use stepfleet::testing;

    use super::hello;

    /// Without Redis: once without a crash, and then with a worker that dies before and after each commit.
    #[tokio::test(start_paused = true)]
    async fn it_greets_whenever_a_worker_dies() {
        let run = testing::call_survives_every_crash(|| testing::run(hello::workflow()), "Ann").await;
        assert_eq!(run.result::<String>(), "Hello, Ann! Have a good day.");
    }
}
