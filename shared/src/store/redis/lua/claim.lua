-- begin, and the claim that it shares with done and fail: take step events off the queues, raise the
-- attempt, record the hold, and answer with event and context.

local fail_run, bury, pass_turn
local DAMAGED_RETENTION = 7 * 24 * 3600 * 1000

-- Somebody wrote into our keys: the run cannot go on, and says so.
local function fail_damaged(p, run, seq, worker, now, what)
  fail_run(p, { run = run, seq = seq, attempt = 0, step = '-', worker = worker, now = now },
    'step execution ' .. seq .. ' cannot be read: ' .. what .. ' in Redis is damaged', DAMAGED_RETENTION)
end

-- Takes one queued step execution; returns what the worker needs, or nil where there is nothing to begin.
local function hold(p, worker, call, run, seq, now, holds)
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'e' .. seq, 'meta')
  if not found[1] then return nil end
  local what = damage(found[1], found[2], found[3])
  if what then return fail_damaged(p, run, seq, worker, now, what) end
  local s = parse_state(found[1])
  if s.letter ~= 'Q' then return nil end
  local chain = scopes_of(steps, (parse_record(found[2])))
  if not chain then return bury(p, run, found[3], seq, s, found[2], now) end
  s.attempt = s.attempt + 1
  redis.call('HSET', steps, seq, state_line('H', s, worker) .. ' ' .. now .. ' ' .. call)
  tell_followers(p, run, found[3], 'running', seq, s.attempt, worker, found[2])
  holds[#holds + 1] = run .. ' ' .. seq
  holds[#holds + 1] = s.attempt .. ' ' .. call
  return { run, seq, s.attempt, call, s.failures, found[2], found[3], chain }
end

-- Adds what the record's flags ask for: i, the input of the run; c, its context.
local function complete(p, item, now)
  local _, step, flags, event, payload = parse_record(item[6])
  local scopes = #item[8] > 0 and table.concat(item[8], ' ') or '0'
  local run = item[1]
  if string.find(flags, 'i', 1, true) then
    local key = p .. 'run:' .. run
    local found = redis.call('HMGET', key, 'status', 'input', 'content')
    payload = (found[3] == 'msgpack' and '\1' or '\2') .. (found[2] or '')
    if found[1] == 'queued' then redis.call('HSET', key, 'status', 'running', 'started', now) end
  end
  local context = {}
  if string.find(flags, 'c', 1, true) then context = redis.call('HGETALL', p .. 'context:' .. run) end
  -- A first attempt has recorded nothing yet. What is kept of failed ones is among it.
  local journal = item[3] > 1 and redis.call('HGETALL', p .. 'journal:' .. run .. ':' .. item[2]) or {}
  for i = 1, item[5] > 0 and #journal or 0, 2 do
    if journal[i] == 'began' then journal[i], journal[i + 1] = 'elapsed', math.max(0, now - (tonumber(journal[i + 1]) or now)) end
  end
  return { run, item[2], item[3], item[4], item[5], scopes, step, flags, event, payload, item[7], context, journal }
end

local function read_stream(stream, worker, n)
  if redis.call('XLEN', stream) == 0 then return {} end
  local got = redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', n, 'NOACK', 'STREAMS', stream, '>')
  if got and got.err then
    if not string.find(got.err, 'NOGROUP', 1, true) then error(got) end
    redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    got = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', n, 'NOACK', 'STREAMS', stream, '>')
  end
  return got and got[1][2] or {}
end

local begin_fan

local function begin_entries(p, worker, call, stream, entries, now, items, holds)
  local ids = {}
  for _, entry in ipairs(entries) do
    ids[#ids + 1] = entry[1]
    local fields = entry[2]
    if fields and fields[1] == 'run' and fields[3] == 'seq' then
      items[#items + 1] = hold(p, worker, call, fields[2], fields[4], now, holds)
    elseif fields and fields[1] == 'fan' then
      begin_fan(p, worker, fields[2], fields[4], now)
    end
  end
  if #ids > 0 then chunked('XDEL', stream, ids) end
end

local function answer(p, worker, items, holds, now)
  if #holds > 0 then chunked('HSET', p .. 'held:' .. worker, holds) end
  local out = {}
  for i, item in ipairs(items) do out[i] = complete(p, item, now) end
  return out
end

-- The holds that an earlier call of the same number took: its reply was lost.
local function holds_of(p, worker, call, now)
  local all, out = redis.call('HGETALL', p .. 'held:' .. worker), {}
  for i = 1, #all, 2 do
    local attempt, by = string.match(all[i + 1], '^(%d+) (%S+)$')
    local run, seq = string.match(all[i], '^(%S+) (%d+)$')
    if by == call and run then
      local found = redis.call('HMGET', p .. 'steps:' .. run, seq, 'e' .. seq, 'meta')
      local s = parse_state(found[1])
      local chain = holds(s, attempt, worker, call) and scopes_of(p .. 'steps:' .. run, (parse_record(found[2])))
      if chain then
        out[#out + 1] = complete(p, { run, seq, s.attempt, call, s.failures, found[2], found[3], chain }, now)
      end
    end
  end
  return out
end

-- `queues` are served in the order given; what was queued again goes first.
local function claim(p, worker, call, n, queues, now, items, holds)
  for _, queue in ipairs(queues) do
    for _, kind in ipairs({ 'requeued:', 'queue:' }) do
      local tries = 0
      while #items < n and tries < 3 do
        tries = tries + 1
        local stream = p .. kind .. queue
        local entries = read_stream(stream, worker, n - #items)
        if #entries == 0 then break end
        begin_entries(p, worker, call, stream, entries, now, items, holds)
      end
    end
  end
end

local function claim_more(p, worker, call, arg, now)
  local n, queues = tonumber(arg()), take(arg)
  if n == 0 or not redis.call('ZSCORE', p .. 'leases', worker) then return {} end
  local items, holds = {}, {}
  claim(p, worker, call, n, queues, now, items, holds)
  return answer(p, worker, items, holds, now)
end

local function begin(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, call, again = arg(), arg(), arg()
  if not redis.call('ZSCORE', p .. 'leases', worker) then return { 'lost', {} } end
  if again == '1' then
    local earlier = holds_of(p, worker, call, now)
    if #earlier > 0 then return { 'ok', earlier } end
  end
  local items, holds = {}, {}
  for _ = 1, tonumber(arg()) do
    local stream, id, found = p .. arg(), arg(), nil
    -- Whoever acknowledges the entry owns it; a reader that was taken for dead no longer does.
    if redis.call('XACK', stream, GROUP, id) == 1 then
      found = redis.call('XRANGE', stream, id, id)
      begin_entries(p, worker, call, stream, found, now, items, holds)
    end
  end
  local n, queues = tonumber(arg()), take(arg)
  claim(p, worker, call, n, queues, now, items, holds)
  return { 'ok', answer(p, worker, items, holds, now) }
end
