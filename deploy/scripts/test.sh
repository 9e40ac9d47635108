#!/usr/bin/env bash
# test.sh [all|integration|chaos|model|matrix|matrix-short|containers] [argument of the test program...]
# STEPFLEET_TEST_REDIS=process|docker|auto says where Redis comes from, STEPFLEET_TEST_IMAGE which image it is in Docker.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

what=${1:-all}
[ $# -eq 0 ] || shift
mode=${STEPFLEET_TEST_REDIS:-auto}
# It kills and freezes servers, so they are processes.
[ "$what" != chaos ] || mode=process

need_cargo

# Most tests wait more than they compute. One at a time where `only` says so.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((3 * $(getconf _NPROCESSORS_ONLN)))}
export RUST_TEST_THREADS

image() { deploy/scripts/docker-image.sh "${STEPFLEET_TEST_IMAGE:-redis:7.0-bookworm}"; }

# The servers of the matrix.
servers=(redis:7.0-bookworm redis:8.0 valkey/valkey:8.1 valkey/valkey:9.1)
# What depends most on the server, in less than a minute each: each function, replies that are lost, keys of one slot, what commands
# cost, blocked readers, streams, users and a restart, servers that are no master, a failover by Sentinels, one in a cluster, and a slot
# that moves.
selection=(servers:: kernel:: shapes:: lost_replies:: one_slot:: cost:: wake_ups:: streaming:: published_once:: acl:: wrong_server:: durability::
  a_sentinel_in_the_place a_master_dies_under_load a_master_of_a_cluster_dies a_slot_that_moves)

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
  docker) say "test: Redis runs in Docker (${STEPFLEET_TEST_IMAGE:-redis:7.0-bookworm})" ;;
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
# The documents' commands use them, and tests type these.
for program in pkill:procps openssl:openssl; do
  if ! command -v "${program%:*}" >/dev/null && can_apt; then
    apt_update
    apt_install "${program#*:}"
  fi
done
# For the tests of a worker and a caller in Python, likewise.
if ! python3 -c 'import redis' 2>/dev/null && ! /usr/bin/python3 -c 'import redis' 2>/dev/null && can_apt; then
  apt_update
  apt_install python3-redis || say "test: apt-get could not install python3-redis; the tests in Python try pip, and may not run"
fi
command -v redis-server >/dev/null || command -v valkey-server >/dev/null ||
  die "there is no local redis-server or valkey-server; install Redis 7.0 or later."

# For the tests of a fleet in containers.
if docker_runs && ! docker compose version >/dev/null 2>&1 && ! command -v docker-compose >/dev/null && can_apt; then
  apt_update
  apt_install docker-compose || say "test: apt-get could not install docker-compose; the tests of a fleet in containers will not run"
fi

# The integration tests, of the whole workspace: of their package alone, cargo would build much again, with fewer features.
suite=(--workspace --test all ${locked:+"$locked"})

# on IMAGE ARGUMENT...: the integration tests against the server of this image. What starts servers as processes gets its programs.
on() {
  local image=$1 folder version
  shift
  folder=$(target_dir)/servers/${image//[:\/]/-}
  # No `set -e` where a caller asks how this ends.
  deploy/scripts/docker-image.sh "$image" || return 1
  version=$(deploy/scripts/server-of.sh "$image" "$folder") || return 1
  say "test: against $image: $version"
  # The path is the tests' alone: crates that were built with another one would be built again, and all that needs them.
  STEPFLEET_TEST_IMAGE=$image cargo test "${suite[@]}" \
    --config "target.'cfg(all())'.runner = ['env', 'PATH=$folder:$PATH']" -- "$@"
}

# matrix ARGUMENT...: all servers, also after one has failed.
matrix() {
  local image failed=()
  docker_runs || die "the matrix needs Docker: 'docker info' fails."
  for image in "${servers[@]}"; do on "$image" "$@" || failed+=("$image"); done
  [ "${#failed[@]}" = 0 ] || die "tests failed against ${failed[*]} (see above)."
  say "test: passed against ${servers[*]}"
}

# `only [--ignored] FILTER`: the integration tests of that name, one at a time.
only() {
  local listed
  [ "$1" != --ignored ] || suite+=(--release)
  listed=$(cargo test "${suite[@]}" -- --list "$@")
  # A filter that matches nothing would pass.
  grep -q ': test$' <<<"$listed" || die "no test matches '$*'."
  cargo test "${suite[@]}" -- --nocapture --test-threads=1 "$@"
}

case $what in
  matrix) STEPFLEET_TEST_REDIS=docker matrix "$@" ;;
  matrix-short)
    # The first is what all other tests run against.
    servers=("${servers[@]:1}")
    STEPFLEET_TEST_REDIS=process matrix "${selection[@]}" "$@"
    ;;
  containers)
    docker_runs || die "the images need Docker: 'docker info' fails."
    cargo test "${suite[@]}" -- --include-ignored --nocapture --test-threads=1 containers:: "$@"
    ;;
  all) cargo test --workspace ${locked:+"$locked"} ;;
  integration) cargo test "${suite[@]}" -- "$@" ;;
  chaos)
    # Three fleets, one after another.
    export STEPFLEET_CHAOS_SECONDS=${STEPFLEET_CHAOS_SECONDS:-$((${MINUTES:-1} * 20))}
    only chaos::
    ;;
  model) only --ignored model:: ;;
  *) die "test.sh [all|integration|chaos|model|matrix|matrix-short|containers], not '$what'." ;;
esac
