#!/usr/bin/env bash
# rustc links with `cc`, which neither Debian nor rustup brings.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"

links() {
  local dir result=0
  command -v cc >/dev/null || return 1
  dir=$(mktemp -d)
  # A compiler without the C library's headers is common and fails only later.
  printf '#include <stdio.h>\nint main(void) { return puts("") < 0; }\n' >"$dir/a.c"
  cc -o "$dir/a" "$dir/a.c" >/dev/null 2>&1 || result=1
  rm -rf "$dir"
  return "$result"
}

if links; then exit 0; fi

if can_apt; then
  say "compiler: installing gcc with apt-get"
  apt_update
  apt_install gcc libc6-dev || die "apt-get could not install gcc (see above)."
  if links; then exit 0; fi
fi

if [ "$(uname -s)" = Darwin ]; then
  die "no working C compiler, which Rust needs for linking. Run 'xcode-select --install', then this again."
fi
die "no working C compiler 'cc', which Rust needs for linking, and it could not be installed. Install gcc and the C library's headers (Debian, Ubuntu: 'apt-get install gcc libc6-dev' as root), then run this again."
