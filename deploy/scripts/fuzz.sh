#!/usr/bin/env bash
# fuzz.sh [seconds for each decoder, 30 by default] [decoder...]
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

seconds=${1:-${SECONDS_EACH:-30}}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "fuzz.sh [seconds] [decoder...], not '$seconds'."
shift || true

need_cargo

not_here() {
  say "fuzz: NOT RUN: $1."
  say "fuzz: 'make test' runs the same decoders on the seeds of shared/fuzz/corpus, mutated and random (shared/tests/decoders.rs)."
  exit 0
}
cargo fuzz --version >/dev/null 2>&1 || not_here "cargo-fuzz is not installed ('cargo install cargo-fuzz --locked')"
cargo +nightly --version >/dev/null 2>&1 || not_here "there is no nightly toolchain ('rustup toolchain install nightly')"
deploy/scripts/install-compiler.sh

fuzz=(cargo +nightly fuzz)
"${fuzz[@]}" build --fuzz-dir shared/fuzz decoders

# What is found stays out of the seeds: it grows with every run.
found=shared/fuzz/target/found
failed=()
if [ $# -gt 0 ]; then decoders=("$@"); else decoders=(shared/fuzz/corpus/*/); fi
for decoder in "${decoders[@]}"; do
  decoder=$(basename "$decoder")
  [ -d "shared/fuzz/corpus/$decoder" ] || die "there is no decoder '$decoder'; see shared/fuzz/corpus."
  mkdir -p "$found/$decoder"
  say "fuzz: $decoder, $seconds s"
  log=$found/$decoder.log
  STEPFLEET_DECODER=$decoder "${fuzz[@]}" run --fuzz-dir shared/fuzz decoders \
    "$found/$decoder" "shared/fuzz/corpus/$decoder" -- \
    -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=4096 \
    -print_final_stats=1 >"$log" 2>&1 || { tail -n 40 "$log" >&2; failed+=("$decoder"); }
  sed -n 's/^stat::number_of_executed_units: */fuzz:   inputs: /p' "$log" >&2
done
[ ${#failed[@]} = 0 ] || die "the fuzzer has found something in: ${failed[*]} (see above, and shared/fuzz/artifacts)."
say "fuzz: nothing found"
