//! `stepfleet dev`.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use stepfleet_shared::Client;
use stepfleet_shared::env::{DEFAULT_URL, DEV_PORT};
use stepfleet_shared::names::Namespace;
use stepfleet_shared::outage::Outages;
use stepfleet_shared::partitions::Home;
use stepfleet_shared::store::{ReaderStore as _, RedisStore};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::error::{CliError, CliResult};
use super::{Creation, Fleet, HealthAddress, log_to_stderr, output, server, told, told_to_stop};
use crate::{Config, Coordinator, Partitions};

/// How long the server may take to load what it has.
const READY: Duration = Duration::from_secs(30);
const PARTING: Duration = Duration::from_secs(8);
const EXAMPLES: &str = "\
Examples:
  stepfleet dev                      at redis://127.0.0.1:6390; data in ./.stepfleet
  stepfleet dev --port 0             any free port, where that one is taken; set STEPFLEET_REDIS as it prints
  stepfleet dev --json               prints {\"redis\":URL,\"pid\":N} once it can be used, N being the server's

While it runs it prints each run that it takes and how it ends, and each request that it rejects. It ends at ctrl-c or SIGTERM and stops the server, even if it is
killed itself. Runs are kept in the folder, and the next `stepfleet dev` continues them.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The port of the Redis server on 127.0.0.1; 0 for any that is free. All other commands, workers and clients look at the default
    #[arg(long, value_name = "N", default_value_t = DEV_PORT)]
    port: u16,
    /// Where the Redis server keeps its data
    #[arg(long, value_name = "FOLDER", default_value = "./.stepfleet")]
    dir: PathBuf,
    #[command(flatten)]
    creation: Creation,
    #[command(flatten)]
    health: HealthAddress,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    log_to_stderr(fleet.json, "warn");
    let namespace = Namespace::new(&fleet.namespace, 0)?;
    let outages = Outages::default();
    let watched = options.health.watch(&outages)?;
    let (program, dir) = (server::find()?, server::prepare(&options.dir)?);
    server::is_free(&dir)?;
    let port = server::free_port(options.port)?;
    let (mut keeper, pipe) = start(&program, &dir, port)?;
    let url = format!("redis://127.0.0.1:{port}");
    let store = RedisStore::new(&url, namespace)?;
    let told_to_stop = told_to_stop();
    tokio::pin!(told_to_stop);
    let pid = tokio::select! {
        pid = ready(&store) => pid?,
        _ = keeper.wait() => return Err(died(&dir)),
        stop = &mut told_to_stop => { stop?; return end(keeper, pipe).await }
    };
    let partitions: Partitions = Home::at(&url, &fleet.namespace)?.open(options.creation.partitions).await?;
    announce(fleet, &url, pid, &dir)?;
    let stop = CancellationToken::new();
    watched.health.at_work(&partitions);
    let telling = told::tell(Client::connect_to(&url, &fleet.namespace)?, partitions.clone(), fleet.json);
    let telling = AbortOnDropHandle::new(tokio::spawn(telling));
    let coordinator =
        Coordinator::new(partitions, Config::default()).with_outages(&outages).with_metrics(&watched.metrics);
    let coordinator = tokio::spawn(coordinator.run(stop.clone().cancelled_owned()));
    let outcome = tokio::select! {
        stop = told_to_stop => stop.map_err(CliError::from),
        _ = keeper.wait() => Err(died(&dir)),
    };
    watched.health.stopping();
    stop.cancel();
    let _ = coordinator.await;
    drop(telling);
    end(keeper, pipe).await?;
    if outcome.is_ok() && !fleet.json {
        output::line(&format!(
            "Good-bye. Runs are kept in {}; the next `stepfleet dev` continues with them.",
            dir.display()
        ));
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

fn start(program: &Path, dir: &Path, port: u16) -> Result<(Child, Option<ChildStdin>), CliError> {
    let mut keeper = Command::new(std::env::current_exe()?);
    keeper.arg("dev-server").arg("--program").arg(program).arg("--dir").arg(dir).arg("--port").arg(port.to_string());
    // In a separate process group, ctrl-c reaches it only through this process, which stops the coordinator first.
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
    let mut keeper = keeper.spawn()?;
    // Taken out, as waiting for the child would close it.
    let pipe = keeper.stdin.take();
    Ok((keeper, pipe))
}

/// Waits until the server answers; its process id.
async fn ready(store: &RedisStore) -> Result<u32, CliError> {
    let began = Instant::now();
    loop {
        match store.server().await {
            Ok(Some(info)) if info.get("loading") != Some("1") => {
                return Ok(info.get("process_id").and_then(|pid| pid.parse().ok()).unwrap_or(0));
            }
            Err(error) if began.elapsed() > READY => return Err(error.into()),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn announce(fleet: &Fleet, url: &str, pid: u32, dir: &Path) -> Result<(), CliError> {
    if fleet.json {
        return output::json(&json!({ "redis": url, "pid": pid }));
    }
    let namespace = if fleet.namespace == "sf" {
        String::new()
    } else {
        format!("  export STEPFLEET_NAMESPACE={}\n", fleet.namespace)
    };
    let exported = if url == DEFAULT_URL { String::new() } else { format!("  export STEPFLEET_REDIS={url}\n") };
    output::line(&format!(
        "A Redis and a coordinator are ready at {url}. Data is in {}\n\nIn another terminal:\n\n{exported}{namespace}  \
         cargo run                                   your worker (stepfleet new hello makes one)\n  \
         stepfleet start <workflow> --input '{{}}' --wait\n  \
         stepfleet runs\n\nCtrl-c ends both. Runs and rejected requests, as they come:\n",
        dir.display()
    ));
    Ok(())
}

fn died(dir: &Path) -> CliError {
    CliError::new(format!("the Redis server has exited; see {}", dir.join("redis.log").display()))
}

/// Closing the pipe makes the keeper end the server and itself.
async fn end(mut keeper: Child, pipe: Option<ChildStdin>) -> CliResult {
    drop(pipe);
    let _ = tokio::time::timeout(PARTING, keeper.wait()).await;
    Ok(ExitCode::SUCCESS)
}
