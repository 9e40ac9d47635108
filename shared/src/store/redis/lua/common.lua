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

-- The state of a step execution: letter (Q queued, H held, W waiting for a timer, S suspended by waits, T waiting for its turn, D done),
-- attempt, failures, losses, the attempt that failed or suspended last, and what the letter is about: where it is queued (`q` for the
-- queue or `r` for what is queued again, and the entry's id); when it is due; its waits, as `<name>.<number>,...`, each with `~<filter>`
-- where there is one; which worker holds it, since when, and the number of the call that took it.
local function parse_state(line)
  if not line then return {} end
  local letter, attempt, failures, losses, failed, about, since, call =
    string.match(line, '^(%u) (%d+) ?(%d*) ?(%d*) ?(%d*) ?(%S*) ?(%d*) ?(%d*)$')
  return {
    letter = letter, attempt = tonumber(attempt), failures = tonumber(failures), losses = tonumber(losses),
    failed = tonumber(failed), about = about, since = since, call = call,
  }
end

-- Is this the hold of that attempt? The call that took it makes the fence unlike any other: attempts alone come again
-- where a run's id is used twice, or Redis came back without its last moments.
local function holds(s, attempt, worker, call)
  return s.letter == 'H' and s.attempt == tonumber(attempt) and s.about == worker and s.call == call
end

local function state_line(letter, s, about)
  return letter .. ' ' .. s.attempt .. ' ' .. s.failures .. ' ' .. s.losses .. ' ' .. s.failed .. ' ' .. about
end

local NEW = { attempt = 0, failures = 0, losses = 0, failed = 0 }

-- A record is `<scope> <step> <flags> <event>\n<payload>`. Nothing where it is not one. The flags are letters, and numbers
-- that only workers look at.
local function parse_record(record)
  local stop = string.find(record, '\n', 1, true)
  if not stop then return nil end
  local name = '([%w_%.%-]+)'
  local scope, step, flags, event =
    string.match(string.sub(record, 1, stop - 1), '^(%d+) ' .. name .. ' ([icjt%-]+=?%d*%+?%d*) ' .. name .. '$')
  return scope, step, flags, event, string.sub(record, stop + 1)
end

-- What a state is about, and for a hold the call that took it.
local ABOUT = { Q = '^[qr]%d+%-%d+ $', H = '^%S+ %d+$', W = '^%d+ $', S = '^%S+ $', T = '^turn $', D = '^ $' }
local MAX_EXACT = 15 -- digits of a number that Lua and the workers read alike

-- What is damaged of a step execution, in words; nil where all can be read.
local function damage(state, record, meta)
  local s = parse_state(state)
  if not s.letter or s.attempt >= 1e9 or s.letter ~= 'D' and not s.failed then return 'its state' end
  if not string.match(s.about .. ' ' .. s.call, ABOUT[s.letter] or '%z%z') then return 'its state' end
  local version, content, more = string.match(meta or '', '^[%w_%.%-]+ (%d+) (%a+)(.*)$')
  if not version or more ~= '' and more ~= ' follow' or #version > 10 or content ~= 'json' and content ~= 'msgpack' then return "the run's description" end
  if s.letter == 'D' then return nil end
  local scope, _, flags, _, payload = parse_record(record or '')
  if not scope or #scope > MAX_EXACT or string.find(flags, '%d%d%d%d%d%d%d%d%d%d') then return 'its event' end
  if string.find(flags, 'j', 1, true) and not string.match(payload, '^%d+ %d+$') then return 'its event' end
  if string.find(flags, 't', 1, true) and not string.match(payload, '^%d[%d ]*\n') then return 'its event' end
  return nil
end

-- A header is `<step> <flags> <event>`; the flags may end with `=<how many of the step a run may execute at once>`.
local function limit_of(header)
  local step, limit = string.match(header, '^(%S+) [%a%-]+=(%d+)')
  return step, tonumber(limit)
end

-- Whether a new step execution may begin now. Where its step has as many as it may have, it waits for its turn.
local function take_turn(p, run, seq, header)
  local step, limit = limit_of(header)
  if not step then return true end
  local steps, taken = p .. 'steps:' .. run, 't' .. step
  if tonumber(redis.call('HGET', steps, taken) or 0) < limit then
    redis.call('HINCRBY', steps, taken, 1)
    return true
  end
  local turns = p .. 'turns:' .. run .. ':' .. step
  redis.call('RPUSH', turns, seq)
  redis.call('SADD', p .. 'extra:' .. run, turns)
  return false
end

local function queue_of(meta)
  local workflow, version = string.match(meta, '^(%S+) (%S+)')
  return workflow .. ':' .. version
end

-- Where entries are: `q` new ones, `r` those queued again, which are served first.
local LANES = { q = 'queue:', r = 'requeued:' }

local function append(p, lane, queue, kind, run, number)
  local names = kind == 'step' and { 'run', 'seq' } or { 'fan', 'scope' }
  return lane .. redis.call('XADD', p .. LANES[lane] .. queue, '*', names[1], run, names[2], number)
end

-- Ahead of what is new.
local function queue_again(p, meta, run, seq, s)
  local place = append(p, 'r', queue_of(meta), 'step', run, seq)
  redis.call('HSET', p .. 'steps:' .. run, seq, state_line('Q', s, place))
end

-- The entry that has the next branches of a large fan-out written.
local function queue_fan(p, meta, run, scope)
  redis.call('HSET', p .. 'steps:' .. run, 'q' .. scope, append(p, 'q', queue_of(meta), 'fan', run, scope))
end

-- The scopes that a scope lies in, itself first and the run itself left out; nil, and which, where one of them is closed, so
-- that nothing in it counts any more.
local function scopes_of(steps, scope)
  local chain = {}
  while scope ~= '0' do
    local fan = redis.call('HGET', steps, 'f' .. scope)
    if not fan then return nil, scope end
    chain[#chain + 1] = scope
    scope = string.match(fan, '^(%d+)')
  end
  return chain
end

local MAX_EVENTS = 10000 -- of each run, about

-- Adds to what the run publishes. Each entry has a number, so that a reader sees where some were trimmed. Where somebody
-- else wrote there, it answers the error: no run fails for its followers' sake.
local function add_event(p, run, ...)
  local n = redis.pcall('HINCRBY', p .. 'steps:' .. run, 'events', 1)
  if type(n) ~= 'number' then return n end
  return redis.pcall('XADD', p .. 'events:' .. run, 'MAXLEN', '~', MAX_EVENTS, '*', 'n', n, ...)
end

-- What a step execution has published: see publish.lua.
local function published_key(p, run, seq)
  return p .. 'published:' .. run .. ':' .. seq
end

-- It has ended, and publishes nothing again.
local function forget_published(p, run, seq)
  local key = published_key(p, run, seq)
  if redis.call('UNLINK', key) == 1 then redis.call('SREM', p .. 'extra:' .. run, key) end
end

-- The run was started with its steps to be followed.
local function follows(meta)
  return string.sub(meta or '', -7) == ' follow'
end

-- Tells followers where a step execution stands. Without the record it is read.
local function tell_followers(p, run, meta, state, seq, attempt, worker, record, ...)
  if not follows(meta) then return end
  local _, step, _, event = parse_record(record or redis.call('HGET', p .. 'steps:' .. run, 'e' .. seq) or '')
  add_event(p, run, 'kind', 'state', 'state', state, 'event', event or '-', 'step', step or '-', 'seq', seq,
    'attempt', attempt, 'worker', worker, ...)
end

-- Does a step execution belong to a fan-out that is closed? Its record may be large: it is read only in runs that closed
-- any, as the field `closed` of the steps hash tells.
local function is_void(steps, seq, has_closed)
  if not has_closed then return false end
  local scope = parse_record(redis.call('HGET', steps, 'e' .. seq) or '')
  return scope and not scopes_of(steps, scope)
end

-- New step executions: `list` is header, payload, header, payload, ...
local function create(p, run, meta, scope, first, list)
  local fields, queue = {}, queue_of(meta)
  for i = 1, #list, 2 do
    local seq = first + (i - 1) / 2
    fields[#fields + 1] = seq
    if take_turn(p, run, seq, list[i]) then
      fields[#fields + 1] = state_line('Q', NEW, append(p, 'q', queue, 'step', run, seq))
    else
      fields[#fields + 1] = state_line('T', NEW, 'turn')
    end
    fields[#fields + 1] = 'e' .. seq
    fields[#fields + 1] = scope .. ' ' .. list[i] .. '\n' .. list[i + 1]
    tell_followers(p, run, meta, 'waiting', seq, 0, '-', fields[#fields])
  end
  chunked('HSET', p .. 'steps:' .. run, fields)
end

-- The other keys of a run, as its set `extra` lists them. Whatever else is in there is not ours to remove.
local function extra_of(p, run)
  local keys = {}
  for _, key in ipairs(redis.call('SMEMBERS', p .. 'extra:' .. run)) do
    for _, kind in ipairs({ 'joined:', 'fan:', 'journal:', 'signals:', 'turns:', 'published:' }) do
      local start = p .. kind .. run .. ':'
      if string.sub(key, 1, #start) == start then keys[#keys + 1] = key end
    end
  end
  return keys
end

-- For the workers: their next beat names what they need not go on with, a run or `<run> <scope>`. A lease is shorter than
-- it stays there.
local function tell_workers(p, what, now)
  redis.call('ZREMRANGEBYSCORE', p .. 'cancelled', '-inf', now - 600000)
  redis.call('ZREMRANGEBYRANK', p .. 'cancelled', 0, -10000)
  redis.call('ZADD', p .. 'cancelled', now, what)
end

-- The end of a run. One that did not complete keeps its steps, out of reach of any fence, so that it can be taken up again.
-- `publishes` says whether it has published anything; nil where that is not known.
local function finish(p, run, now, status, retention, fields, publishes)
  local key, steps = p .. 'run:' .. run, p .. 'steps:' .. run
  if publishes == nil then publishes = redis.call('HEXISTS', steps, 'events') == 1 end
  if publishes then add_event(p, run, 'kind', 'end', 'status', status) end
  redis.call('HSET', key, 'status', status, 'finished', now, 'expires', now + retention, unpack(fields))
  if status ~= 'completed' then
    if redis.call('EXISTS', steps) == 1 then redis.call('RENAME', steps, p .. 'stopped:' .. run) end
  else
    local extra = extra_of(p, run)
    extra[#extra + 1] = p .. 'extra:' .. run
    extra[#extra + 1] = steps
    unlink(extra)
  end
  redis.call('ZADD', p .. 'timers', now + retention, 'expire ' .. run)
  redis.call('ZREM', p .. 'timers', 'timeout ' .. run)
  redis.call('PUBLISH', p .. 'ended:' .. run, status)
end

local function forget(p, run)
  local keys = extra_of(p, run)
  for _, kind in ipairs({ 'extra:', 'run:', 'context:', 'history:', 'stopped:', 'steps:', 'events:' }) do
    keys[#keys + 1] = p .. kind .. run
  end
  unlink(keys)
  redis.call('ZREM', p .. 'runs', run)
end
