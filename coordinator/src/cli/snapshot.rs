//! `stepfleet snapshot` and `stepfleet export`.

use std::process::ExitCode;

use clap::Args;

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;
use super::show::missing;

const EXAMPLES: &str = "\
Examples:
  stepfleet snapshot otters-1
  stepfleet snapshot otters-1 --context > context.json
  stepfleet start research --context @context.json         another run begins with it
  stepfleet start research --context-from otters-1         the same, without a file";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The run's id
    id: String,
    /// Only the context
    #[arg(long)]
    context: bool,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let client = fleet.client()?;
    let Some(snapshot) = client.run(&options.id).snapshot().await? else {
        return Err(CliError::new(missing(&client.partitions().await?, &options.id).await?));
    };
    if options.context {
        output::json(&snapshot.context)?;
    } else {
        output::json(&snapshot)?;
    }
    Ok(ExitCode::SUCCESS)
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  stepfleet export order-7 > order-7.json

The test kit replays it against the code of today: testing::replay(fulfil::workflow(), include_str!(\"order-7.json\")).
The file has the run's data: its input, its state, and all that it has recorded.";

#[derive(Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(super) struct Export {
    /// The run's id
    id: String,
}

pub(super) async fn export(fleet: &Fleet, options: &Export) -> CliResult {
    let client = fleet.client()?;
    let Some(export) = client.run(&options.id).export().await? else {
        return Err(CliError::new(missing(&client.partitions().await?, &options.id).await?));
    };
    if export.steps.is_empty() {
        return Err(CliError::new(format!(
            "the run {} has nothing recorded: its steps have made no calls such as ctx.step, or they have committed. \
             What a step records is kept until it commits; in a run of one step, as long as the run",
            export.run
        )));
    }
    output::json(&export)?;
    Ok(ExitCode::SUCCESS)
}
