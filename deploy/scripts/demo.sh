#!/usr/bin/env bash
# The demo: DOCS names the folder of documents to work on, OUT the folder of the results, PORT the port for Redis.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

need_cargo
if [ -n "${DOCS:-}" ] && [ ! -d "$DOCS" ]; then die "DOCS=$DOCS is not a folder."; fi
deploy/scripts/install-compiler.sh
deploy/scripts/install-redis.sh

build_demos
args=(demo --stepfleet "$programs/stepfleet")
if [ -n "${DOCS:-}" ]; then args+=(--docs "$DOCS"); fi
if [ -n "${OUT:-}" ]; then args+=(--out "$OUT"); fi
if [ -n "${PORT:-}" ]; then args+=(--port "$PORT"); fi

if [ -z "${STEPFLEET_DEMO_DOCKER:-}" ] &&
  { command -v redis-server >/dev/null || command -v valkey-server >/dev/null; }; then
  exec "$programs/examples/documents" "${args[@]}"
fi

# No server could be installed, but Docker runs (or was asked for).
image=redis:7.0-bookworm
deploy/scripts/docker-image.sh "$image"
container=$(docker run -d --rm -p "127.0.0.1:${PORT:-0}:6379" "$image" redis-server --appendonly yes) ||
  die "Redis could not be started in Docker (see above)."
trap 'docker kill "$container" >/dev/null' EXIT
address=$(docker port "$container" 6379/tcp | head -n 1)
"$programs/examples/documents" "${args[@]}" --redis "redis://$address"
