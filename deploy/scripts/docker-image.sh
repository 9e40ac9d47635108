#!/usr/bin/env bash
# docker-image.sh [IMAGE...]: makes sure that the public images used here are in the local Docker engine.
# Where no image registry can be reached, stand-ins under the same names are built from Debian packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

have() { docker image inspect "$1" >/dev/null 2>&1; }

pull() {
  local log
  say "image: pulling $1"
  if log=$(limit "${STEPFLEET_PULL_SECONDS:-60}" docker pull --quiet "$1" 2>&1); then return 0; fi
  say "image: $1 could not be pulled: ${log:-no answer in time}"
  return 1
}

build_debian() {
  local suite=$1 image=$2 root
  command -v debootstrap >/dev/null || {
    can_apt || die "$image can neither be pulled nor built: debootstrap is missing and cannot be installed."
    apt_update
    apt_install debootstrap
  }
  can_be_root || die "$image can neither be pulled nor built: debootstrap needs root."
  root=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "as_root rm -rf --one-file-system '$root'" EXIT
  say "image: building $image with debootstrap"
  # DEBIAN_MIRROR is left to debootstrap's own default unless set.
  as_root debootstrap --variant=minbase "$suite" "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} \
    >"$root.log" 2>&1 || { tail -n 20 "$root.log" >&2; die "debootstrap failed (whole log: $root.log)."; }
  rm -f "$root.log"
  apt-config dump 2>/dev/null | grep -E '^Acquire::(https?|Check|Retries)' |
    as_root tee "$root/etc/apt/apt.conf.d/90host" >/dev/null || true
  as_root tar -C "$root" --numeric-owner --one-file-system \
    --exclude './var/cache/apt/archives/*.deb' --exclude './var/lib/apt/lists/*_*' \
    --exclude './proc/*' --exclude './sys/*' --exclude './dev/*' -c . |
    docker import --change 'CMD ["bash"]' --change 'LABEL stepfleet.stand-in=debootstrap' - "$image" >/dev/null
  as_root rm -rf --one-file-system "$root"
  trap - EXIT
}

ensure() {
  local image=$1
  if have "$image"; then return 0; fi
  if pull "$image"; then return 0; fi
  case $image in
    debian:bookworm-slim) build_debian bookworm "$image" ;;
    redis:7.0-bookworm)
      ensure debian:bookworm-slim
      say "image: building $image from Debian's redis-server"
      # The host's network: a proxy on the host's loopback is then reachable as well.
      local log
      log=$(docker build --network host --label stepfleet.stand-in=debootstrap \
        --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy \
        -t "$image" -f deploy/images/redis.Dockerfile deploy/images 2>&1) ||
        die "$image could not be built: $log"
      ;;
    *) die "$image could not be pulled, and there is no stand-in for it." ;;
  esac
  say "image: $image is ready"
}

docker_runs || die "'docker info' fails: no Docker engine answers."
if [ $# = 0 ]; then set -- redis:7.0-bookworm; fi
for image in "$@"; do ensure "$image"; done
