-- claim, and how claim, complete, fail and suspend take step events: they take them off the queues, increment the
-- attempt, record the hold, and return event and context.

local fail_run, discard, pass_turn, vacate, read_fields

-- Fails a run whose keys were damaged from outside.
local function fail_damaged(p, run, seq, worker, now, what)
  fail_run(p, { run = run, seq = seq, attempt = 0, step = '-', worker = worker, now = now },
    'step execution ' .. seq .. ' cannot be read: ' .. what .. ' in Redis is damaged', LIMIT.DAMAGED_RETENTION)
end

-- The class of a worker: all that serve the same queues. Nil if the worker has no lease.
local function class_of(p, worker)
  return redis.call('HGET', key_of.worker(p, worker), 'class')
end

-- The numbers of the waits, if the claiming worker has the body in memory; else nil.
function kept.take(steps, seq, worker)
  local found = redis.call('HGET', steps, 'k' .. seq)
  if not found then return nil end
  redis.call('HDEL', steps, 'k' .. seq)
  local keeper, numbers = string.match(found, '^(%S+) (.+)$')
  return keeper == worker and numbers or nil
end

-- Holds one queued step execution. Returns what `tell_item` needs, or nil if it cannot begin.
local function hold(p, caller, run, seq, now)
  local steps = key_of.steps(p, run)
  local found = redis.call('HMGET', steps, seq, 'e' .. seq, 'meta', 'last', 'paused')
  -- The run is paused: `resume` queues the step execution again.
  if not found[1] or found[5] then return nil end
  local s, news = { attempt = 0, failures = 0, losses = 0, shared = 0 }, nil
  -- Most are new, and parsing costs time.
  if string.sub(found[1], 1, 8) ~= 'Q 0 0 0 ' then
    s = parse_state(found[1])
    if not s.letter or s.attempt >= 1e9 then return fail_damaged(p, run, seq, caller.worker, now, 'its state') end
    if s.letter ~= 'Q' then return nil end
    -- This entry is older than the one in `alone`.
    if string.sub(s.about, 1, 1) == 'a' and not caller.takes_alone then return nil end
  end
  local group = parse_head(found[2])
  if not found[3] or not group or #group > LIMIT.MAX_EXACT then
    return fail_damaged(p, run, seq, caller.worker, now, damage(found[1], found[2], found[3]) or 'its event')
  end
  local chain = groups_of(steps, group)
  if not chain then return discard(p, run, found[3], seq, s, found[2], now) end
  if s.attempt > 0 then news = kept.take(steps, seq, caller.worker) end
  s.attempt = s.attempt + 1
  local line = state_line('H', s, caller.worker) .. ' ' .. now .. ' ' .. caller.call
  redis.call('HSET', steps, seq, line)
  tell_followers(p, run, found[3], 'running', seq, s.attempt, caller.worker, found[2])
  local is_first = s.attempt == 1 and found[4] == '1'
  return { run = run, seq = seq, attempt = s.attempt, line = line, record = found[2], meta = found[3], chain = chain, is_first = is_first,
    news = news, was = found[1] }
end

-- Returns the input of the run. The first step execution that gets it starts the run; `is_first` says that it is this
-- one.
local function take_input(p, run, now, is_first)
  local key = key_of.run(p, run)
  if is_first then
    redis.call('HSET', key, 'status', 'running', 'started', now)
  elseif redis.call('HSETNX', key, 'started', now) == 1 then
    redis.call('HSET', key, 'status', 'running')
  end
  return redis.call('GET', key_of.input(p, run)) or ''
end

