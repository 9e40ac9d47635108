#!/usr/bin/env bash
# build.sh [clean]
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

need_cargo
if [ "${1:-}" = clean ]; then exec cargo clean; fi
deploy/scripts/install-compiler.sh
exec cargo build --release --workspace ${locked:+"$locked"}
