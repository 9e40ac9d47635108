-- done: everything that one step execution leaves behind, in one go, under its fence; then the next claim.

local FAN_BATCH = 64
local MAX_EXECUTIONS = 1000000 -- per run: each leaves a few bytes until the run ends

-- Writes the next batch of a large fan-out, and queues its entry again while any is left.
begin_fan = function(p, worker, run, scope, now)
  local steps, list = p .. 'steps:' .. run, p .. 'fan:' .. run .. ':' .. scope
  -- The entry may have outlived its run, and another run have its id: then no such fan-out is open.
  local found = redis.call('HMGET', steps, 'meta', 'f' .. scope)
  local meta = found[1]
  if not meta or not found[2] then return end
  local batch, new = redis.call('LPOP', list, FAN_BATCH) or {}, {}
  for _, element in ipairs(batch) do
    local stop = string.find(element, '\n', 1, true)
    if not stop then return fail_damaged(p, run, scope, worker, now, 'a branch of its fan-out') end
    new[#new + 1] = string.sub(element, 1, stop - 1)
    new[#new + 1] = string.sub(element, stop + 1)
  end
  local last = redis.call('HINCRBY', steps, 'last', #batch)
  create(p, run, meta, scope, last - #batch + 1, new)
  if redis.call('EXISTS', list) == 1 then return queue_fan(p, meta, run, scope) end
  redis.call('HDEL', steps, 'q' .. scope)
  redis.call('SREM', p .. 'extra:' .. run, list)
end

-- stage: one chunk of a fan-out too large for one call; invisible until done.
local function stage(keys, argv)
  local p, arg = keys[1], cursor(argv)
  local worker, run, seq, attempt, claim, offset = arg(), arg(), arg(), arg(), arg(), tonumber(arg())
  local s = parse_state(redis.call('HGET', p .. 'steps:' .. run, seq))
  if not holds(s, attempt, worker, claim) then return { 'fenced', 0 } end
  local list = p .. 'fan:' .. run .. ':' .. seq
  if offset == 0 then redis.call('UNLINK', list) end
  local length = redis.call('LLEN', list)
  if length == offset then
    chunked('RPUSH', list, take(arg))
    redis.call('SADD', p .. 'extra:' .. run, list)
    length = redis.call('LLEN', list)
  end
  return { 'ok', length }
end

-- Finds the fan-out, from `scope` outwards, whose branches join in `step`.
local function join_scope(steps, scope, step)
  while scope ~= '0' do
    local fan = redis.call('HGET', steps, 'f' .. scope)
    if not fan then return nil end
    if string.find(fan, '\n' .. step .. ' ', 1, true) then return scope end
    scope = string.match(fan, '^(%d+)')
  end
  return nil
end

-- Changes how many executions of a fan-out live. At none it ends: its joins begin one level up, and so on
-- outwards. False where nothing of the run is left to do.
local function settle(p, run, meta, scope, delta)
  local steps = p .. 'steps:' .. run
  while true do
    if redis.call('HINCRBY', steps, 'n' .. scope, delta) > 0 then return true end
    if scope == '0' then return false end
    local fan = redis.call('HGET', steps, 'f' .. scope)
    redis.call('HDEL', steps, 'f' .. scope, 'n' .. scope)
    local parent, new = string.match(fan, '^(%d+)'), {}
    for head in string.gmatch(fan, '\n([^\n]+)') do
      local step = string.match(head, '^(%S+)')
      local count = redis.call('LLEN', p .. 'joined:' .. run .. ':' .. scope .. ':' .. step)
      new[#new + 1] = head
      new[#new + 1] = scope .. ' ' .. count
    end
    local fired = #new / 2
    if fired > 0 then
      local last = redis.call('HINCRBY', steps, 'last', fired)
      create(p, run, meta, parent, last - fired + 1, new)
    end
    if fired == 1 then return true end
    scope, delta = parent, fired - 1
  end
end

-- Is the fence still good? 'ok'; 'again' for a repeat of what was committed; 'fenced'.
local function check_fence(p, run, seq, attempt, worker, claim, s)
  if holds(s, attempt, worker, claim) then return 'ok' end
  if s.letter == 'D' and s.attempt == tonumber(attempt) or s.failed == tonumber(attempt) then return 'again' end
  if not s.letter and redis.call('HGET', p .. 'run:' .. run, 'ended') == seq .. ' ' .. attempt then return 'again' end
  return 'fenced'
end

local function drop_hold(p, worker, run, seq, attempt, claim)
  local held, field = p .. 'held:' .. worker, run .. ' ' .. seq
  if redis.call('HGET', held, field) == attempt .. ' ' .. claim then redis.call('HDEL', held, field) end
end

local function read_commit(arg)
  local c = { set = take(arg), unset = take(arg), joins = take(arg), emits = take(arg) }
  c.fan, c.heads, c.staged = arg() == '1', take(arg), tonumber(arg())
  c.consumed, c.journalled, c.stop, c.retention = arg(), arg() == '1', take(arg), tonumber(arg())
  c.caught = take(arg)[1]
  return c
end

-- False with the step's name where an event was meant for a join that no open fan-out has.
local function push_joins(p, run, scope, joins)
  for i = 1, #joins, 2 do
    local at = join_scope(p .. 'steps:' .. run, scope, joins[i])
    if not at then return joins[i] end
    joins[i] = p .. 'joined:' .. run .. ':' .. at .. ':' .. joins[i]
  end
  for i = 1, #joins, 2 do
    if redis.call('RPUSH', joins[i], joins[i + 1]) == 1 then redis.call('SADD', p .. 'extra:' .. run, joins[i]) end
  end
  return nil
end

local function open_fan(p, run, meta, seq, scope, c)
  local steps, count = p .. 'steps:' .. run, #c.emits / 2 + c.staged
  local fan = scope
  for _, head in ipairs(c.heads) do fan = fan .. '\n' .. head end
  redis.call('HSET', steps, 'f' .. seq, fan, 'n' .. seq, count)
  local missing = push_joins(p, run, seq, c.joins)
  if c.staged > 0 then queue_fan(p, meta, run, seq) end
  return missing
end

-- Writes emitted events, joins and fan-outs. Answers nil, or why the run must fail.
local function emit(p, run, meta, seq, scope, c)
  local steps, count = p .. 'steps:' .. run, #c.emits / 2
  local inner, missing = scope, nil
  if c.fan then
    inner = seq
    missing = open_fan(p, run, meta, seq, scope, c)
  else
    missing = push_joins(p, run, scope, c.joins)
  end
  if missing then return 'an event for the joining step "' .. missing .. '" was emitted outside of any fan-out that it joins' end
  if count > 0 then
    local last = redis.call('HINCRBY', steps, 'last', count)
    create(p, run, meta, inner, last - count + 1, c.emits)
  end
  local alive = true
  if c.fan then
    if count + c.staged == 0 then alive = settle(p, run, meta, seq, 0) end
  elseif count ~= 1 then
    alive = settle(p, run, meta, scope, count - 1)
  end
  if not alive then return 'the run ended without its stop event: no step of it is left to do' end
  return nil
end

fail_run = function(p, x, reason, retention)
  note(p, x.run, x.now, 'failed', x.seq, x.attempt, x.step, x.worker, reason)
  finish(p, x.run, x.now, 'failed', retention,
    { 'error', reason, 'error_step', x.step, 'error_attempt', x.attempt, 'ended', x.seq .. ' ' .. x.attempt }, x.publishes)
end

-- The mark `context` in the steps hash says that there are fields, so that their loss can be noticed.
local function write_context(p, run, c)
  local key, steps = p .. 'context:' .. run, p .. 'steps:' .. run
  if #c.set > 0 then
    chunked('HSET', key, c.set)
    redis.call('HSET', steps, 'context', 1)
  end
  if #c.unset > 0 then
    chunked('HDEL', key, c.unset)
    if redis.call('EXISTS', key) == 0 then redis.call('HDEL', steps, 'context') end
  end
end

-- `x` is the step execution being committed: run, meta, seq, attempt, scope, step, worker, state, now.
local function apply(p, x, c)
  local run, steps = x.run, p .. 'steps:' .. x.run
  -- Redis may have come back without the last chunks.
  if c.staged > 0 and redis.call('LLEN', p .. 'fan:' .. run .. ':' .. x.seq) ~= c.staged then return 'unstaged' end
  write_context(p, run, c)
  redis.call('HSET', steps, x.seq, 'D ' .. x.attempt)
  redis.call('HDEL', steps, 'e' .. x.seq, 'm' .. x.seq, 'p' .. x.seq)
  note(p, run, x.now, c.caught and 'caught' or 'done', x.seq, x.attempt, x.step, x.worker, c.caught or x.state.since)
  if c.consumed ~= '' then
    local list = p .. 'joined:' .. run .. ':' .. c.consumed
    redis.call('UNLINK', list)
    redis.call('SREM', p .. 'extra:' .. run, list)
  end
  if c.journalled then
    local journal = p .. 'journal:' .. run .. ':' .. x.seq
    redis.call('UNLINK', journal)
    redis.call('SREM', p .. 'extra:' .. run, journal)
  end
  if #c.stop > 0 then
    note(p, run, x.now, 'completed', x.seq, x.attempt, x.step, x.worker)
    finish(p, run, x.now, 'completed', c.retention, { 'result', c.stop[1], 'ended', x.seq .. ' ' .. x.attempt }, x.publishes)
    return nil
  end
  local why = nil
  if x.last + #c.emits / 2 + c.staged > MAX_EXECUTIONS then
    why = 'the run has come to its limit of ' .. MAX_EXECUTIONS .. ' step executions; let a long loop end its run and start the next'
  else
    why = emit(p, run, x.meta, x.seq, x.scope, c)
  end
  if why then fail_run(p, x, why, c.retention) end
  return nil
end

-- Checks the fence of a done or fail, lets `act` change things where it holds, and claims more.
local function under_fence(keys, argv, read, act)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, call, again = arg(), arg(), arg()
  local run, seq, attempt, claim, scope, step = arg(), arg(), arg(), arg(), arg(), arg()
  local request = read(arg)
  local found = redis.call('HMGET', p .. 'steps:' .. run, seq, 'meta', 'last', 'events')
  local state = parse_state(found[1])
  local outcome = check_fence(p, run, seq, attempt, worker, claim, state)
  if outcome == 'ok' then
    -- Nothing was changed where it says why not.
    local why = act(p, { run = run, meta = found[2], last = tonumber(found[3]), seq = seq, attempt = attempt, scope = scope, step = step, worker = worker,
      state = state, now = now, publishes = found[4] }, request)
    if why then return { why, {} } end
    redis.call('HDEL', p .. 'held:' .. worker, run .. ' ' .. seq)
  else
    drop_hold(p, worker, run, seq, attempt, claim)
  end
  local claims = {}
  if again == '1' then claims = holds_of(p, worker, call, now) end
  if #claims == 0 and (again == '0' or outcome == 'ok') then claims = claim_more(p, worker, call, arg, now) end
  return { outcome == 'again' and 'ok' or outcome, claims }
end

local function done(keys, argv)
  return under_fence(keys, argv, read_commit, apply)
end

-- For the next attempts to look back at, beside what they record: it goes away with that.
local function keep_failure(p, x, reason)
  local journal = p .. 'journal:' .. x.run .. ':' .. x.seq
  redis.call('HSETNX', journal, 'began', x.state.since)
  redis.call('HSET', journal, 'error', reason)
  redis.call('SADD', p .. 'extra:' .. x.run, journal)
end

-- fail: try again later, holding no worker; or end the run.
local function fail(keys, argv)
  local function read(arg)
    return { mode = arg(), delay = tonumber(arg()), reason = arg(), retention = tonumber(arg()) }
  end
  return under_fence(keys, argv, read, function(p, x, f)
    if f.mode ~= 'retry' then
      fail_run(p, x, f.reason, f.retention)
      return nil
    end
    note(p, x.run, x.now, 'retry', x.seq, x.attempt, x.step, x.worker, f.delay .. ' ' .. f.reason)
    keep_failure(p, x, f.reason)
    x.state.failures, x.state.failed = x.state.failures + 1, x.attempt
    redis.call('HSET', p .. 'steps:' .. x.run, x.seq, state_line('W', x.state, x.now + f.delay))
    redis.call('ZADD', p .. 'timers', x.now + f.delay, 'step ' .. x.run .. ' ' .. x.seq .. ' ' .. x.attempt)
    return nil
  end)
end
