//! What the compiler says of likely mistakes, each at the place where it stands and with what to do:
//!
//! - an event without `#[derive(Event)]`, without `Serialize` and `Deserialize`, with a reference or a bad name; one that
//!   is taken by reference, or named in `sends` or `external` and is none
//! - a step that is not async, returns what is no event, has wrong parameters, a future that is not `Send`, an error that
//!   is none, or the name of another; `#[step]` outside of a workflow
//! - a workflow without `start`, without `stop`, without steps, that is not `Sync`, on a struct; a type that is served and
//!   is no workflow
//! - a context of another type, or with a state that cannot be written
//! - unknown options, options given twice, durations without units
//!
//! What only the whole graph tells is checked when a worker starts: see `src/graph/check.rs`.
//!
//! `TRYBUILD=overwrite cargo test -p stepfleet --test ui` writes the `.stderr` files anew.

use std::process::Command;

/// The compiler whose words stand in `ui/compiler`.
const PINNED: &str = "rustc 1.95.";

#[test]
fn mistakes_are_reported_where_they_stand() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
    // Releases differ in how they word their own errors; the macros' errors are the same in all.
    let rustc = rustc();
    if rustc.starts_with(PINNED) {
        cases.compile_fail("tests/ui/compiler/*.rs");
    } else {
        eprintln!("tests/ui/compiler is for {PINNED}*, not for {rustc}");
    }
}

fn rustc() -> String {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs");
    String::from_utf8_lossy(&version.stdout).trim().to_owned()
}