-- What is new to a worker that has the body in memory: the journal entries of its waits.
function kept.news(p, item)
  local numbers, news = {}, { 'kept', '1' }
  for number in string.gmatch(item.news, '%d+') do numbers[#numbers + 1] = number end
  local journal = key_of.journal(p, item.run, item.seq)
  for number, entry in pairs(read_fields(journal, numbers)) do
    if entry then
      news[#news + 1] = number
      news[#news + 1] = entry
    end
  end
  return news
end

-- The answer for one step execution: slot, run, number, line, record, groups, description of the run; then what the
-- flags of the record ask for (i: the input of the run; c: its context and the context's version), and what earlier
-- attempts left. A worker that has the body in memory gets only what is new of these. Last comes the state it was
-- queued in, empty if it was in no queue.
local function tell_item(p, slot, item, now)
  local group, flags = parse_head(item.record)
  local run, input, context, version = item.run, '', {}, 0
  if item.news then flags = '' end
  if string.find(flags, 'i', 1, true) then input = take_input(p, run, now, item.is_first) end
  if string.find(flags, 'c', 1, true) then
    context = redis.call('HGETALL', key_of.context(p, run))
    version = redis.call('HGET', key_of.steps(p, run), 'context') or 0
  end
  local chain = item.chain or groups_of(key_of.steps(p, run), group) or {}
  local groups = #chain > 0 and table.concat(chain, ' ') or '0'
  -- A first attempt has recorded nothing yet. The journal also has what failed attempts left.
  local journal = item.attempt > 1 and not item.news and redis.call('HGETALL', key_of.journal(p, run, item.seq)) or {}
  if item.news then journal = kept.news(p, item) end
  for i = 1, #journal, 2 do
    if journal[i] == 'began' then journal[i], journal[i + 1] = 'elapsed', math.max(0, now - (tonumber(journal[i + 1]) or now)) end
  end
  return { slot, run, item.seq, item.line, item.record, groups, item.meta, input, version, context, journal, item.was or '' }
end

-- The next queue to serve: among those with entries that this class serves, the first by name after `after`, wrapping
-- around, so that none starves. `memo` caches the candidates for the duration of a call.
local function next_queue(p, lane, class, after, memo)
  local queues = memo and memo[lane] or redis.call('SINTER', ready_key(p, lane), key_of.serves(p, class))
  if memo then memo[lane] = queues end
  if #queues < 2 then return queues[1] end
  local first, following = nil, nil
  for _, queue in ipairs(queues) do
    if not first or comes_before(queue, first) then first = queue end
    if comes_before(after, queue) and (not following or comes_before(queue, following)) then following = queue end
  end
  return following or first
end

-- Reads without leaving entries pending: the call that reads an entry also takes it.
local function read_queue(stream, n)
  local got = redis.pcall('XREADGROUP', 'GROUP', GROUP, 'fleet', 'COUNT', n, 'NOACK', 'STREAMS', stream, '>')
  if got and got.err then
    if not string.find(got.err, 'NOGROUP', 1, true) then error(got) end
    redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    got = redis.call('XREADGROUP', 'GROUP', GROUP, 'fleet', 'COUNT', n, 'NOACK', 'STREAMS', stream, '>')
  end
  return got and got[1][2] or {}
end

local begin_fan

-- Reads up to `n` entries and appends the step executions they begin to `items`. Read entries are removed in batches:
-- all of them once the queue is empty, else occasionally and by whole nodes, which is cheap.
local function take_entries(p, caller, lane, queue, n, now, items, memo)
  local stream = lane_key(p, lane, queue)
  local entries = read_queue(stream, n)
  for _, entry in ipairs(entries) do
    local run, number = entry[2][1], entry[2][2] or ''
    if string.sub(number, 1, 1) == 'f' then
      begin_fan(p, caller.worker, run, string.sub(number, 2), now)
    else
      items[#items + 1] = hold(p, caller, run, number, now)
    end
  end
  if #entries == 0 then
    redis.call('XTRIM', stream, 'MAXLEN', 0)
    redis.call('SREM', ready_key(p, lane), queue)
    if memo then memo[lane] = nil end
  elseif tonumber(caller.call) % LIMIT.TRIM_EVERY == 0 then
    redis.call('XTRIM', stream, 'MINID', '~', entries[#entries][1])
  end
end

-- Takes up to `n` step executions, requeued ones first. Returns the items and the queue served last.
local function take(p, caller, class, n, after, now, memo)
  local items = {}
  for _ = 1, LIMIT.READS do
    if #items >= n then break end
    local lane = 'r'
    local queue = next_queue(p, 'r', class, after, memo)
    if not queue then
      lane, queue = 'q', next_queue(p, 'q', class, after, memo)
    end
    if not queue then break end
    take_entries(p, caller, lane, queue, n - #items, now, items, memo)
    after = queue
  end
  return items, after
end

-- What the slot holds, if this call took it at an earlier try whose reply was lost.
local function item_of(p, caller, value, now)
  local call, letter, run, seq, attempt = parse_slot(value)
  if call ~= caller.call then return false end
  if run == '' then return true, letter, nil end
  local found = redis.call('HMGET', key_of.steps(p, run), seq, 'e' .. seq, 'meta')
  local s = parse_state(found[1])
  local is_ours = s.letter == 'H' and s.attempt == tonumber(attempt) and s.about == caller.worker and s.call == call
  local chain = is_ours and groups_of(key_of.steps(p, run), (parse_head(found[2])))
  if not chain then return true, letter, nil end
  return true, letter, { run = run, seq = seq, attempt = s.attempt, line = found[1], record = found[2], meta = found[3], chain = chain }
end

local claim
do -- a chunk of Lua has at most 200 locals

-- What an earlier try of this call took.
local function items_of_earlier(p, caller, slots, now)
  local out = {}
  for _, slot in ipairs(slots) do
    local _, _, item = item_of(p, caller, redis.call('HGET', key_of.held(p, caller.worker), slot), now)
    if item then out[#out + 1] = tell_item(p, slot, item, now) end
  end
  return out
end

-- Releases what Redis, restored to an earlier state, thinks the worker holds in these slots: the worker knows that they
-- are free. Returns the runs of what it requeues.
local function vacate_claimed(p, worker, slots, now)
  local values, runs = read_fields(key_of.held(p, worker), slots), {}
  for _, slot in ipairs(slots) do
    local _, _, run = parse_slot(values[slot] or nil)
    if run and run ~= '' and vacate(p, worker, slot, values[slot], now, 'released', math.huge, 0) > 0 then runs[#runs + 1] = run end
  end
  return #runs > 0 and runs or nil
end

-- Takes one step execution to execute alone, for a worker that executes nothing.
local function take_alone(p, caller, class, after, now)
  caller.takes_alone = true
  local item
  for _ = 1, LIMIT.READS do
    local queue = not item and next_queue(p, 'a', class, after)
    if not queue then break end
    local stream = lane_key(p, 'a', queue)
    local entry = read_queue(stream, 1)[1]
    if entry then
      item = hold(p, caller, entry[2][1], entry[2][2] or '', now)
      local ms, n = string.match(entry[1], '^(%d+)-(%d+)$')
      redis.call('XTRIM', stream, 'MINID', ms .. '-' .. n + 1)
    end
    -- At once, because workers make room for it as long as the set names it.
    if not entry or redis.call('XLEN', stream) == 0 then redis.call('SREM', ready_key(p, 'a'), queue) end
    after = queue
  end
  caller.takes_alone = false
  return item
end

-- claim: fills free slots. `alone`: the worker executes nothing, so it may get one step execution to execute alone,
-- which the answer states, and nothing else. The answer ends with the runs of what was released, if any was. A worker that gets less than it asked for becomes idle: the next queued
-- entry wakes it.
claim = function(p, a)
  local now, worker, slots, class = now_ms(), a.worker, a.slots, class_of(p, a.worker)
  if not class then return { 'lost', {}, 0 } end
  if a.again then
    local earlier = items_of_earlier(p, a, slots, now)
    if #earlier > 0 then return { 'ok', earlier, is_suspect(parse_state(earlier[1][4])) and 1 or 0 } end
  end
  local vacated = vacate_claimed(p, worker, slots, now)
  local item = a.alone and take_alone(p, a, class, a.after, now)
  if item then
    redis.call('HSET', key_of.held(p, worker), slots[1], slot_value(a.call, 'o', item.run, item.seq, item.attempt))
    redis.call('SREM', key_of.idle(p, class), worker)
    return { 'ok', { tell_item(p, slots[1], item, now) }, 1, vacated }
  end
  local items, last = take(p, a, class, #slots, a.after, now)
  local held, out = {}, {}
  for i, item in ipairs(items) do
    held[#held + 1] = slots[i]
    held[#held + 1] = slot_value(a.call, 'o', item.run, item.seq, item.attempt)
  end
  if #held > 0 then chunked('HSET', key_of.held(p, worker), held) end
  for i, item in ipairs(items) do out[i] = tell_item(p, slots[i], item, now) end
  redis.call(#items < #slots and 'SADD' or 'SREM', key_of.idle(p, class), worker)
  -- The queues may have more entries than were taken.
  local queue = next_queue(p, 'r', class, last) or next_queue(p, 'q', class, last)
  if queue then wake_worker(p, queue) end
  return { 'ok', out, 0, vacated }
end
end
