#!/usr/bin/env bash
# Makes sure that a Redis or Valkey server can be started on this machine.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"

oldest=7

found() {
  local server version
  for server in redis-server valkey-server; do
    command -v "$server" >/dev/null || continue
    version=$("$server" --version | sed -n 's/.* v=\([0-9][0-9.]*\).*/\1/p')
    if [ "${version%%.*}" -ge "$oldest" ] 2>/dev/null; then
      say "redis: $(command -v "$server") $version"
      return 0
    fi
    say "redis: $(command -v "$server") is ${version:-of unknown version}; $oldest.0 or newer is needed"
  done
  return 1
}

if found; then exit 0; fi

if can_apt; then
  apt_update
  for package in redis-server valkey-server; do
    major=$(apt_major "$package")
    [ -n "$major" ] && [ "$major" -ge "$oldest" ] || continue
    say "redis: installing $package with apt-get (its system service on port 6379 is not used here)"
    apt_install "$package" || die "apt-get could not install $package (see above)."
    if found; then exit 0; fi
  done
fi

if [ "$(uname -s)" = Darwin ] && command -v brew >/dev/null; then
  say "redis: installing redis with brew"
  brew install --quiet redis >&2 || die "brew could not install redis (see above)."
  if found; then exit 0; fi
fi

if docker_runs; then
  say "redis: none is installed here; using Docker instead"
  exit 0
fi

die "no Redis $oldest.0 or Valkey server was found and none could be installed. Install redis-server $oldest.0 or newer so that it is on PATH, or start Docker, then run this again. (Automatic installation works with apt-get as root or with sudo, and with brew on macOS.)"
