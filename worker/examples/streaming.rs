//! Text that is read while it is written, as the answers of a model are: followers see it word by word, the result has it whole.
//!
//! ```text
//! cargo run --example streaming                                   # while `stepfleet dev` runs in another terminal
//! stepfleet start tell --id t1 --input '"otters"' && stepfleet follow t1 --stream story
//! ```

use std::time::Duration;

use stepfleet::prelude::*;

/// Stands for a model: it takes a moment for each word.
fn words(topic: &str) -> Vec<String> {
    let story = format!("Once upon a time there were two {topic} who shared one stream, and neither lost a word.");
    story.split_inclusive(' ').map(str::to_owned).collect()
}

#[durable]
async fn tell(ctx: &Context, topic: String) -> Outcome<String> {
    ctx.step("tell", || async {
        let (mut out, mut text) = (ctx.stream("story"), String::new());
        for word in words(&topic) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            out.push(&word).await?;
            text += &word;
        }
        Ok(text)
    })
    .retries(3)
    .await
}

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    Worker::from_env()?.serve(tell::workflow())?.run().await
}

#[cfg(test)]
mod tests {
    use stepfleet::testing;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readers_see_what_becomes_the_result_wherever_the_worker_dies() {
        let run = testing::call_survives_every_crash(|| testing::run(tell::workflow()), "otters").await;
        assert_eq!(run.streamed("story"), run.result::<String>());
        assert!(run.result::<String>().contains("two otters"), "{run}");
    }
}
