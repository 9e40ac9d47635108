#!/usr/bin/env bash
# Breaks the kernel's Lua on purpose, one line at a time, and shows which tests notice.
#
#   deploy/scripts/breakages.sh [NAME...]     all breakages, or those whose name contains one of the words
#   deploy/scripts/breakages.sh --check       only whether each still finds what it breaks; takes seconds
#
# Builds the tests once, with the feature lua-from-files: they read the Lua from a copy that is broken. Nothing of yours
# is touched. JOBS breakages are tried at a time (2), each for about a minute. Fails when a breakage goes unnoticed, when
# its expression finds nothing to break, and when what it breaks cannot be loaded at all, which shows nothing.
# The breakages are in breakages.txt. Needs perl, and what `make test` needs.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/scripts/lib.sh
. deploy/scripts/lib.sh

list=deploy/scripts/breakages.txt
lua=shared/src/store/redis/lua

# `break_in FOLDER FILE EXPRESSION`: a broken copy of the Lua in that folder. Fails where there is nothing to break.
break_in() {
  rm -rf "$1/lua"
  cp -R "$lua" "$1/lua"
  perl -0pi -e "$3" "$1/lua/$2"
  ! cmp -s "$lua/$2" "$1/lua/$2"
}

# `each COMMAND ARGUMENT...`: calls it with these arguments and a breakage's name, invariant, file and expression.
each() {
  local name invariant file expression
  while IFS='|' read -r name invariant file expression; do
    if [[ -z $name || $name == \#* ]]; then continue; fi
    "$@" "$name" "$invariant" "$file" "$expression"
  done <"$list"
}

if [ "${1:-}" = --check ]; then
  copy=$(mktemp -d)
  trap 'rm -rf "$copy"' EXIT
  check() { break_in "$copy" "$3" "$4" || printf '%s finds nothing to break in %s\n' "$1" "$3"; }
  stale=$(each check)
  [ -z "$stale" ] || die "$stale"
  exit
fi

need_cargo
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
  if ! break_in "$folder" "$file" "$expression"; then
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

# `is_wanted WORD...`: is `name` one of the breakages that were asked for?
is_wanted() {
  [ $# -eq 0 ] && return 0
  local word
  for word in "$@"; do [[ $name == *"$word"* ]] && return 0; done
  return 1
}

words=("$@")
begin() {
  local name=$1
  is_wanted "${words[@]}" || return 0
  while [ "$(jobs -pr | wc -l)" -ge "${JOBS:-2}" ]; do wait -n || true; done
  try "$@" &
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

each begin
wait

results=("$work"/*.result)
[ -e "${results[0]}" ] || die "no breakage has such a name"
cat "${results[@]}" | sort | awk -F'|' '{ printf "%-9s %-45s %-23s %s\n", $1, $2, $3, $4 }'
unnoticed=$(cat "${results[@]}" | grep -cv '^noticed|' || true)
echo "${#results[@]} breakages, $unnoticed of them not noticed"
[ "$unnoticed" -eq 0 ]
