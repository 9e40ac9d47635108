//! docs/configuration.md has every flag of `stepfleet` and every variable that anything here reads, and no other.
//!
//! The tables of flags are made from the program itself: `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-cli --test configuration` writes
//! them anew. Variables are found in the sources, and described by hand.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};

const PAGE: &str = "docs/configuration.md";
const BEGIN: &str = "<!-- flags: begin -->\n";
const END: &str = "<!-- flags: end -->\n";
const VARIABLE: &str = "STEPFLEET_";
/// Where variables are read or set.
const SOURCES: [&str; 10] = [
    "worker/src",
    "coordinator/src",
    "shared/src",
    "shared/contract",
    "shared/fuzz/fuzz_targets",
    "integration-tests/src",
    "integration-tests/tests",
    "integration-tests/load",
    "deploy",
    ".ci",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files beneath, as text; what is no text has no variables.
fn texts(path: &Path) -> String {
    if path.is_file() {
        return std::fs::read_to_string(path).unwrap_or_default();
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.map(|entry| texts(&entry.expect("an entry").path())).collect()
}

fn variables(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
    let starts = text.match_indices(VARIABLE);
    let whole = starts.map(|(at, _)| text[at..].split(|c| !is_part(c)).next().unwrap_or_default());
    // `STEPFLEET_*` stands for several.
    whole.filter(|name| name.len() > VARIABLE.len()).collect()
}

/// Flags and places of a command, its own or those of all.
fn arguments(command: &Command, global: bool) -> impl Iterator<Item = &Arg> {
    let built_in = |arg: &Arg| ["help", "version"].contains(&arg.get_id().as_str());
    command.get_arguments().filter(move |arg| arg.is_global_set() == global && !arg.is_hide_set() && !built_in(arg))
}

fn row(arg: &Arg) -> String {
    let values: Vec<_> = arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let takes = arg.get_action().takes_values();
    let name = match arg.get_long() {
        Some(long) if takes => format!("--{long} {}", values.join(" ")),
        Some(long) => format!("--{long}"),
        None => format!("<{}>", values.join("> <")),
    };
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = if takes && !defaults.is_empty() { format!("`{}`", defaults.join(" ")) } else { String::new() };
    let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<_> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    let possible = if takes && !possible.is_empty() { format!(": {}", possible.join(", ")) } else { String::new() };
    let help = format!("{help}{possible}").replace('<', "\\<");
    let cells = [format!("`{name}`"), default, variable, help].map(|cell| cell.replace('|', "\\|").replace('\n', " "));
    format!("| {} |\n", cells.join(" | "))
}

fn table(title: &str, about: &str, rows: &str, text: &mut String) {
    let _ = write!(text, "\n### `{title}`\n\n{about}.\n");
    if !rows.is_empty() {
        let _ = write!(text, "\n| | default | variable | |\n|---|---|---|---|\n{rows}");
    }
}

fn tables(command: &Command, path: &str, text: &mut String) {
    for part in command.get_subcommands().filter(|part| !part.is_hide_set() && part.get_name() != "help") {
        let title = format!("{path} {}", part.get_name());
        let rows: String = arguments(part, false).map(row).collect();
        table(&title, &part.get_about().map(ToString::to_string).unwrap_or_default(), &rows, text);
        tables(part, &title, text);
    }
}

#[test]
fn the_page_has_every_flag_of_the_program_and_no_other() {
    let mut program = stepfleet_coordinator::cli::command();
    program.build();
    let mut flags = String::new();
    table("stepfleet", "Flags of all commands", &arguments(&program, true).map(row).collect::<String>(), &mut flags);
    tables(&program, "stepfleet", &mut flags);
    let page = read(PAGE);
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the flags begin");
    let (written, after) = rest.split_once(END).expect("the page says where the flags end");
    let flags = flags.trim_start_matches('\n');
    if std::env::var_os("STEPFLEET_WRITE_DOCS").is_some() {
        std::fs::write(root().join(PAGE), format!("{before}{BEGIN}{flags}{END}{after}"))
            .expect("the page can be written");
        return;
    }
    assert_eq!(
        written, flags,
        "write them anew: STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-cli --test configuration"
    );
}

#[test]
fn the_page_has_every_variable_that_is_read_and_no_other() {
    let sources: String = SOURCES.iter().map(|path| texts(&root().join(path))).collect();
    let (page, read) = (read(PAGE), variables(&sources));
    assert!(read.len() > 20, "the sources are somewhere else: {read:?}");
    let described = variables(&page);
    let missing: Vec<_> = read.difference(&described).collect();
    let unknown: Vec<_> = described.difference(&read).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "{PAGE} lacks {missing:?}, and has {unknown:?}, which nothing reads"
    );
}

#[test]
fn no_other_page_speaks_of_a_variable_that_nothing_reads() {
    let described = read(PAGE);
    let known = variables(&described);
    let pages = texts(&root().join("docs")) + &read("README.md");
    let unknown: Vec<_> = variables(&pages).difference(&known).copied().collect();
    assert!(unknown.is_empty(), "nothing reads {unknown:?}");
}
