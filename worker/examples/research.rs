//! Research that outlives its worker: sources are fetched four at a time, analysed as they come, and put together in the end. What was
//! fetched is recorded, so nothing is fetched twice wherever the worker dies.
//!
//! ```text
//! stepfleet dev                                                   # in one terminal
//! FETCHES=/tmp/fetches cargo run --example research               # in another: kill it and start it again, as often as you like
//! stepfleet start research --id r1 --input '"otters"' --wait
//! sort /tmp/fetches | uniq -c                                     # each source once
//! ```

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use stepfleet::prelude::*;

/// Where sources come from: here they are made up, and take a moment.
struct Library {
    /// A file with a line for each source that was fetched: what the world outside has seen.
    fetches: Option<String>,
}

impl Library {
    fn search(topic: &str) -> Vec<String> {
        (1..=8).map(|n| format!("{topic}-{n}")).collect()
    }

    async fn fetch(&self, source: &str) -> Outcome<String> {
        if let Some(path) = &self.fetches {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{source}")?;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        Ok(format!("All there is to know about {source}."))
    }
}

fn analyse(text: &str) -> usize {
    text.split_whitespace().count()
}

#[durable(version = 1)]
async fn research(ctx: &Context, library: &Library, topic: String) -> Outcome<String> {
    let sources = ctx.step("search", async || Ok(Library::search(&topic))).await?;
    let words = ctx
        .map(&sources, 4, |source| async move {
            let text = ctx.step("fetch", move || library.fetch(source)).retries(3).await?;
            let words = ctx.step("analyse", async || Ok(analyse(&text))).retries(3).await?;
            ctx.state().incr("analysed", 1).await?;
            Ok(words)
        })
        .await?;
    let total: usize = words.iter().sum();
    ctx.step("synthesise", async || Ok(format!("{} sources on {topic}, {total} words", words.len()))).await
}

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    let library = Library { fetches: std::env::var("FETCHES").ok() };
    Worker::from_env()?.serve(research::with(library))?.run().await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stepfleet::testing;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_that_was_recorded_is_fetched_again_wherever_the_worker_dies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fetches").to_string_lossy().into_owned();
        let research = || testing::run(research::with(Library { fetches: Some(path.clone()) }));
        let run = research().call("otters").await;
        assert_eq!(run.result::<String>(), "8 sources on otters, 56 words");
        assert_eq!(run.field::<u64>("analysed"), Some(8));
        let fetched = || {
            std::fs::read_to_string(&path).unwrap().lines().fold(BTreeMap::new(), |mut all, line| {
                *all.entry(line.to_owned()).or_insert(0) += 1;
                all
            })
        };
        assert_eq!(fetched().into_values().collect::<Vec<_>>(), [1; 8]);
        // It dies behind the third commit: whatever was fetched and recorded by then is not fetched again.
        std::fs::remove_file(&path).unwrap();
        let run = research().crash_after_commit("research", 6).call("otters").await;
        assert_eq!(run.result::<String>(), "8 sources on otters, 56 words");
        let again: usize = fetched().into_values().filter(|times| *times > 1).count();
        assert!(again <= 4, "at most those that were under way: {:?}", fetched());
        testing::call_survives_every_crash(research, "otters").await;
    }
}
