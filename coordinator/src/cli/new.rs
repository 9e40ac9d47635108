//! `stepfleet new`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use stepfleet_shared::names;

use super::Fleet;
use super::error::{CliError, CliResult};
use super::output;

/// The files of a project: their paths and texts.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../templates/Cargo.toml.template")),
    ("src/main.rs", include_str!("../../templates/main.rs")),
    ("Dockerfile", include_str!("../../templates/Dockerfile")),
    (".dockerignore", include_str!("../../templates/dockerignore")),
    (".gitignore", include_str!("../../templates/gitignore")),
    ("README.md", include_str!("../../templates/README.md")),
];

const EXAMPLES: &str = "\
Examples:
  stepfleet new hello
  stepfleet new hello --path ../stepfleet     with the library of a checkout, for those who build from source

It makes a Cargo project in a new folder: a worker that serves a small durable workflow, its test, and a Dockerfile.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// The folder to make; its last part is the name of the package
    name: PathBuf,
    /// Take the library from this checkout of Stepfleet instead of crates.io
    #[arg(long, value_name = "CHECKOUT")]
    path: Option<PathBuf>,
}

pub(super) fn run(fleet: &Fleet, options: &Options) -> CliResult {
    let name = package(&options.name)?;
    let dependency = dependency(options.path.as_deref())?;
    let dir = &options.name;
    if fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some()) {
        return Err(CliError::new(format!(
            "the folder {} already exists and is not empty; choose another name",
            dir.display()
        )));
    }
    for (file, text) in FILES {
        let path = dir.join(file);
        let text = text.replace("{{name}}", name).replace("{{stepfleet}}", &dependency);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|error| CliError::new(format!("{} cannot be written: {error}", path.display())))?;
    }
    if fleet.json {
        output::json(&json!({ "name": name, "path": dir }))?;
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&format!(
        "{name} is a worker that serves the workflow hello. Next, each in its own terminal:\n\n  \
         stepfleet dev                                  a Redis and a coordinator\n  \
         cd {} && cargo run\n  \
         stepfleet start hello --input '\"Ann\"' --wait\n\n\
         cargo test runs the workflow without Redis.",
        dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// The name of the package: one that Cargo takes.
fn package(dir: &Path) -> Result<&str, CliError> {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let is_fine = begins_well && names::check_name("name", name).is_ok() && !name.contains('.');
    let is_reserved =
        ["test", "core", "std", "alloc", "proc_macro", "stepfleet", "tokio", "fn", "mod", "use"].contains(&name);
    if is_fine && !is_reserved {
        return Ok(name);
    }
    Err(CliError::new(format!(
        "{name:?} cannot be the name of a package: begin with a letter, use letters, digits, - and _, and avoid names \
         that Rust or Stepfleet uses"
    )))
}

fn dependency(checkout: Option<&Path>) -> Result<String, CliError> {
    let Some(checkout) = checkout else {
        let version = env!("CARGO_PKG_VERSION");
        return Ok(format!("\"{}\"", version.rsplit_once('.').map_or(version, |(minor, _)| minor)));
    };
    let library = checkout.join("worker");
    let library =
        library.canonicalize().ok().filter(|library| library.join("Cargo.toml").is_file()).ok_or_else(|| {
            CliError::new(format!("{} is not a checkout of Stepfleet: it has no worker/Cargo.toml", checkout.display()))
        })?;
    // A TOML string, as Rust would write it.
    Ok(format!("{{ path = {:?} }}", library.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_cargo_takes() {
        assert_eq!(package(Path::new("a/hello-2")).ok(), Some("hello-2"));
        for bad in ["", "..", "2nd", "a b", "a.b", "test", "tokio"] {
            assert!(package(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        for (file, text) in FILES {
            let text = text.replace("{{name}}", "x").replace("{{stepfleet}}", &dependency(None).unwrap());
            assert!(!text.contains("{{") && !text.contains("}}"), "{file}");
        }
    }
}
