//! An author adds `stepfleet` and `tokio`, and nothing else: a project of its own, outside of this workspace, with neither a dependency
//! on serde nor features of tokio.

use std::path::{Path, PathBuf};
use std::process::Command;

const MANIFEST: &str = r#"
[package]
name = "author"
version = "0.1.0"
edition = "2024"

[workspace]

[dependencies]
tokio = "1"
stepfleet = "#;

/// `target` of this workspace; what is built here stays there.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("one-dependency")
}

#[test]
fn stepfleet_and_tokio_are_all_that_an_author_adds() {
    let project = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dependency = format!("{{ path = {:?} }}\n", here.to_str().unwrap());
    std::fs::create_dir(project.path().join("src")).unwrap();
    std::fs::write(project.path().join("Cargo.toml"), format!("{MANIFEST}{dependency}")).unwrap();
    std::fs::write(project.path().join("src/main.rs"), include_str!("author/author.rs")).unwrap();
    // The versions that the workspace has, which are downloaded already.
    std::fs::copy(here.join("../Cargo.lock"), project.path().join("Cargo.lock")).unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["check", "--offline", "--quiet"])
        .current_dir(&project)
        .env("CARGO_TARGET_DIR", target())
        .env("RUSTFLAGS", "-D warnings")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}
