#!/usr/bin/env bash
# bench-peers.sh [argument of the load tool...]: BullMQ (npm) and apalis-workflow (crates.io) beside Stepfleet, in one
# go. They are installed into the target directory and nowhere else.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

need_cargo
command -v npm >/dev/null || die "npm was not found on PATH; BullMQ needs Node.js 20 or later."
peers=$(target_dir)/peers
mkdir -p "$peers/bullmq"
cp integration-tests/load/peers/bullmq/* "$peers/bullmq/"
say "peers: installing BullMQ"
npm install --prefix "$peers/bullmq" --silent --no-audit --no-fund --ignore-scripts
say "peers: building the apalis-workflow benchmark"
cargo build --quiet --release --locked --manifest-path integration-tests/load/peers/apalis/Cargo.toml \
  --target-dir "$peers/apalis"
exec deploy/scripts/bench.sh --only chain-off jobs --peers "$peers" "$@"
