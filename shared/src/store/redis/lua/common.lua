-- What every transition shares. Keys, and the fields of the steps hash, are listed in docs/architecture.md.
--
-- Each function gets one key, the prefix `sf:{p}:`; all keys it touches begin with it and so live in
-- the same slot. Arguments are read in order with a cursor. Payloads are bytes and never looked into.

local GROUP = 'workers'
local CHUNK = 500 -- values per variadic command: Lua's unpack fails near 8,000
local HISTORY_MAX = 100000

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function cursor(argv)
  local at = 0
  return function()
    at = at + 1
    return argv[at]
  end
end

local function take(arg)
  local list = {}
  for i = 1, tonumber(arg()) do list[i] = arg() end
  return list
end

local function chunked(command, key, values)
  for from = 1, #values, CHUNK do
    redis.call(command, key, unpack(values, from, math.min(from + CHUNK - 1, #values)))
  end
end

local function unlink(keys)
  for from = 1, #keys, CHUNK do
    redis.call('UNLINK', unpack(keys, from, math.min(from + CHUNK - 1, #keys)))
  end
end

local function note(p, run, now, kind, seq, attempt, step, worker, detail)
  local key = p .. 'history:' .. run
  local line = now .. ' ' .. kind .. ' ' .. seq .. ' ' .. attempt .. ' ' .. step .. ' ' .. worker .. ' ' .. (detail or '')
  if redis.call('RPUSH', key, line) > HISTORY_MAX then redis.call('LTRIM', key, -HISTORY_MAX, -1) end
end

-- The state of a step execution: letter (Q queued, H held, W waiting for a timer, D done), attempt, failures,
-- losses, the attempt that failed last, and for a hold the worker, since when, and the number of the call that took it.
local function parse_state(line)
  if not line then return {} end
  local letter, attempt, failures, losses, failed, worker, since, call =
    string.match(line, '^(%u) (%d+) ?(%d*) ?(%d*) ?(%d*) ?(%S*) ?(%d*) ?(%d*)$')
  return {
    letter = letter, attempt = tonumber(attempt), failures = tonumber(failures), losses = tonumber(losses),
    failed = tonumber(failed), worker = worker, since = since, call = call,
  }
end

-- Is this the hold of that attempt? The call that took it makes the fence unlike any other: attempts alone come again
-- where a run's id is used twice, or Redis came back without its last moments.
local function holds(s, attempt, worker, call)
  return s.letter == 'H' and s.attempt == tonumber(attempt) and s.worker == worker and s.call == call
end

local function state_line(letter, s)
  return letter .. ' ' .. s.attempt .. ' ' .. s.failures .. ' ' .. s.losses .. ' ' .. s.failed
end

local NEW = state_line('Q', { attempt = 0, failures = 0, losses = 0, failed = 0 })

-- A record is `<scope> <step> <flags> <event>\n<payload>`.
local function parse_record(record)
  local stop = string.find(record, '\n', 1, true)
  local scope, step, flags, event = string.match(string.sub(record, 1, stop - 1), '^(%S+) (%S+) (%S+) (%S+)$')
  return scope, step, flags, event, string.sub(record, stop + 1)
end

local function queue_of(meta)
  local workflow, version = string.match(meta, '^(%S+) (%S+)')
  return workflow .. ':' .. version
end

local function append(stream, run, seq)
  redis.call('XADD', stream, '*', 'run', run, 'seq', seq)
end

-- New step executions: `list` is header, payload, header, payload, ...
local function create(p, run, meta, scope, first, list)
  local fields, queue = {}, p .. 'queue:' .. queue_of(meta)
  for i = 1, #list, 2 do
    local seq = first + (i - 1) / 2
    fields[#fields + 1] = seq
    fields[#fields + 1] = NEW
    fields[#fields + 1] = 'e' .. seq
    fields[#fields + 1] = scope .. ' ' .. list[i] .. '\n' .. list[i + 1]
    append(queue, run, seq)
  end
  chunked('HSET', p .. 'steps:' .. run, fields)
end

-- The end of a run. A failed run keeps its steps, out of reach of any fence, so that it can be taken up again.
local function finish(p, run, now, status, retention, fields)
  redis.call('HSET', p .. 'run:' .. run, 'status', status, 'finished', now, unpack(fields))
  if status == 'failed' then
    redis.call('RENAME', p .. 'steps:' .. run, p .. 'stopped:' .. run)
  else
    local extra = redis.call('SMEMBERS', p .. 'extra:' .. run)
    extra[#extra + 1] = p .. 'extra:' .. run
    extra[#extra + 1] = p .. 'steps:' .. run
    unlink(extra)
  end
  redis.call('ZADD', p .. 'timers', now + retention, 'expire ' .. run)
  redis.call('PUBLISH', p .. 'ended:' .. run, status)
end

local function forget(p, run)
  local keys = redis.call('SMEMBERS', p .. 'extra:' .. run)
  for _, kind in ipairs({ 'extra:', 'run:', 'context:', 'history:', 'stopped:', 'steps:', 'events:' }) do
    keys[#keys + 1] = p .. kind .. run
  end
  unlink(keys)
  redis.call('ZREM', p .. 'runs', run)
end
