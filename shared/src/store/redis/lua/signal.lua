-- signal: delivers a signal to the oldest wait that takes it, or keeps it for a later one. cancel: stops a run at once.

local signal, cancel, standing
do -- a chunk of Lua has at most 200 locals

-- Removes and returns the oldest wait of that name whose filter passes the signal and whose step execution has not
-- ended.
local function next_wait(p, run, name, attributes)
  local steps, has = key_of.steps(p, run), set_of(attributes)
  for _, wait in ipairs(read_waits(steps, name)) do
    local seq, number, due, filter = parse_wait(wait)
    if not seq or passes(has, filter) then
      close_wait(p, run, name, wait)
      if seq and is_waiting(steps, seq) then return seq, number, due end
    end
  end
  return nil
end

local function deliver(p, run, name, attributes, payload, now)
  local seq, number, due = next_wait(p, run, name, attributes)
  if not seq then return false end
  note(p, run, now, 'signal', seq, 0, '-', '-', name)
  record_signal(p, run, seq, number, name, attributes, payload, due)
  wake(p, run, seq)
  return true
end

local function keep_as(p, run, name, number, attributes, payload)
  local key = key_of.signals(p, run, name)
  redis.call('HSET', key, number, payload, 'a' .. number, attributes)
  redis.call('SADD', key_of.extra(p, run), key)
end

local function keep(p, run, name, attributes, payload)
  local key = key_of.signals(p, run, name)
  if redis.call('HLEN', key) > 2 * LIMIT.MAX_SIGNALS then return false end
  keep_as(p, run, name, redis.call('HINCRBY', key, 'last', 1), attributes, payload)
  return true
end

-- Keeps a signal ahead of all others, which came after it.
local function keep_first(p, run, name, attributes, payload)
  local first = kept_numbers(key_of.signals(p, run, name))[1]
  if not first then return keep(p, run, name, attributes, payload) end
  keep_as(p, run, name, first - 1, attributes, payload)
end

-- Ends the waits that the body has let go of (number, name, how many signals it was given, number, ...). Signals that
-- reached them unseen are kept for other waits, in their original order.
let_go = function(p, run, seq, gone, now)
  local unseen, left = {}, {}
  for i = 1, #gone, 3 do
    local number, name, mark = gone[i], gone[i + 1], seq .. '.' .. gone[i] .. '@'
    keep_waits(p, run, name, function(wait) return string.sub(wait, 1, #mark) ~= mark end)
    local entry = redis.call('HGET', key_of.journal(p, run, seq), number) or ''
    record_entry(p, run, seq, number, 'x' .. name .. ' ' .. gone[i + 2] .. '\n')
    -- No other wait can take the end of a child run.
    local is_signal = string.sub(entry, 1, 1) == 'w' and not kin.is_child(name) and not kin.is_undo(name)
    local stop = is_signal and string.find(entry, '\n', 1, true)
    if stop then
      local attributes = string.match(string.sub(entry, 1, stop - 1), '^%S+ (%S*)') or ''
      unseen[#unseen + 1] = { name, attributes, string.sub(entry, stop + 1) }
    end
  end
  for _, signal in ipairs(unseen) do
    if not deliver(p, run, signal[1], signal[2], signal[3], now) then left[#left + 1] = signal end
  end
  for i = #left, 1, -1 do keep_first(p, run, left[i][1], left[i][2], left[i][3]) end
end

-- Returns whether the run is 'live', 'waiting' for a worker that serves it, 'over' or 'unknown', and its id: the given
-- one may be an alias.
standing = function(p, run)
  local status = redis.call('HGET', key_of.run(p, run), 'status')
  local other = not status and redis.call('GET', key_of.alias(p, run))
  if other then
    run, status = other, redis.call('HGET', key_of.run(p, other), 'status')
  end
  if status == 'queued' or status == 'running' or status == 'paused' then return 'live', run end
  if redis.call('HEXISTS', key_of.deferred(p), run) == 1 then return 'waiting', run end
  return status and 'over' or 'unknown', run
end

signal = function(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  if across.is_repeated(p, a) then return { 'repeated' } end
  local stands, run = standing(p, a.asked)
  if stands == 'over' or stands == 'unknown' then return { stands } end
  if stands == 'live' and deliver(p, run, a.name, a.attributes, a.payload, now_ms()) then
    across.settle_request(p, a, 'taken')
    return { 'delivered' }
  end
  if not keep(p, run, a.name, a.attributes, a.payload) then return { 'full' } end
  across.settle_request(p, a, 'kept')
  return { 'kept' }
end

cancel = function(p, a)
  if across.is_repeated(p, a) then return { 'repeated' } end
  local now, stands, run = now_ms(), standing(p, a.asked)
  if stands == 'unknown' then return { is_gone(p, a.entry) and 'gone' or stands } end
  across.settle_request(p, a, 'taken')
  if stands == 'over' then return { 'over' } end
  local parent
  if stands == 'waiting' then
    parent = select(3, across.hold_no_more(p, run))
    redis.call('HSET', key_of.run(p, run), 'created', now)
    redis.call('ZADD', key_of.runs(p), now, run)
  end
  note(p, run, now, 'cancelled', 0, 0, '-', '-')
  tell_workers(p, run, now)
  finish(p, run, now, 'cancelled', a.retention, { 'error', 'cancelled on request' },
    nil, nil, nil, parent)
  return { 'cancelled' }
end

-- Moves the signals kept for a repeated start request to the run it repeats. Those that do not fit are noted in the
-- history of that run.
redirect_signals = function(p, from, to)
  local status = redis.call('HGET', key_of.run(p, from), 'status')
  if status and status ~= 'rejected' then return end
  local stands, now, keys, lost = standing(p, to), now_ms(), extra_of(p, from), {}
  table.sort(keys, comes_before)
  for _, key in ipairs(keys) do
    local name = string.match(key, ':([^:]+)$')
    lost[key] = 0
    local attributes, payload = take_signal(p, from, name, '')
    while payload do
      local is_theirs = stands == 'live' and deliver(p, to, name, attributes, payload, now)
      if not is_theirs and (stands == 'over' or not keep(p, to, name, attributes, payload)) then lost[key] = lost[key] + 1 end
      attributes, payload = take_signal(p, from, name, '')
    end
    redis.call('UNLINK', key)
  end
  redis.call('UNLINK', key_of.extra(p, from))
  tell_unused(p, to, now, keys, lost)
end
end
