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

# The host's network: a proxy on the host's loopback is then reachable as well.
build() {
  local log
  log=$(docker build --network host --label stepfleet.stand-in=debootstrap \
    --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy "$@" 2>&1) ||
    die "docker build $* failed: $log"
}

build_server() {
  local image=$1 from=$2 packages=$3
  say "image: building $image from Debian's $packages"
  build -t "$image" --build-arg "FROM=$from" --build-arg "PACKAGES=$packages" -f deploy/images/server.Dockerfile deploy/images
}

build_toolchain() {
  local image=$1 from=$2 packages=$3 root roots=/etc/ssl/certs/ca-certificates.crt settings=${CARGO_HOME:-$HOME/.cargo}/config.toml
  need_cargo
  say "image: building $image from the Rust toolchain of this machine"
  root=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf --one-file-system '$root'" EXIT
  mkdir -p "$root/toolchain" "$root/host/etc/ssl/certs" "$root/host/usr/local/cargo"
  cp -a "$(rustc --print sysroot)"/{bin,lib} "$root/toolchain"
  if [ -f "$roots" ]; then cp -L "$roots" "$root/host$roots"; fi
  if [ -f "$settings" ]; then cp -L "$settings" "$root/host/usr/local/cargo/config.toml"; fi
  build -t "$image" --build-arg "FROM=$from" --build-arg "PACKAGES=$packages" -f deploy/images/toolchain.Dockerfile "$root"
  rm -rf --one-file-system "$root"
  trap - EXIT
}

ensure() {
  local image=$1 name how from packages
  if have "$image"; then return 0; fi
  if pull "$image"; then return 0; fi
  while read -r name how from packages; do
    if [ "$name" != "$image" ]; then continue; fi
    case $how in
      suite) build_debian "$from" "$image" ;;
      server | toolchain) ensure "$from"; "build_$how" "$image" "$from" "$packages" ;;
      *) die "deploy/images/stand-ins.txt: $how is no way to make an image." ;;
    esac
    say "image: $image is ready"
    return 0
  done <deploy/images/stand-ins.txt
  die "$image could not be pulled, and deploy/images/stand-ins.txt has no stand-in for it."
}

docker_runs || die "'docker info' fails: no Docker engine answers."
if [ $# = 0 ]; then set -- redis:7.0-bookworm; fi
for image in "$@"; do ensure "$image"; done
