#!/usr/bin/env bash
# Breaks the kernel on purpose, one line at a time, and shows which tests notice.
#
#   deploy/scripts/breakages.sh [NAME...]     all breakages, or those whose name contains one of the words
#
# Works in a copy of the committed tree (target/breakages); nothing of yours is touched. Each takes about a minute.
# Ends with a failure when a breakage goes unnoticed. Needs perl, git and what `make test` needs.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
copy=$root/target/breakages
lua=shared/src/store/redis/lua

# name | invariant of docs/guarantees.md | file | perl expression that breaks it
breakages() {
  cat <<'EOF'
timer-set-to-wait-without-timer|no stranded run|commit.lua|s/redis\.call\('ZADD', p \.\. 'timers', x\.now \+ f\.delay, .*\n//
lost-steps-are-not-queued-again|no stranded run|fleet.lua|s/  queue_again\(p, found\[3\], run, seq, s\)\n  return 1/  redis.call('HSET', steps, seq, state_line('Q', s, 'q0-1'))\n  return 1/
a-delivery-nobody-began-is-dropped|no stranded run|fleet.lua|s/      if #entry\[2\] == 4 then move_entry\(.*\n//
a-signal-does-not-wake|no stranded run|signal.lua|s/(  record_signal\(p, run, seq, number, name, attributes, payload\)\n)  wake\(p, run, seq\)\n/$1/
a-filter-lets-everything-pass|no stranded run|journal.lua|s/    if not attributes\[token\] then return false end\n//
what-was-let-go-unseen-is-lost|no stranded run|signal.lua|s/    unseen\[#unseen \+ 1\] = .*\n//
suspend-overlooks-what-is-there|no stranded run|journal.lua|s/        wake\(p, x\.run, x\.seq\)\n/\n/
a-checkpoint-keeps-its-answers|no stranded run|journal.lua|s/(open_waits\(p, run, seq, waits, now\)\n  return \{ 'ok'), answers_of\(p, run, seq, waits\) \}/$1, {} }/
a-deadline-of-no-time-waits|no stranded run|journal.lua|s/  if tonumber\(deadline\) == 0 then .*\n//
audit-does-not-look-at-queues|no stranded run|audit.lua|s/if is_queued\(a, queue_of\(meta\), s\.about\) then return end/do return end/
audit-does-not-look-at-timers|no stranded run|audit.lua|s/    audit_timer\(a, run, 'step execution ' \.\. seq \.\. ' waits for a timer.*\n//
audit-does-not-look-at-holds|no stranded run|audit.lua|s/    audit_hold\(a, run, seq, s\)\n//
join-fires-before-the-last-branch|all or nothing|fan.lua|s/'n' \.\. scope, delta\) > 0 then return true/'n' .. scope, delta) > 1 then return true/
a-source-is-not-copied|all or nothing|start.lua|s/  if source then redis\.call\('COPY'.*\n//
an-expected-value-is-not-looked-at|all or nothing|context.lua|s/ then return 'conflict' end/ then end/
a-refused-merge-keeps-its-siblings|all or nothing|context.lua|s/    if wrong then return 'refused', field, wrong end/    if wrong then redis.call('HSET', p .. 'context:' .. run, unpack(c.set)) return 'refused', field, wrong end/
context-is-written-by-a-fenced-commit|all or nothing|commit.lua|s/  local outcome = check_fence/  if request.set then write_context(p, run, request) end\n  local outcome = check_fence/
emits-are-lost-with-a-join|all or nothing|commit.lua|s/  if count > 0 then\n    local last/  if count > 0 and #c.joins == 0 then\n    local last/
a-refused-join-keeps-its-siblings|all or nothing|fan.lua|s/    if not places\[i\] then return joins\[i\] end/    if not places[i] then redis.call('RPUSH', p .. 'joined:' .. run .. ':0:x', '1') return joins[i] end/
closed-fan-out-commits|fenced|commit.lua|s/  if outcome == 'ok' and scope ~= '0' and not scopes_of\(steps, scope\) then/  if false then/
closed-fan-out-is-claimed|all or nothing|claim.lua|s/  if not chain then return bury\(.*/  chain = chain or {}/
a-turn-is-kept-for-ever|no stranded run|commit.lua|s/    pass_turn\(p, run, x\.meta, x\.step, x\.seq, x\.now\)\n/\n/
repeat-of-collect-collects-again|lost replies|collect.lua|s/  if known then return \{ 'ok', known \} end\n//
repeat-of-send-begins-again|lost replies|collect.lua|s/  if is_gone\(p, entry\) then return \{ 'gone' \} end\n//
fence-ignores-attempt-and-call|fenced|common.lua|s/s\.attempt == tonumber\(attempt\) and s\.about == worker and s\.call == call/s.about == worker/
fence-ignores-the-worker|fenced|common.lua|s/ and s\.about == worker and s\.call == call//
fence-ignores-the-call|fenced|common.lua|s/ and s\.call == call//
checkpoint-ignores-the-fence|fenced|journal.lua|s/  if not holds\(parse_state\(found\[1\]\), attempt, worker, claim\) or is_void\(steps, seq, found\[3\]\) then return \{ 'fenced' \} end\n//
beat-wins-a-lost-lease-back|fenced|fleet.lua|s/  if not redis\.call\('ZSCORE', p \.\. 'leases', worker\) then return \{ 'lost', now, \{\} \} end\n//
cancel-leaves-the-fences-good|fenced|common.lua|s/  if status ~= 'completed' then\n/  if status == 'cancelled' then\n  elseif status ~= 'completed' then\n/
repeat-of-done-is-fenced|lost replies|commit.lua|s/  if s\.letter == 'D' and .*\n//
repeat-of-the-last-done-is-fenced|lost replies|commit.lua|s/  if not s\.letter and redis.*\n//
repeat-claims-again|lost replies|commit.lua|s/if again == '1' then claims = holds_of\(p, worker, call, now\) end/if false then end/
repeat-of-stage-appends-again|lost replies|fan.lua|s/  if length == offset then/  if length >= offset then/
repeat-of-checkpoint-writes-again|lost replies|journal.lua|s/  if entries\[1\] and is_recorded.*\n//
repeat-of-marked-checkpoint-writes-again|lost replies|journal.lua|s/  if mark ~= '' and found.*\n//
publish-ignores-the-fence|fenced|publish.lua|s/  if not holds\(parse_state.*\n//
repeat-of-publish-publishes-again|lost replies|publish.lua|s/  if known == digest or .*\n//
what-is-published-stays-remembered|bounded|commit.lua|s/  if x\.publishes then forget_published.*\n//
another-event-at-the-same-place-is-lost|lost replies|publish.lua|s/known == digest or/known or/
repeat-of-signal-is-delivered-again|lost replies|signal.lua|s/  if is_gone\(p, entry\) then return \{ 'gone' \} end\n//
second-start-makes-a-second-run|lost replies|start.lua|s/  if known then return \{ 'exists', known \} end\n//
timers-go-by-the-caller-not-redis|redis clock|fleet.lua|s/'-inf', now, 'LIMIT', 0, limit\)/'-inf', now + 600, 'LIMIT', 0, limit)/
leases-end-early|redis clock|fleet.lua|s/local gone, listed = redis\.call\('ZRANGEBYSCORE', p \.\. 'leases', '-inf', now,/local gone, listed = redis.call('ZRANGEBYSCORE', p .. 'leases', '-inf', now + 4500,/
payloads-are-read-as-text|opaque payloads|common.lua|s/string\.sub\(record, stop \+ 1\)$/string.gsub(string.sub(record, stop + 1), '%z', ' ')/m
input-is-taken-for-json|opaque payloads|claim.lua|s/\(found\[3\] == 'msgpack' and '\\1' or '\\2'\)/'\\2'/
a-key-without-the-tag|one hash tag|start.lua|s/return p \.\. 'key:' \.\. workflow/return 'key:' .. workflow/
runs-are-never-forgotten|bounded|common.lua|s/  redis\.call\('ZADD', p \.\. 'timers', now \+ retention, 'expire ' \.\. run\)\n//
joined-lists-stay-behind|bounded|common.lua|s/    unlink\(extra\)\n//
losses-have-no-limit|bounded|fleet.lua|s/  if s\.losses > max_losses then/  if false then/
all-that-a-worker-held-is-blamed|blame follows evidence|fleet.lua|s/return count == 1 and/return count >= 1 and/
nothing-is-tried-alone|blame follows evidence|common.lua|s/s\.losses \+ s\.shared >= 3/false/
an-end-that-is-good-clears-nothing|blame follows evidence|commit.lua|s/    state\.losses, state\.shared = 0, 0\n//
a-hand-back-clears-nothing|blame follows evidence|fleet.lua|s/    s\.losses, s\.shared = 0, 0\n//
what-is-to-be-alone-is-given-to-anyone|blame follows evidence|claim.lua|s/local item = alone and take_alone/local item = take_alone/
nobody-makes-room|no stranded run|fleet.lua|s/makes_room\(p, worker, lease\) and 1 or 0/0/
all-make-room-at-once|bounded|fleet.lua|s/return redis\.pcall\('GET', key\) == worker and/return/
audit-overlooks-the-lane-of-its-own|no stranded run|common.lua|s/Q = '\^\[aqr\]/Q = '^[qr]/
signals-have-no-limit|bounded|signal.lua|s/> 2 \* MAX_SIGNALS then return false/> 1e9 then return false/
EOF
}

prepare() {
  if [ ! -d "$copy/.git" ] && [ ! -f "$copy/.git" ]; then
    git worktree prune
    git worktree add --detach "$copy" HEAD >/dev/null
  fi
  git -C "$copy" checkout --quiet --force --detach "$(git rev-parse HEAD)"
}

wanted() {
  [ $# -eq 1 ] && return 0
  local name=$1 word
  shift
  for word in "$@"; do [[ $name == *"$word"* ]] && return 0; done
  return 1
}

# The quickest tests first; the next ones only where those notice nothing.
notice() {
  cd "$copy"
  export CARGO_TARGET_DIR=$root/target/breakages-build STEPFLEET_TEST_REDIS=process
  export STEPFLEET_MODEL_SCHEDULES=300 STEPFLEET_MODEL_SHRINKS=0
  local test="timeout 300 cargo test -q -p stepfleet-integration-tests --no-fail-fast"
  $test --test all -- kernel:: closed:: poison:: published_once:: lost_replies:: audit:: --skip a_fleet_at_work &&
    $test --test all -- --ignored model:: &&
    $test --test all -- runs:: requests:: crashes::
}

missed=0 count=0
prepare
while IFS='|' read -r name invariant file expression; do
  wanted "$name" "$@" || continue
  before=$(md5sum <"$copy/$lua/$file")
  perl -0pi -e "$expression" "$copy/$lua/$file"
  if [ "$before" = "$(md5sum <"$copy/$lua/$file")" ]; then
    echo "STALE    $name: its text is not in $file any more"
    missed=$((missed + 1))
    continue
  fi
  count=$((count + 1))
  log=$root/target/breakage-$name.log
  (notice) >"$log" 2>&1 </dev/null || true
  failed=$(grep -oE '^    [a-z_:]+$' "$log" | sort -u | tr -d ' ' | tr '\n' ' ' || true)
  if [ -n "$failed" ]; then
    echo "noticed  $name ($invariant): $failed"
  else
    echo "MISSED   $name ($invariant); see $log"
    missed=$((missed + 1))
  fi
  git -C "$copy" checkout --quiet --force .
done < <(breakages)
echo "$count breakages, $missed missed"
[ "$missed" -eq 0 ]
