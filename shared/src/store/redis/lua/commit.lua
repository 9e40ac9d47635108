-- done: everything that one step execution leaves behind, in one go, under its fence; then the next claim.

local MAX_EXECUTIONS = 1000000 -- per run: each leaves a few bytes until the run ends

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

-- `journal` is empty where there is none; otherwise `j`, and the calls that the body has let go of, as ` <number>.<name>`.
local function read_commit(arg)
  local c = read_changes(arg)
  c.joins, c.parts, c.emits = take(arg), take(arg), take(arg)
  c.fan, c.heads, c.staged = arg() == '1', take(arg), tonumber(arg())
  c.consumed, c.journal, c.rests = arg(), arg(), arg() == '1'
  c.stop, c.retention = take(arg), tonumber(arg())
  c.caught, c.emitted = take(arg)[1], arg()
  return c
end

-- Writes emitted events, joins and fan-outs. Answers nil, or why the run must fail.
local function emit(p, x, c)
  local run, meta, seq, steps, inner = x.run, x.meta, x.seq, p .. 'steps:' .. x.run, x.scope
  if c.fan then
    inner = seq
    local fan = x.scope
    for _, head in ipairs(c.heads) do fan = fan .. '\n' .. head end
    redis.call('HSET', steps, 'f' .. seq, fan, 'n' .. seq, 0)
  end
  local missing = push_joins(p, run, meta, inner, c.joins, x.now)
  if missing then return 'an event for the joining step "' .. missing .. '" was emitted outside of any fan-out that it joins' end
  -- A join that has all it begins with closes its fan-out, and with it whatever else this step execution leaves.
  if #c.joins > 0 and not scopes_of(steps, inner) then return nil end
  push_parts(p, run, inner, c.parts, c.emits)
  local count = #c.emits / 2
  if count > 0 then
    local last = redis.call('HINCRBY', steps, 'last', count)
    create(p, run, meta, inner, last - count + 1, c.emits)
  end
  if c.staged > 0 then queue_fan(p, meta, run, seq) end
  local alive = true
  if c.fan or count ~= 1 then alive = settle(p, run, meta, inner, c.fan and count + c.staged or count - 1) end
  if not alive and not c.rests then return 'the run ended without its stop event: no step of it is left to do' end
  return nil
end

fail_run = function(p, x, reason, retention)
  tell_workers(p, x.run, x.now)
  note(p, x.run, x.now, 'failed', x.seq, x.attempt, x.step, x.worker, reason)
  finish(p, x.run, x.now, 'failed', retention,
    { 'error', reason, 'error_step', x.step, 'error_attempt', x.attempt, 'ended', x.seq .. ' ' .. x.attempt }, x.publishes)
end

local let_go

local function end_journal(p, x, about)
  local gone, journal = {}, p .. 'journal:' .. x.run .. ':' .. x.seq
  for number, name in string.gmatch(about, ' (%d+)%.(%S+)') do
    gone[#gone + 1] = number
    gone[#gone + 1] = name
  end
  let_go(p, x.run, x.seq, gone, x.now)
  redis.call('UNLINK', journal)
  redis.call('SREM', p .. 'extra:' .. x.run, journal)
end

-- `x` is the step execution being committed: run, meta, seq, attempt, scope, step, worker, state, now.
local function apply(p, x, c)
  local run, steps = x.run, p .. 'steps:' .. x.run
  -- Redis may have come back without the last chunks.
  if c.staged > 0 and redis.call('LLEN', p .. 'fan:' .. run .. ':' .. x.seq) ~= c.staged then return 'unstaged' end
  local why_not, field, wrong = settle_changes(p, run, c)
  if why_not then return why_not, field, wrong end
  write_context(p, run, c)
  if c.caught then
    tell_followers(p, run, x.meta, 'failed', x.seq, x.attempt, x.worker, nil, 'emitted', c.emitted, 'error', c.caught)
  else
    tell_followers(p, run, x.meta, 'done', x.seq, x.attempt, x.worker, nil, 'emitted', c.emitted)
  end
  redis.call('HSET', steps, x.seq, 'D ' .. x.attempt)
  redis.call('HDEL', steps, 'e' .. x.seq, 'm' .. x.seq)
  if x.publishes then forget_published(p, run, x.seq) end
  note(p, run, x.now, c.caught and 'caught' or 'done', x.seq, x.attempt, x.step, x.worker, c.caught or x.state.since)
  if c.consumed ~= '' then
    local list = p .. 'joined:' .. run .. ':' .. c.consumed
    redis.call('UNLINK', list)
    redis.call('SREM', p .. 'extra:' .. run, list)
  end
  if c.journal ~= '' then end_journal(p, x, c.journal) end
  if #c.stop > 0 then
    note(p, run, x.now, 'completed', x.seq, x.attempt, x.step, x.worker)
    -- Others of its steps may be executing: what they do is in vain.
    if x.scope ~= '0' or x.siblings > 1 then tell_workers(p, run, x.now) end
    finish(p, run, x.now, 'completed', c.retention, { 'result', c.stop[1], 'ended', x.seq .. ' ' .. x.attempt }, x.publishes)
    return nil
  end
  local why = nil
  if x.last + #c.emits / 2 + c.staged > MAX_EXECUTIONS then
    why = 'the run has come to its limit of ' .. MAX_EXECUTIONS .. ' step executions; let a long loop end its run and start the next'
  else
    why = emit(p, x, c)
  end
  if why then
    fail_run(p, x, why, c.retention)
  elseif x.is_limited then
    pass_turn(p, run, x.meta, x.step, x.seq, x.now)
  end
  return nil
end

-- Checks the fence of a done or fail, lets `act` change things where it holds, and claims more.
local function under_fence(keys, argv, read, act)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, call, again = arg(), arg(), arg()
  local run, seq, attempt, claim, scope, step = arg(), arg(), arg(), arg(), arg(), arg()
  local request = read(arg)
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'meta', 'last', 'n0', 't' .. step, 'events')
  local state = parse_state(found[1])
  local outcome = check_fence(p, run, seq, attempt, worker, claim, state)
  if outcome == 'ok' and scope ~= '0' and not scopes_of(steps, scope) then
    bury(p, run, found[2], seq, state, redis.call('HGET', steps, 'e' .. seq), now)
    outcome = 'fenced'
  end
  if outcome == 'ok' then
    -- Nothing was changed where it says why not.
    local why, field, wrong = act(p, { run = run, meta = found[2], last = tonumber(found[3]), siblings = tonumber(found[4]) or 0,
      is_limited = found[5], publishes = found[6], seq = seq, attempt = attempt, scope = scope, step = step, worker = worker, state = state,
      now = now }, request)
    if why then return { why, {}, field, wrong } end
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
    tell_followers(p, x.run, x.meta, f.mode == 'retry' and 'retry' or 'failed', x.seq, x.attempt, x.worker, nil, 'error', f.reason)
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
