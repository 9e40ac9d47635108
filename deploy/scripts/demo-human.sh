#!/usr/bin/env bash
# A run asks for approval, all workers are killed, others are started, and the approval is given with redis-cli.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

need_cargo
deploy/scripts/install-compiler.sh
deploy/scripts/install-redis.sh
build_demos
folder=$(mktemp -d)
started=()
container=

finish() {
  local code=$?
  trap - EXIT
  if [ ${#started[@]} -gt 0 ]; then kill -9 "${started[@]}" 2>/dev/null || true; fi
  if [ -n "$container" ]; then docker kill "$container" >/dev/null || true; fi
  if [ "$code" != 0 ]; then tail -n 20 "$folder"/*.log >&2 || true; fi
  rm -rf "$folder"
  exit "$code"
}
trap finish EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# Waits until a command succeeds, and ends with what it was waiting for otherwise.
until_true() {
  local what=$1 try
  shift
  for ((try = 0; try < 600; try++)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  die "$what did not happen within a minute."
}

background() {
  local name=$1
  shift
  "$@" >"$folder/$name.log" 2>&1 &
  started+=($!)
  # Otherwise the shell tells of each that is killed.
  disown $!
}

server=$(command -v redis-server || command -v valkey-server || true)
if [ -n "$server" ]; then
  port=${PORT:-}
  if [ -z "$port" ]; then
    # The system gives none of these to connections: on Linux those begin at 32768.
    port=$((20000 + RANDOM % 12000))
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  fi
  background redis "$server" --port "$port" --bind 127.0.0.1 --dir "$folder" --save '' --appendonly yes
  client=$(command -v redis-cli || command -v valkey-cli) || die "there is no redis-cli beside $server."
  cli() { "$client" -p "$port" "$@"; }
else
  image=redis:7.0-bookworm
  deploy/scripts/docker-image.sh "$image"
  container=$(docker run -d --rm -p "127.0.0.1:${PORT:-0}:6379" "$image" redis-server --appendonly yes) ||
    die "Redis could not be started in Docker (see above)."
  port=$(docker port "$container" 6379/tcp | head -n 1 | sed 's/.*://')
  cli() { docker exec "$container" redis-cli "$@"; }
fi
until_true "Redis" cli PING

export STEPFLEET_REDIS=redis://127.0.0.1:$port DIARY=$folder/diary
stepfleet() { "$programs/stepfleet" "$@"; }
background coordinator "$programs/stepfleet" coordinator

say "Two workers, and a release that somebody must approve:"
background worker-1 "$programs/examples/approval"
first=$!
background worker-2 "$programs/examples/approval"
second=$!
stepfleet start release --id r1 --input '"v1.2"'
asks() { [ "$(cli ZCARD 'sf:{0}:questions')" = 1 ]; }
until_true "the question" asks
stepfleet questions

say "kill -9 of both workers. The run keeps waiting, and holds no worker:"
kill -9 "$first" "$second"
cli HGET 'sf:{0}:run:r1' status

say "The approval, with redis-cli:"
question=$(cli ZRANGE 'sf:{0}:questions' 0 0)
cli HGET 'sf:{0}:asked:r1' "${question#r1 }"
echo "redis-cli XADD 'sf:{0}:inbox' '*' op answer run r1 question deploy input true by ann"
cli XADD 'sf:{0}:inbox' '*' op answer run r1 question deploy input true by ann

say "Other workers continue where it stopped:"
background worker-3 "$programs/examples/approval"
background worker-4 "$programs/examples/approval"
ended() { [ "$(cli HGET 'sf:{0}:run:r1' status)" = completed ]; }
until_true "the end of the run" ended
stepfleet show r1

say "What was done outside, each once though all workers were killed:"
cat "$DIARY"
[ "$(cat "$DIARY")" = "validated v1.2
deployed v1.2" ] || die "something was done twice, or not at all."
result=$(cli HGET 'sf:{0}:run:r1' result)
[ "$result" = '"v1.2 is deployed: ann approved it"' ] || die "the result is $result."
