//! `stepfleet graph`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use stepfleet_shared::fleet::unknown_workflow;
use stepfleet_shared::store::Registration;

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;

const EXAMPLES: &str = "\
Examples:
  stepfleet graph research                                  Mermaid, as GitHub and GitLab draw it
  stepfleet graph research --format dot | dot -Tsvg > research.svg
  stepfleet graph research --json | jq .graph.schemas       what its events look like

Fan-outs are drawn thick, joins broken.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The workflow
    workflow: String,
    /// Its version; the highest that is known, when it is left out
    #[arg(long, value_name = "N")]
    version: Option<u32>,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Mermaid)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A flow chart for Mermaid
    Mermaid,
    /// A graph for Graphviz
    Dot,
    /// All that is registered, with the events' schemas
    Json,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let all = fleet.partitions().await?.registrations().await?;
    let found = choose(&all, &options.workflow, options.version).map_err(CliError::new)?;
    let title = format!("{} version {}", found.workflow, found.version);
    match options.format {
        _ if fleet.json => output::json(found)?,
        Format::Json => output::json(found)?,
        Format::Mermaid => output::line(found.graph.mermaid(&title).trim_end()),
        Format::Dot => output::line(found.graph.dot(&title).trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

fn choose<'a>(all: &'a [Registration], workflow: &str, version: Option<u32>) -> Result<&'a Registration, String> {
    let mut versions: Vec<_> = all.iter().filter(|found| found.workflow == workflow).collect();
    versions.sort_by_key(|found| found.version);
    let Some(highest) = versions.last() else {
        return Err(unknown_workflow(
            workflow,
            &all.iter().map(|found| found.workflow.clone()).collect::<BTreeSet<_>>(),
        ));
    };
    let Some(version) = version else { return Ok(highest) };
    versions.iter().find(|found| found.version == version).copied().ok_or_else(|| {
        let known: Vec<_> = versions.iter().map(|found| found.version.to_string()).collect();
        format!("the workflow \"{workflow}\" has no version {version}; known versions: {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_is_drawn_unless_one_is_named() {
        let of =
            |workflow: &str, version| Registration { workflow: workflow.into(), version, ..Registration::default() };
        let all = [of("rag", 2), of("rag", 10), of("rag", 9), of("ocr", 11)];
        let version = |version| choose(&all, "rag", version).map(|found| found.version);
        assert_eq!(version(None), Ok(10));
        assert_eq!(version(Some(2)), Ok(2));
        assert!(version(Some(3)).unwrap_err().ends_with("known versions: 2, 9, 10"));
        let wrong = choose(&all, "rga", None).unwrap_err();
        assert!(wrong.contains("did you mean \"rag\"") && wrong.contains("ocr, rag"), "{wrong}");
        assert!(choose(&[], "rag", None).unwrap_err().contains("nor any other"));
    }
}
