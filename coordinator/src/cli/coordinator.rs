//! `stepfleet coordinator`.

use std::process::ExitCode;
use std::time::Duration;

use crate::{Config, Coordinator};
use clap::Args;
use stepfleet_shared::admission::{Admission, Creation};
use stepfleet_shared::outage::Outages;
use stepfleet_shared::server::Override;

use super::error::CliResult;
use super::{Fleet, log_to_stderr, told_to_stop};

const EXAMPLES: &str = "\
Examples:
  stepfleet coordinator --redis redis://redis.internal:6379
  stepfleet coordinator --grace 5m        workers take long to come up
  RUST_LOG=debug stepfleet coordinator    log each rejected request

Run one, or several: they share the work, and any of them may die. With --json, logs are JSON.
At SIGTERM it finishes what is under way and ends.
While Redis is away, loading or unable to write, the coordinator waits.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// How long a request may wait for a worker that serves its workflow before it is rejected, as in 30s, 5m or 1h
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// A step that killed its worker more often than this while it was executed alone fails its run
    #[arg(long, value_name = "N", default_value_t = Config::default().max_losses)]
    max_losses: u32,
    /// Its name among the coordinators [default: <host>-<pid>]
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    #[command(flatten)]
    creation: super::Creation,
    #[command(flatten)]
    health: super::HealthAddress,
    /// Start although Redis may delete runs when memory runs short
    #[arg(long)]
    allow_eviction: bool,
    /// Start although runs are lost when Redis restarts
    #[arg(long)]
    allow_unpersisted: bool,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    log_to_stderr(fleet.json, "info");
    let admission = Admission {
        eviction: Override { how: "pass --allow-eviction", given: options.allow_eviction },
        unpersisted: Override { how: "pass --allow-unpersisted", given: options.allow_unpersisted },
        creation: Creation::Make(options.creation.partitions),
    };
    let (home, outages) = (fleet.home()?, Outages::default());
    let watched = options.health.watch(&outages)?;
    let stop = told_to_stop();
    tokio::pin!(stop);
    let partitions = tokio::select! {
        partitions = admission.open(&home, &outages) => partitions?,
        stopped = &mut stop => return Ok(stopped.map(|()| ExitCode::SUCCESS)?),
    };
    let defaults = Config::default();
    let id = options.id.clone().unwrap_or_else(|| defaults.id.clone());
    let config = Config { id, grace: options.grace, max_losses: options.max_losses, ..defaults };
    watched.health.at_work(&partitions);
    let told = async {
        drop(stop.await);
        watched.health.stopping();
    };
    Coordinator::new(partitions, config).with_outages(&outages).with_metrics(&watched.metrics).run(told).await;
    Ok(ExitCode::SUCCESS)
}
