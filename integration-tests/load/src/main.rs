//! What Stepfleet costs, as ratios to the least that the same Redis could take for it. `docs/performance.md` says how it
//! is measured and what each row means.

mod bench;
mod check;
mod crew;
mod floor;
mod keep;
mod meter;
mod peers;
mod picture;
mod row;
mod scenarios;
mod serve;
mod stats;
mod table;
mod usage;
mod wire;
mod workflows;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

use crate::bench::Effort;
use crate::keep::Report;
use crate::row::Row;
use crate::serve::Serve;

type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How often a scenario that has become worse is measured again before it counts.
const SECOND_LOOKS: usize = 2;

/// Measures what Stepfleet costs, on a Redis of its own, and prints a table.
#[derive(Parser)]
#[command(name = "stepfleet-load", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Only these scenarios or rows
    #[arg(long, num_args = 1.., value_name = "NAME")]
    only: Vec<String>,
    /// Seconds instead of minutes: shows that all works, and measures nothing well
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Draw the ratios and their goals into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Keep what was measured: as FILE.json, and as the table in FILE.md
    #[arg(long, value_name = "FILE.md", conflicts_with = "quick")]
    keep: Option<PathBuf>,
    /// Fail when a median ratio is more than 20 % worse than the one kept beside FILE.md
    #[arg(long, value_name = "FILE.md", conflicts_with_all = ["quick", "keep"])]
    check: Option<PathBuf>,
    /// Measure the peers in FOLDER as well, where `make bench-peers` has put them
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["keep", "check"])]
    peers: Option<PathBuf>,
    /// Print the names of the scenarios and their rows
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum Role {
    /// A worker process of the tool itself
    #[command(hide = true)]
    Serve(Serve),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stepfleet-load: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Fallible<ExitCode> {
    if let Some(Role::Serve(settings)) = arguments.role {
        serve::serve(settings).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.list {
        for scenario in scenarios::ALL {
            println!("{}: {}", scenario.name, scenario.rows.join(", "));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if cfg!(debug_assertions) && !arguments.quick {
        return Err("this is not a release build; use `make bench`".into());
    }
    let effort = if arguments.quick { Effort::QUICK } else { Effort::FULL };
    let kept = arguments.check.as_deref().map(keep::read).transpose()?;
    let (mut rows, mut failures) = measure(&arguments.only, effort).await?;
    let worse = match &kept {
        Some(kept) => look_again(kept, &mut rows, effort).await?,
        None => Vec::new(),
    };
    if let Some(folder) = &arguments.peers {
        let (of_peers, failed) = peers::measure(folder, effort).await;
        rows.extend(of_peers);
        failures.extend(failed);
    }
    let report = Report::of(rows);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", table::draw(&report.rows));
    }
    if let Some(file) = &arguments.svg {
        picture::draw(&report.rows, file)?;
    }
    if let Some(file) = &arguments.keep {
        keep::write(file, report)?;
    }
    for row in &worse {
        eprintln!("{}: {:.3} was kept, {:.3} measured: {:.0} % worse", row.name, row.was, row.is, row.by * 100.0);
    }
    for failure in &failures {
        eprintln!("stepfleet-load: {failure}");
    }
    Ok(if worse.is_empty() && failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rows of these scenarios, and why some of them have none.
async fn measure(only: &[String], effort: Effort) -> Fallible<(Vec<Row>, Vec<String>)> {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for scenario in scenarios::named(only)? {
        let begun = Instant::now();
        match (scenario.measure)(effort).await {
            Ok(measured) => rows.extend(measured),
            Err(error) => failures.push(format!("{}: {error}", scenario.name)),
        }
        eprintln!("{:5.1} s  {}", begun.elapsed().as_secs_f64(), scenario.name);
    }
    Ok((rows, failures))
}

/// Measures what has become worse again: another program may have had the machine for a moment.
async fn look_again(kept: &[Row], rows: &mut [Row], effort: Effort) -> Fallible<Vec<check::Worse>> {
    let mut worse = check::worse(kept, rows);
    for _ in 0..SECOND_LOOKS {
        if worse.is_empty() {
            break;
        }
        let names: Vec<_> = worse.iter().map(|row| row.name.clone()).collect();
        eprintln!("worse, and measured again: {}", names.join(", "));
        for again in measure(&names, effort).await?.0 {
            if let Some(row) = rows.iter_mut().find(|row| row.name == again.name && names.contains(&row.name)) {
                *row = again;
            }
        }
        worse = check::worse(kept, rows);
    }
    Ok(worse)
}
