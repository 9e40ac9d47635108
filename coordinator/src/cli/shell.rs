//! `stepfleet completions` and `stepfleet man`, and what `stepfleet` alone prints.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use super::error::{CliError, CliResult};
use super::output;

/// What to do next, for somebody who has just installed it.
pub(super) const NEXT: &str = "\
stepfleet dev            start a Redis and a coordinator on this machine
stepfleet new hello      make a worker; then, in another terminal: cd hello && cargo run
stepfleet --help         all else: start runs, look at them, answer, check a Redis";

const COMPLETIONS: &str = "\
Examples:
  stepfleet completions bash > ~/.local/share/bash-completion/completions/stepfleet
  stepfleet completions zsh > ~/.zfunc/_stepfleet          with fpath+=~/.zfunc before compinit in ~/.zshrc
  stepfleet completions fish > ~/.config/fish/completions/stepfleet.fish";

#[derive(Args)]
#[command(after_help = COMPLETIONS)]
pub(super) struct Completions {
    /// The shell
    shell: Supported,
}

/// The shells that completions are tried with.
#[derive(Clone, Copy, ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

const MAN: &str = "\
Examples:
  stepfleet man | man -l -                                  read it at once
  stepfleet man --dir ~/.local/share/man/man1               a page for each command: man stepfleet-start";

#[derive(Args)]
#[command(after_help = MAN)]
pub(super) struct Man {
    /// Write a page for each command into this folder, instead of printing the one of `stepfleet`
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(mut command: Command, options: &Completions) {
    let shell = match options.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "stepfleet", &mut script);
    output::text(&String::from_utf8_lossy(&script));
}

pub(super) fn man(command: Command, options: &Man) -> CliResult {
    let Some(dir) = &options.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        output::text(&String::from_utf8_lossy(&page));
        return Ok(ExitCode::SUCCESS);
    };
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command, dir));
    written.map_err(|error| CliError::new(format!("the pages cannot be written into {}: {error}", dir.display())))?;
    output::line(&format!("The pages are in {}.", dir.display()));
    Ok(ExitCode::SUCCESS)
}
