#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

need_cargo
deploy/scripts/install-compiler.sh

say "lint: rustfmt"
cargo fmt --all --check

say "lint: clippy"
cargo clippy --workspace --all-targets ${locked:+"$locked"} -- -D warnings

say "lint: the lock file of the fuzzer"
cargo metadata --locked --format-version 1 --manifest-path shared/fuzz/Cargo.toml >/dev/null ||
  die "shared/fuzz/Cargo.lock is out of date; 'cargo metadata --manifest-path shared/fuzz/Cargo.toml' brings it up to date."

say "lint: documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps ${locked:+"$locked"}

say "lint: packages"
deploy/scripts/package.sh

if ! cargo deny --version >/dev/null 2>&1; then
  say "lint: installing cargo-deny"
  # Outside target/, which `cargo clean` and a clean clone throw away.
  cargo install cargo-deny --locked --quiet
fi

say "lint: cargo deny"
cargo deny ${locked:+"$locked"} check --hide-inclusion-graph bans licenses sources

if log=$(limit 120 cargo deny fetch db 2>&1); then
    cargo deny ${locked:+"$locked"} check --hide-inclusion-graph --disable-fetch advisories
else
  say "lint: advisories NOT CHECKED: the advisory database could not be fetched: $(tail -n 1 <<<"$log")"
fi

say "lint: the breakages of the Lua"
deploy/scripts/breakages.sh --check

say "lint: the chart"
deploy/scripts/chart.sh

if command -v promtool >/dev/null; then
  say "lint: alert rules"
  promtool check rules deploy/prometheus/rules.yaml
  promtool test rules deploy/prometheus/rules_test.yaml
  promtool check config --syntax-only deploy/prometheus/prometheus.yaml
else
  say "lint: alert rules NOT CHECKED: promtool is not there (Debian: apt-get install prometheus)"
fi
say "lint: passed"
