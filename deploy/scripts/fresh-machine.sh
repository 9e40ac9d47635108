#!/usr/bin/env bash
# fresh-machine.sh TARGET [VARIABLE=VALUE...]: what is committed, made on a Debian that has only
# make, curl and the Rust toolchain of this machine. Needs root and debootstrap.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

suite=bookworm
[ $# -gt 0 ] || die "usage: fresh-machine.sh demo|test|... [VARIABLE=VALUE...]"
is_root || die "fresh-machine.sh needs root, for debootstrap and chroot."
command -v debootstrap >/dev/null || { apt_update; apt_install debootstrap; }

repository=$PWD
cargo_home=${CARGO_HOME:-$HOME/.cargo}
rustup_home=${RUSTUP_HOME:-$HOME/.rustup}
[ -x "$cargo_home/bin/rustup" ] || die "no rustup in $cargo_home/bin; its toolchain is what the fresh machine gets."
[ -z "$(git status --porcelain)" ] || say "fresh: note: uncommitted changes are left out"

root=$(mktemp -d)
chmod 755 "$root"
# All mounts live in the namespace of `unshare` below, so this cannot reach into the toolchain.
trap 'rm -rf --one-file-system "$root"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

SECONDS=0
say "fresh: debootstrap $suite"
debootstrap --variant=minbase --include=make,curl,ca-certificates "$suite" "$root" \
  ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$root/debootstrap.out" 2>&1 </dev/null ||
  { tail -n 20 "$root/debootstrap.out" >&2; die "debootstrap failed."; }

# The network as this machine has it: sources, proxies, certificates, names.
if grep -q "VERSION_CODENAME=$suite" /etc/os-release; then
  rm -f "$root/etc/apt/sources.list"
  find /etc/apt -maxdepth 2 \( -path '/etc/apt/sources.list' -o -path '/etc/apt/sources.list.d/debian.sources' \) \
    -exec cp --parents {} "$root" ';'
fi
apt-config dump | grep -E '^Acquire::(https?|Check|Retries)' >"$root/etc/apt/apt.conf.d/90host" || true
find /usr/local/share/ca-certificates -name '*.crt' -exec cp --parents {} "$root" ';' 2>/dev/null || true
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
# No service starts by itself, as in a container: its port could be in use out here.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"

git clone --quiet --no-hardlinks "$repository" "$root/root/stepfleet"

mkdir -p "$root/root/.cargo/bin" "$root$rustup_home"
for config in config config.toml; do
  if [ -f "$cargo_home/$config" ]; then cp "$cargo_home/$config" "$root/root/.cargo/"; fi
done

# PATH leaves cargo out, as a shell opened before the installation of Rust does.
environment=(HOME=/root USER=root TERM="${TERM:-dumb}" LANG=C.UTF-8 RUSTUP_HOME="$rustup_home"
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
while IFS= read -r name; do
  environment+=("$name=${!name}")
done < <(compgen -e | grep -iE '^((https?|ftp|all|no)_proxy|ssl_cert_(file|dir)|ci|cargo_(http|net|registries|registry|source|build)_.*|rustup_(dist|update)_.*|stepfleet_.*)$')

say "fresh: [$SECONDS s] make $*"
code=0
# shellcheck disable=SC2016
env -i "${environment[@]}" unshare --mount --pid --fork --kill-child --propagation private \
  bash -euc '
    root=$1 cargo_home=$2 rustup_home=$3
    shift 3
    mount --rbind /dev "$root/dev"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount --bind "$cargo_home/bin" "$root/root/.cargo/bin"
    mount -o remount,bind,ro "$root/root/.cargo/bin"
    mount --bind "$rustup_home" "$root$rustup_home"
    mount -o remount,bind,ro "$root$rustup_home"
    chroot "$root" update-ca-certificates >/dev/null 2>&1
    chroot "$root" make -C /root/stepfleet --no-print-directory "$@"
  ' fresh "$root" "$cargo_home" "$rustup_home" "$@" </dev/null || code=$?

if [ "$code" = 0 ]; then
  say "fresh: [$SECONDS s] make $* PASSED"
else
  say "fresh: [$SECONDS s] make $* FAILED (exit $code)"
fi
exit "$code"
