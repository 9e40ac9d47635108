#!/usr/bin/env bash
# bench.sh [argument of the load tool...]: a release build of the load tool, run on a Redis of its own.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

need_cargo
deploy/scripts/install-compiler.sh
deploy/scripts/install-redis.sh
exec cargo run --quiet --release -p stepfleet-load ${locked:+"$locked"} -- "$@"
