//! A release that somebody must approve: it is validated, a person is asked, and it is deployed. The worker may be killed at any place.
//!
//! ```text
//! stepfleet dev                                                   # in one terminal
//! cargo run --example approval                                    # in another
//! stepfleet start release --id r1 --input '"v1.2"'                # in a third
//! stepfleet questions
//! stepfleet answer r1 deploy true --by ann
//! stepfleet show r1
//! ```
//!
//! `make demo-human` plays it, and kills all workers while it waits.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use stepfleet::prelude::*;

const DAY: Duration = Duration::from_secs(86_400);

/// The world outside: what is done there is a line in a file, so that anybody can count it.
struct World {
    diary: Option<String>,
}

impl World {
    fn does(&self, what: &str) -> Outcome<()> {
        let Some(diary) = &self.diary else { return Ok(()) };
        let mut file = OpenOptions::new().create(true).append(true).open(diary)?;
        Ok(writeln!(file, "{what}")?)
    }

    async fn validate(&self, release: &str) -> Outcome<String> {
        if !release.starts_with('v') {
            return Err(Terminal(format!("{release} is no release: its name begins with a v")))?;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.does(&format!("validated {release}"))?;
        Ok(format!("{release} passed 214 tests"))
    }

    async fn deploy(&self, release: &str) -> Outcome<()> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.does(&format!("deployed {release}"))
    }
}

#[durable(version = 1)]
async fn release(ctx: &Context, world: &World, release: String) -> Outcome<String> {
    ctx.state().set("stage", "validating").await?;
    let report = ctx.step("validate", || world.validate(&release)).retries(3).await?;
    ctx.state().set("stage", "waiting for approval").await?;
    let question = Approval::ask(format!("{report}. Deploy it?")).named("deploy");
    let approval = ctx.wait_for_user(question).timeout(7 * DAY).default(false).await?;
    let by = approval.by.unwrap_or_else(|| "nobody in particular".to_owned());
    if !approval.answer {
        return Ok(format!("{release} was not deployed: {by} said no, or nobody answered"));
    }
    ctx.state().set("stage", "deploying").await?;
    ctx.step("deploy", || world.deploy(&release)).retries(3).await?;
    ctx.state().set("stage", "deployed").await?;
    Ok(format!("{release} is deployed: {by} approved it"))
}

#[tokio::main]
async fn main() -> Result<(), WorkerError> {
    let world = World { diary: std::env::var("DIARY").ok() };
    Worker::from_env()?.serve(release::with(world))?.run().await
}

#[cfg(test)]
mod tests {
    use stepfleet::testing;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_deployed_once_it_is_approved_wherever_the_worker_dies() {
        let approved = || testing::run(release::with(World { diary: None })).answer("deploy", &true, Some("ann"));
        let run = testing::call_survives_every_crash(approved, "v1").await;
        assert_eq!(run.result::<String>(), "v1 is deployed: ann approved it");
        let run = testing::run(release::with(World { diary: None })).call("v1").await;
        assert!(run.result::<String>().contains("was not deployed"), "{run}");
        assert_eq!(run.time_skipped(), 7 * DAY);
        let run = testing::run(release::with(World { diary: None })).call("1").await;
        assert!(run.error().contains("is no release"), "{run}");
    }
}
