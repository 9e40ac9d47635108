-- complete: commits everything that one step execution produced, atomically and under its fence, then takes the next
-- one.

local why_not
do -- a chunk of Lua has at most 200 locals

-- Whether the parts that this commit adds complete a set.
local function completes_set(p, x, c)
  local added = {}
  for i = 1, #c.parts, 4 do added[string.match(c.parts[i + 2], '^%S+') .. '+' .. c.parts[i]] = true end
  for i = 1, #c.parts, 4 do
    local name, is_whole = string.match(c.parts[i + 2], '^%S+') .. '+', true
    for slot = 1, tonumber(c.parts[i + 1]) do
      is_whole = is_whole and (added[name .. slot] or redis.call('EXISTS', key_of.joined(p, x.run, x.inner, name .. slot)) == 1)
    end
    if is_whole then return true end
  end
  return false
end

-- Whether the run has nothing left to do once a step execution of this group ends without a successor.
local function is_last(steps, group)
  while (tonumber(redis.call('HGET', steps, 'n' .. group)) or 0) <= 1 do
    if group == '0' then return true end
    local parent, heads = heads_of(redis.call('HGET', steps, 'f' .. group))
    for _, head in ipairs(heads) do
      if head.first ~= 'fired' then return false end
    end
    group = parent
  end
  return false
end

-- Why the run must fail instead of this commit. Checked before anything changes: the step execution stays, and a retry
-- of the run continues from it.
why_not = function(p, x, c)
  local steps, count = key_of.steps(p, x.run), #c.emits + c.staged
  x.inner = c.fan and x.seq or x.group
  if x.last + count > LIMIT.MAX_EXECUTIONS then
    return 'the run has reached its limit of ' .. LIMIT.MAX_EXECUTIONS .. ' step executions; let a long loop end its run and start the next'
  end
  local joined_here = {}
  for _, head in ipairs(c.fan and c.heads or {}) do joined_here[string.match(head, '^%S+')] = true end
  for i = 1, #c.joins, 2 do
    if not joined_here[c.joins[i]] and not join_group(steps, x.group, c.joins[i]) then
      return 'an event for the joining step "' .. c.joins[i] .. '" was emitted outside of any fan-out that it joins'
    end
  end
  if c.rests or count > 0 or #c.joins > 0 or c.fan and #c.heads > 0 then return nil end
  if not is_last(steps, x.group) or completes_set(p, x, c) then return nil end
  return 'the run ended without its stop event: it has no step left to execute'
end
end

local let_go, apply
do -- a chunk of Lua has at most 200 locals

-- A value too long for Redis' compact encoding of a hash, where each lookup scans the fields before it.
local WIDE = '-----------------------------------------------------------------'

-- Writes emitted events, joins and fan-outs.
local function emit(p, x, c)
  local run, meta, seq, steps, inner = x.run, x.meta, x.seq, key_of.steps(p, x.run), x.group
  if c.fan then
    inner = seq
    local fan, list = x.group, key_of.fan(p, run, seq)
    -- What another attempt has staged in vain is no part of it.
    if c.staged == 0 and redis.call('UNLINK', list) == 1 then redis.call('SREM', key_of.extra(p, run), list) end
    for _, head in ipairs(c.heads) do fan = fan .. '\n' .. head end
    redis.call('HSET', steps, 'f' .. seq, fan, 'n' .. seq, 0)
  end
  push_joins(p, run, meta, inner, c.joins, x.now, x.taker)
  -- A join with enough events closes its fan-out, which makes everything else that this step execution emits void.
  if #c.joins > 0 and not groups_of(steps, inner) then return end
  push_parts(p, run, inner, c.parts, c.emits)
  if c.fan then c.staged = c.staged + stage_rest(p, run, seq, c.emits) end
  if x.taker then x.taker.branches = inner end
  local count = #c.emits
  if count > 0 then
    local last = redis.call('HINCRBY', steps, 'last', count)
    create(p, run, meta, last - count + 1, c.emits, x.taker)
  end
  if c.staged > 0 then
    redis.call('HSET', steps, 'broad', WIDE)
    queue_fan(p, meta, run, seq)
  end
  if c.fan or count ~= 1 then settle(p, run, meta, inner, c.fan and count + c.staged or count - 1, x.taker) end
end

-- Fails the run. `forget` lists the journal entries that the step failed with; a retry removes them.
fail_run = function(p, x, reason, retention, forget)
  tell_workers(p, x.run, x.now)
  note(p, x.run, x.now, 'failed', x.seq, x.attempt, x.step, x.worker, reason)
  -- `retry` begins with this step execution.
  if x.seq ~= 0 then redis.call('HSET', key_of.steps(p, x.run), 'failed', x.seq .. ' ' .. table.concat(forget or {}, ' ')) end
  finish(p, x.run, x.now, 'failed', retention,
    { 'error', reason, 'error_step', x.step, 'error_attempt', x.attempt }, x.publishes)
end

