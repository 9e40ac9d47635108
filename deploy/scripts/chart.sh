#!/usr/bin/env bash
# Checks the Helm chart: lints it, renders it with each file of deploy/chart/ci, and checks the manifests against the schemas of Kubernetes.
# With helm where it is installed; in CI without it, with helm's library from a Python package.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
grep -qx "appVersion: \"$version\"" deploy/chart/Chart.yaml ||
  die "deploy/chart/Chart.yaml has another appVersion than the crates, $version: it is the tag of the coordinator's image"

not_checked() { say "chart: NOT CHECKED: $*"; exit 0; }

command -v python3 >/dev/null || not_checked "python3 is not there"
# The package brings compiled code: nobody gets it on their machine unasked.
if [ "${CI:-}" != true ] && ! command -v helm >/dev/null; then not_checked "helm is not installed"; fi
# Outside target/, which a clean clone does not have: the library is large.
packages=${XDG_CACHE_HOME:-$HOME/.cache}/stepfleet/chart-1
if [ ! -e "$packages/complete" ]; then
  say "chart: installing what checks it"
  rm -rf "$packages"
  log=$(limit 300 python3 -m pip install --quiet --disable-pip-version-check --target "$packages" \
    helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 PyYAML==6.0.4 2>&1) ||
    not_checked "pip could not install it: $(tail -n 1 <<<"$log")"
  touch "$packages/complete"
fi
export PYTHONPATH=$packages

if command -v helm >/dev/null; then helm lint --strict deploy/chart; fi
for values in deploy/chart/ci/*.yaml; do
  say "chart: $values"
  if command -v helm >/dev/null; then
    helm template ci deploy/chart --values "$values" | python3 deploy/scripts/chart.py
  else
    # The library tells of the link to the alert rules each time.
    python3 deploy/scripts/chart.py deploy/chart "$values" 2> >(grep -v 'found symbolic link' >&2)
  fi
done
