//! A real job on a fleet: digests a folder of documents, loses a worker half way, and finishes with nothing lost and
//! nothing committed twice.
//!
//! `documents worker` is a worker like any other; `documents demo` starts a fleet of them and shows what happens.

mod analysis;
mod demo;
mod listing;
mod proof;
mod report;
mod similar;
mod workflow;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stepfleet::Worker;

#[derive(Parser)]
#[command(about = "Digests a folder of documents on a Stepfleet fleet")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the workflow until SIGTERM; `STEPFLEET_REDIS` says where.
    Worker,
    /// Start Redis, a coordinator and three workers; kill one of them when a third of the documents are done.
    Demo(DemoArguments),
}

#[derive(clap::Args)]
struct DemoArguments {
    /// The folder of text and Markdown files [default: the sources that cargo has downloaded]
    #[arg(long)]
    docs: Option<PathBuf>,
    /// Where report.md and index.json go
    #[arg(long, default_value = "documents-report")]
    out: PathBuf,
    /// The stepfleet program
    #[arg(long, default_value = "stepfleet")]
    stepfleet: PathBuf,
    /// A Redis that runs already; without one, `stepfleet dev` starts one
    #[arg(long)]
    redis: Option<String>,
    /// The port for Redis; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Worker => serve().await,
        Command::Demo(arguments) => demo::run(arguments).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    Worker::from_env()?.serve(workflow::Documents::default())?.run().await?;
    Ok(())
}
