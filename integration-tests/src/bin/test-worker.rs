//! A worker process for the integration tests: serves all workflows of this crate.

use std::path::Path;

use stepfleet_integration_tests::{chaos, workflows};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("TEST_OWN_SUBSCRIBER").is_some() {
        tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_target(false).init();
    }
    if let Some(log) = std::env::var_os(chaos::effects::VARIABLE) {
        return Ok(chaos::workflows::serve(stepfleet::Worker::from_env()?, Path::new(&log))?.run().await?);
    }
    // The test's own connection to its Redis, which may differ from the worker's.
    let url = std::env::var("TEST_LEVERS").or_else(|_| std::env::var("STEPFLEET_REDIS"))?;
    workflows::serve(stepfleet::Worker::from_env()?, &url)?.run().await?;
    Ok(())
}
