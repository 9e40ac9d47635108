#!/usr/bin/env bash
# server-of.sh IMAGE FOLDER: makes redis-server and redis-cli of a Redis or Valkey image programs of this machine, in FOLDER.
# They bring the libraries of their image, so this works on Linux whatever its release, on processors of the image's kind.
set -euo pipefail
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"

image=${1:?server-of.sh IMAGE FOLDER}
mkdir -p "${2:?server-of.sh IMAGE FOLDER}"
folder=$(cd "$2" && pwd)

# shellcheck disable=SC2016
docker run --rm --network none --entrypoint sh "$image" -c '
  programs="$(command -v redis-server) $(command -v redis-cli)"
  libraries=$(for program in $programs; do ldd "$program"; done | grep -o "/[^ ):]*" | sort -u)
  tar -ch $programs $libraries 2>/dev/null' | tar -x -C "$folder" ||
  die "the programs of $image could not be read (see above)."

loader=$(find "$folder" -name 'ld-linux*' -o -name 'ld-musl*' | head -n 1)
[ -n "$loader" ] || die "$image has no loader of programs."
libraries=$(find "$folder" -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
for program in redis-server redis-cli; do
  file=$(find "$folder"/*/ -name "$program" | head -n 1)
  printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' "$loader" "$libraries" "$file" >"$folder/$program"
  chmod +x "$folder/$program"
done
"$folder/redis-server" --version