-- Ends the journal of a step execution. `about` is `j` and the calls that the body has let go of, as `
-- <number>.<given>.<name>`.
local function end_journal(p, x, about, is_kept)
  local gone, journal = {}, key_of.journal(p, x.run, x.seq)
  for number, given, name in string.gmatch(about, ' (%d+)%.(%d+)%.(%S+)') do
    gone[#gone + 1] = number
    gone[#gone + 1] = name
    gone[#gone + 1] = given
  end
  let_go(p, x.run, x.seq, gone, x.now)
  close_questions(p, x.run, x.seq)
  kin.drop_children(p, x.run, x.seq)
  if is_kept then return redis.call('HDEL', journal, 'error', 'began') end
  redis.call('UNLINK', journal)
  redis.call('SREM', key_of.extra(p, x.run), journal)
end

-- Applies a commit. `x` is the step execution: run, meta, seq, attempt, group, step, worker, state, now. `c` holds the
-- arguments of complete.
apply = function(p, x, c)
  local run, steps, caught = x.run, key_of.steps(p, x.run), c.caught[1]
  -- Redis may have come back without the last staged chunks.
  if c.staged > 0 and redis.call('LLEN', key_of.fan(p, run, x.seq)) ~= c.staged then return 'unstaged' end
  local outcome, field, wrong = settle_changes(p, run, c)
  if outcome then return outcome, field, wrong end
  local why = #c.stop == 0 and why_not(p, x, c)
  if why then
    tell_followers(p, run, x.meta, 'failed', x.seq, x.attempt, x.worker, nil, 'error', why)
    fail_run(p, x, why, c.retention)
    return nil
  end
  write_context(p, run, c)
  if caught then
    tell_followers(p, run, x.meta, 'failed', x.seq, x.attempt, x.worker, nil, 'emitted', c.emitted, 'error', caught)
  else
    tell_followers(p, run, x.meta, 'done', x.seq, x.attempt, x.worker, nil, 'emitted', c.emitted)
  end
  redis.call('HDEL', steps, x.seq, 'e' .. x.seq, 'm' .. x.seq)
  if x.publishes then forget_published(p, run, x.seq) end
  note(p, run, x.now, caught and (c.unreadable and 'unreadable' or 'caught') or 'done', x.seq, x.attempt, x.step, x.worker, caught or x.state.since)
  if c.consumed ~= '' then
    local group, step = string.match(c.consumed, '^(%d+):(.+)$')
    local list = key_of.joined(p, run, group, step)
    redis.call('UNLINK', list)
    redis.call('SREM', key_of.extra(p, run), list)
  end
  -- If the run has a single step execution, like a durable function, its journal is kept for forks.
  local is_only = #c.stop > 0 and c.journal ~= '' and x.seq == '1' and x.last == 1
  if c.journal ~= '' then end_journal(p, x, c.journal, is_only) end
  if #c.stop > 0 then
    note(p, run, x.now, 'completed', x.seq, x.attempt, x.step, x.worker)
    -- Other steps may still be executing; their workers can drop them.
    if x.group ~= '0' or x.siblings > 1 then tell_workers(p, run, x.now) end
    finish(p, run, x.now, 'completed', c.retention, { 'result', c.stop[1] }, x.publishes, nil, is_only and key_of.journal(p, run, x.seq))
    return nil
  end
  emit(p, x, c)
  if x.is_limited then pass_turn(p, run, x.meta, x.step, x.seq, x.now) end
  return nil
end
end

-- What the slot of an ended step execution takes next: nothing; any step event, preferably the successor; or one that
-- waits in a queue, so that those get their turn too.
local NOTHING, FOLLOWING, OTHERS = '0', '1', '2'

-- The slot that a successor may be handed to directly.
local function taker_of(p, a, now)
  if a.next == NOTHING then return nil end
  local class = a.next == OTHERS and class_of(p, a.worker)
  local others_wait = class and (next_queue(p, 'r', class, a.after) or next_queue(p, 'q', class, a.after))
  if others_wait then return nil end
  return { worker = a.worker, call = a.call, now = now, run = a.run }
end

-- Refills the slot: with the step execution handed over, a staged branch of the same fan-out, or one from a queue. `a`
-- has the caller (worker, call) and what the slot wants (next, after). `memo` is that of `next_queue`.
local function refill(p, a, taker, now, memo)
  local taken = taker and taker.taken
  -- The same call may have ended the run, or closed a fan-out around the successor.
  if taken and redis.call('HGET', key_of.steps(p, taken.run), taken.seq) == taken.line then
    if groups_of(key_of.steps(p, taken.run), (parse_head(taken.record))) then
      tell_followers(p, taken.run, taken.meta, 'running', taken.seq, 1, a.worker, taken.record)
      return taken
    end
    discard(p, taken.run, taken.meta, taken.seq, parse_state(taken.line), taken.record, now)
  end
  local branch = taker and a.next == FOLLOWING and take_branch(p, taker, now)
  if branch then return branch end
  local class = a.next ~= NOTHING and (memo and memo.class or class_of(p, a.worker))
  return class and take(p, a, class, 1, a.after, now, memo)[1] or nil
end

-- Whether Redis came back without what the attempt has recorded. `upon` names it: the number of an entry of its journal,
-- or `m` and the number of a checkpoint without an entry.
local function is_forgotten(p, run, seq, line, upon)
  local mark = string.match(upon, '^m(%d+)$')
  if not mark then return redis.call('HEXISTS', key_of.journal(p, run, seq), upon) == 0 end
  local made = redis.call('HGET', key_of.steps(p, run), 'm' .. seq) or ''
  return string.sub(made, 1, #line + 1) ~= line .. '.' or tonumber(string.sub(made, #line + 2)) < tonumber(mark)
end

-- Whether the worker is registered and the slot may be refilled: it is empty or still holds the step execution of this
-- fence.
local function may_use(p, a)
  if not class_of(p, a.worker) then return false end
  local call, _, other, number, attempt = parse_slot(redis.call('HGET', key_of.held(p, a.worker), a.slot) or nil)
  if not call or other == '' then return true end
  return other == a.run and number == a.seq and attempt == string.match(a.line, '^H (%d+)') and call == string.match(a.line, '(%d+)$')
end

-- Checks the fence of a complete, fail or suspend, runs `act` if it is good, and refills the slot. What is forgotten
-- changes nothing: the worker gives the step execution back.
local function under_fence(p, a, act)
  local now, run, seq, line, group = now_ms(), a.run, a.seq, a.line, a.group
  local held, steps = key_of.held(p, a.worker), key_of.steps(p, run)
  if a.again then
    local is_earlier, letter, item = item_of(p, a, redis.call('HGET', held, a.slot), now)
    if is_earlier then
      return { letter == 'o' and 'ok' or 'fenced', item and { tell_item(p, a.slot, item, now) } or {} }
    end
  end
  local found = redis.call('HMGET', steps, seq, 'meta', 'last', 'n0', 't' .. a.step, 'events', 'paused')
  local state, taker = parse_state(line), nil
  local is_good = found[1] == line and state.about == a.worker
  if is_good and group ~= '0' and not groups_of(steps, group) then
    discard(p, run, found[2], seq, state, redis.call('HGET', steps, 'e' .. seq), now)
    is_good = false
  end
  if is_good and a.upon and is_forgotten(p, run, seq, line, a.upon) then return { 'forgotten', {} } end
  if is_good then
    -- In a paused run the successors are queued, and claims pass over them.
    taker = not found[7] and taker_of(p, a, now) or nil
    state.losses, state.shared = 0, 0
    -- If `why` is given, nothing was changed.
    local why, field, wrong = act(p, { run = run, meta = found[2], last = tonumber(found[3]), siblings = tonumber(found[4]) or 0,
      is_limited = found[5], publishes = found[6], seq = seq, attempt = state.attempt, group = group, step = a.step,
      worker = a.worker, state = state, now = now, taker = taker }, a)
    if why then return { why, {}, field, wrong } end
  elseif not may_use(p, a) then
    return { 'fenced', {} }
  end
  local item = refill(p, a, taker, now) or {}
  redis.call('HSET', held, a.slot, slot_value(a.call, is_good and 'o' or 'f', item.run, item.seq, item.attempt))
  return { is_good and 'ok' or 'fenced', item.run and { tell_item(p, a.slot, item, now) } or {} }
end

local function complete(p, a)
  return under_fence(p, a, apply)
end

local fail
do -- a chunk of Lua has at most 200 locals

-- Keeps, for later attempts, when the first failed attempt began and the last error. The journal has both and removes
-- them when it ends.
local function keep_failure(p, x, reason)
  local journal = key_of.journal(p, x.run, x.seq)
  redis.call('HSETNX', journal, 'began', x.state.since)
  redis.call('HSET', journal, 'error', reason)
  redis.call('SADD', key_of.extra(p, x.run), journal)
end

-- fail: schedules a retry, which holds no worker meanwhile, or fails the run.
fail = function(p, a)
  return under_fence(p, a, function(_, x)
    tell_followers(p, x.run, x.meta, a.mode == 'retry' and 'retry' or 'failed', x.seq, x.attempt, x.worker, nil, 'error', a.reason)
    if a.mode ~= 'retry' then
      fail_run(p, x, a.reason, a.retention, a.forget)
      return nil
    end
    note(p, x.run, x.now, 'retry', x.seq, x.attempt, x.step, x.worker, a.delay .. ' ' .. a.reason)
    keep_failure(p, x, a.reason)
    x.state.failures = x.state.failures + 1
    redis.call('HSET', key_of.steps(p, x.run), x.seq, state_line('W', x.state, x.now + a.delay))
    set_timer(p, x.now, x.now + a.delay, 'step ' .. x.run .. ' ' .. x.seq .. ' ' .. x.attempt)
    return nil
  end)
end
end
