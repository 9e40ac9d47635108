#!/usr/bin/env bash
# images.sh [--programs FOLDER]: builds stepfleet/coordinator and stepfleet/demo-worker with the tag of STEPFLEET_TAG (default: latest).
# With --programs, from stepfleet and demo-worker in FOLDER, compiled on a Debian 12 or older; otherwise all is compiled in a container.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

programs=
case ${1:-} in
  '') ;;
  --programs) programs=${2:?images.sh --programs FOLDER} ;;
  *) die "images.sh [--programs FOLDER], not '$1'." ;;
esac
tag=${STEPFLEET_TAG:-latest}
docker_runs || die "'docker info' fails: no Docker engine answers."

context=.
args=()
if [ -n "$programs" ]; then
  deploy/scripts/docker-image.sh debian:bookworm-slim
  context=$(mktemp -d)
  trap 'rm -rf --one-file-system "$context"' EXIT
  mkdir "$context/prebuilt"
  for program in stepfleet demo-worker; do
    strip -o "$context/prebuilt/$program" "$programs/$program" || die "$programs/$program cannot be used (see above)."
  done
  cp -L /etc/ssl/certs/ca-certificates.crt "$context/prebuilt/"
  args+=(--build-arg BUILD_IMAGE=debian:bookworm-slim)
else
  deploy/scripts/docker-image.sh debian:bookworm-slim rust:1-slim-bookworm
fi

for target in coordinator demo-worker; do
  say "images: building stepfleet/$target:$tag"
  # The host's network: a proxy on the host's loopback is then reachable as well.
  docker build --network host --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy ${args[@]+"${args[@]}"} \
    -f deploy/Dockerfile --target "$target" -t "stepfleet/$target:$tag" "$context" >&2
done
