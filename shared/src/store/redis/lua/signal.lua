-- signal: deliver to the oldest wait of that name, or keep for the next. cancel: stop a run where it stands.

-- The oldest wait of that name whose step execution has not ended.
local function next_wait(p, run, name)
  local steps = p .. 'steps:' .. run
  for wait in string.gmatch(redis.call('HGET', steps, 'w' .. name) or '', '%S+') do
    close_wait(steps, name, wait)
    redis.call('ZREM', p .. 'timers', deadline_timer(run, name, wait))
    local seq, number = string.match(wait, '^(%d+)%.(%d+)@')
    local s = parse_state(redis.call('HGET', steps, seq))
    if s.letter and s.letter ~= 'D' then return seq, number end
  end
  return nil
end

local function deliver(p, run, name, payload, now)
  local seq, number = next_wait(p, run, name)
  if not seq then return false end
  note(p, run, now, 'signal', seq, 0, '-', '-', name)
  record_entry(p, run, seq, number, payload)
  wake(p, run, seq)
  return true
end

local function keep(p, run, name, payload)
  local key = signals_key(p, run, name)
  if redis.call('LLEN', key) >= MAX_SIGNALS then return false end
  redis.call('RPUSH', key, payload)
  redis.call('SADD', p .. 'extra:' .. run, key)
  return true
end

-- Is the run 'live', 'waiting' for a worker to serve it, 'over', or 'unknown'? And its id: it may be an alias.
local function standing(p, run)
  local status = redis.call('HGET', p .. 'run:' .. run, 'status')
  local other = not status and redis.call('GET', p .. 'alias:' .. run)
  if other then
    run, status = other, redis.call('HGET', p .. 'run:' .. other, 'status')
  end
  if status == 'queued' or status == 'running' then return 'live', run end
  if redis.call('HEXISTS', p .. 'deferred', run) == 1 then return 'waiting', run end
  return status and 'over' or 'unknown', run
end

-- An entry that is gone was dealt with by an earlier try.
local function is_gone(p, entry)
  return entry ~= '' and #redis.call('XRANGE', p .. 'inbox', entry, entry) == 0
end

local function signal(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local asked, name, payload, entry = arg(), arg(), arg(), arg()
  if is_gone(p, entry) then return { 'gone' } end
  local stands, run = standing(p, asked)
  if stands == 'over' or stands == 'unknown' then return { stands } end
  if stands == 'live' and deliver(p, run, name, payload, now) then
    leave_inbox(p, entry)
    return { 'delivered' }
  end
  if not keep(p, run, name, payload) then return { 'full' } end
  leave_inbox(p, entry)
  return { 'kept' }
end

local function cancel(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local asked, entry, retention = arg(), arg(), tonumber(arg())
  local stands, run = standing(p, asked)
  if stands == 'unknown' then return { is_gone(p, entry) and 'gone' or stands } end
  leave_inbox(p, entry)
  if stands == 'over' then return { 'over' } end
  if stands == 'waiting' then
    redis.call('HDEL', p .. 'deferred', run)
    redis.call('HSET', p .. 'run:' .. run, 'created', now)
    redis.call('ZADD', p .. 'runs', now, run)
  end
  note(p, run, now, 'cancelled', 0, 0, '-', '-')
  tell_workers(p, run, now)
  finish(p, run, now, 'cancelled', retention, { 'error', 'cancelled on request' })
  return { 'cancelled' }
end

-- Signals for a request that turned out to repeat a known run are that run's.
redirect_signals = function(p, from, to)
  if redis.call('EXISTS', p .. 'run:' .. from) == 1 then return end
  local stands, now = standing(p, to), now_ms()
  for _, key in ipairs(extra_of(p, from)) do
    local name = string.match(key, ':([^:]+)$')
    local payload = stands ~= 'over' and redis.call('LPOP', key)
    while payload do
      if not (stands == 'live' and deliver(p, to, name, payload, now)) then keep(p, to, name, payload) end
      payload = redis.call('LPOP', key)
    end
    redis.call('UNLINK', key)
  end
  redis.call('UNLINK', p .. 'extra:' .. from)
end
