//! What the compiler says of likely mistakes. `TRYBUILD=overwrite cargo test -p stepfleet-worker --test ui` writes
//! the `.stderr` files anew.

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
