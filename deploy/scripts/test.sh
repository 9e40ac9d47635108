#!/usr/bin/env bash
# test.sh [all|integration|chaos] [argument of the test program...]; STEPFLEET_TEST_REDIS=process|docker|auto says where Redis comes from.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

what=${1:-all}
[ $# -eq 0 ] || shift
mode=${STEPFLEET_TEST_REDIS:-auto}

need_cargo

image() { deploy/scripts/docker-image.sh redis:7.0-bookworm; }

case $mode in
  process) ;;
  docker)
    docker_runs || die "STEPFLEET_TEST_REDIS=docker, but 'docker info' fails: no Docker engine answers."
    image
    ;;
  auto)
    mode=process
    if docker_runs; then
      if image; then mode=docker; else say "test: no Redis image; using a local server instead"; fi
    fi
    ;;
  *) die "STEPFLEET_TEST_REDIS=$mode is not one of process, docker, auto." ;;
esac
export STEPFLEET_TEST_REDIS=$mode

case $mode in
  docker) say "test: Redis runs in Docker (redis:7.0-bookworm)" ;;
  process) say "test: Redis runs as local redis-server processes" ;;
esac

deploy/scripts/install-compiler.sh
# Tests of `stepfleet dev` and of redis-cli need the programs here, wherever the other tests' Redis runs.
deploy/scripts/install-redis.sh
# For the test with clocks that are hours off, which says so where it cannot run.
if ! command -v faketime >/dev/null && can_apt; then
  apt_update
  apt_install faketime || say "test: apt-get could not install faketime; the test of clocks that differ will not run"
fi
# For the tests of a worker and a caller in Python, likewise.
if ! python3 -c 'import redis' 2>/dev/null && ! /usr/bin/python3 -c 'import redis' 2>/dev/null && can_apt; then
  apt_update
  apt_install python3-redis || say "test: apt-get could not install python3-redis; the tests in Python try pip, and may not run"
fi
command -v redis-server >/dev/null || command -v valkey-server >/dev/null ||
  die "there is no local redis-server or valkey-server; install Redis 7.0 or later."

case $what in
  all) cargo test --workspace ${locked:+"$locked"} ;;
  integration) cargo test -p stepfleet-integration-tests ${locked:+"$locked"} -- "$@" ;;
  chaos)
    suite=(cargo test --release -p stepfleet-integration-tests ${locked:+"$locked"})
    listed=$("${suite[@]}" -- --ignored --list chaos)
    # A filter that matches nothing would pass.
    grep -q ': test$' <<<"$listed" || die "no ignored test has 'chaos' in its name."
    "${suite[@]}" -- --ignored --nocapture --test-threads=1 chaos
    ;;
  *) die "test.sh [all|integration|chaos], not '$what'." ;;
esac
