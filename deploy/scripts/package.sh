#!/usr/bin/env bash
# Packs the crates that are published, as crates.io would get them. Without the network, and without building them again: before a
# release, `cargo package` without --no-verify does that, in several minutes and gigabytes.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

need_cargo

folder=$(target_dir)/package
rm -f "$folder"/*.crate
unpublished=(stepfleet-contract stepfleet-integration-tests stepfleet-load)
log=$(cargo package --workspace "${unpublished[@]/#/--exclude=}" --no-verify --offline --allow-dirty 2>&1) ||
  { printf '%s\n' "$log" >&2; die "the crates cannot be packed."; }
# Where the repository is public it belongs into Cargo.toml; until then the documentation stands for it.
if grep -q 'warning: manifest has no' <<<"$log"; then
  printf '%s\n' "$log" >&2
  die "the metadata of a crate is not complete."
fi
packed=0
for crate in "$folder"/*.crate; do
  for file in README.md Cargo.toml; do
    # Not grep -q: it would end tar early.
    tar -tzf "$crate" | grep "^[^/]*/$file\$" >/dev/null || die "$(basename "$crate") has no $file."
  done
  packed=$((packed + 1))
done
say "package: $packed crates can be published"
