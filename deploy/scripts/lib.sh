# shellcheck shell=bash
# Sourced by the other scripts.

say() { printf '%s\n' "$*" >&2; }
die() { say "stepfleet: $*"; exit 1; }

is_root() { [ "$(id -u)" = 0 ]; }

can_be_root() {
  is_root && return
  command -v sudo >/dev/null || return 1
  # Without a terminal sudo could only hang or fail on its password question.
  [ -t 0 ] || sudo -n true 2>/dev/null
}

as_root() { if is_root; then "$@"; else sudo "$@"; fi; }

can_apt() { command -v apt-get >/dev/null && can_be_root; }

apt_update() {
  local try
  # `apt-get update` does not wait for another apt as `install` does.
  for try in 1 2 3; do
    if as_root apt-get update -qq >/dev/null 2>&1; then return 0; fi
    sleep $((try * 3))
  done
  say "stepfleet: apt-get update failed; continuing with the existing package lists"
}

apt_install() {
  local log
  log=$(as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=600 "$@" </dev/null 2>&1) ||
    { tail -n 20 <<<"$log" >&2; return 1; }
}

# Major version that apt would install, or nothing.
apt_major() {
  apt-cache policy "$1" 2>/dev/null |
    sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9]*\)[.].*/\2/p'
}

docker_runs() { command -v docker >/dev/null && docker info >/dev/null 2>&1; }

# GNU timeout is not on macOS.
limit() {
  local seconds=$1
  shift
  if command -v timeout >/dev/null; then timeout -k 5 "$seconds" "$@"; else "$@"; fi
}

need_cargo() {
  PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
  export PATH
  command -v cargo >/dev/null ||
    die "cargo was not found on PATH or in ${CARGO_HOME:-$HOME/.cargo}/bin. Install Rust as https://rustup.rs says, then run this again."
  cargo --version >/dev/null ||
    die "cargo was found but does not start (see above). With rustup, 'rustup default stable' usually helps."
}

# CI builds what was committed; a developer may just have changed a dependency.
# shellcheck disable=SC2034
if [ "${CI:-}" = true ]; then locked=--locked; else locked=; fi

target_dir() {
  cargo metadata --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# The programs of the demos, and the folder that has them in `programs`. PROFILE=dev builds them as the tests are built: CI has them then.
build_demos() {
  local profile=${PROFILE:-release}
  # shellcheck disable=SC2034
  case $profile in
    release) programs=$(target_dir)/release ;;
    dev) programs=$(target_dir)/debug ;;
    *) die "PROFILE=$profile is not one of release, dev." ;;
  esac
  # One build for all: built one by one, dependencies with differing features are compiled twice.
  cargo build --workspace --profile "$profile" ${locked:+"$locked"} --bin stepfleet --example documents --example approval
}
