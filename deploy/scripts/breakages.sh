#!/usr/bin/env bash
# Breaks the kernel's Lua on purpose, one line at a time, and shows which tests notice.
#
#   deploy/scripts/breakages.sh [NAME...]     all breakages, or those whose name contains one of the words
#
# Builds the tests once, with the feature lua-from-files: they read the Lua from a copy that is broken. Nothing of yours
# is touched. JOBS breakages are tried at a time (2), each for about a minute. Fails when a breakage goes unnoticed, when
# its expression finds nothing to break, and when what it breaks cannot be loaded at all, which shows nothing.
# The breakages are in breakages.txt. Needs perl, and what `make test` needs.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

need_cargo
list=deploy/scripts/breakages.txt
lua=shared/src/store/redis/lua
work=$(target_dir)/breakages
# A folder of its own: the programs of usual builds are not to read the Lua from files.
export CARGO_TARGET_DIR=$work/build

# The quickest tests first; the next ones only where those notice nothing.
stage() {
  case $1 in
    1) echo scenarios:: kernel:: closed:: wake_ups:: lost_replies:: audit:: --skip audit::at_work ;;
    2) echo --ignored model:: ;;
    3) echo poison:: published_once:: runs:: requests:: waiting:: steps:: failure:: context:: following:: steering:: \
      partitions::across crashes:: children:: ;;
  esac
}

# `play FOLDER STAGE`: the tests on the Lua of that folder; their output in a file beside it.
play() {
  local filters
  read -ra filters <<<"$(stage "$2")"
  (
    cd integration-tests
    export STEPFLEET_LUA=$1 STEPFLEET_TEST_REDIS=process RUST_BACKTRACE=0
    export STEPFLEET_MODEL_SCHEDULES=300 STEPFLEET_MODEL_SHRINKS=0
    limit 300 "$program" -q "${filters[@]}"
  ) >"$1.$2.log" 2>&1 </dev/null
}

# Which tests failed, one a line.
failed_in() { sed -n 's/^    \([a-z_0-9]*::[a-z_0-9:]*\)$/\1/p' "$1" | sort -u; }

# `try NAME INVARIANT FILE EXPRESSION`: the result as `<verdict>|<name>|<invariant>|<what noticed>`.
try() {
  local name=$1 invariant=$2 file=$3 expression=$4 folder=$work/$1 verdict=MISSED by='' stage noticed
  rm -rf "$folder" "$folder".*.log
  mkdir -p "$folder"
  cp -R "$lua" "$folder/lua"
  perl -0pi -e "$expression" "$folder/lua/$file"
  if cmp -s "$lua/$file" "$folder/lua/$file"; then
    verdict=STALE by="nothing to break in $file"
  else
    for stage in 1 2 3; do
      play "$folder" "$stage" && continue
      noticed=$(failed_in "$folder.$stage.log" | wc -l)
      if grep -qE 'Error compiling function|nonexistent global variable' "$folder.$stage.log"; then
        verdict=UNUSABLE by="it cannot be loaded; see $folder.$stage.log"
      else
        verdict=noticed by="$(failed_in "$folder.$stage.log" | sed -n 1p)"
        [ "$noticed" -gt 1 ] && by="$by and $((noticed - 1)) more"
        [ "$noticed" -eq 0 ] && by="a test that did not end; see $folder.$stage.log"
      fi
      break
    done
  fi
  [ "$verdict" = MISSED ] && by="see $folder.*.log"
  rm -rf "$folder"
  say "$verdict  $name: $by"
  printf '%s|%s|%s|%s\n' "$verdict" "$name" "$invariant" "$by" >"$folder.result"
}

wanted() {
  [ $# -eq 1 ] && return 0
  local name=$1 word
  shift
  for word in "$@"; do [[ $name == *"$word"* ]] && return 0; done
  return 1
}

mkdir -p "$work"
rm -f "$work"/*.result
cargo test --quiet -p stepfleet-integration-tests --features stepfleet-shared/lua-from-files --no-run ${locked:+"$locked"}
program=$(cargo test --quiet -p stepfleet-integration-tests --features stepfleet-shared/lua-from-files --no-run \
  --message-format=json ${locked:+"$locked"} | sed -n 's/.*"executable":"\([^"]*\/all-[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$program" ] || die "the test program was not built"

whole=$work/whole
rm -rf "$whole" && mkdir -p "$whole" && cp -R "$lua" "$whole/lua"
for stage in 1 2 3; do
  play "$whole" "$stage" || die "the tests fail where nothing is broken; see $whole.$stage.log"
done

while IFS='|' read -r name invariant file expression; do
  [[ -z $name || $name == \#* ]] && continue
  wanted "$name" "$@" || continue
  while [ "$(jobs -pr | wc -l)" -ge "${JOBS:-2}" ]; do wait -n || true; done
  try "$name" "$invariant" "$file" "$expression" &
done <"$list"
wait

results=("$work"/*.result)
[ -e "${results[0]}" ] || die "no breakage has such a name"
cat "${results[@]}" | sort | awk -F'|' '{ printf "%-9s %-45s %-23s %s\n", $1, $2, $3, $4 }'
unnoticed=$(cat "${results[@]}" | grep -cv '^noticed|' || true)
echo "${#results[@]} breakages, $unnoticed of them not noticed"
[ "$unnoticed" -eq 0 ]
