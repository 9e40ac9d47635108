-- Fan-outs and turns. Large fan-outs are written in batches. Branches hand events to joining steps, which begin one
-- level up when the fan-out ends or they have enough events. Turns limit how many executions of a step run at once.
--
-- The field `f<group>` of the steps hash has the fan-out's parent group and a line `<step> <flags> <event>[ <first>]`
-- for each joining step. `first` is how many events are enough; it becomes `fired` once the step has begun.

-- Writes the next batch of a large fan-out, and queues its entry again while branches remain.
begin_fan = function(p, worker, run, group, now)
  local steps, list = key_of.steps(p, run), key_of.fan(p, run, group)
  -- The entry may be older than the run: if an earlier run had this id, no such fan-out is open.
  local found = redis.call('HMGET', steps, 'meta', 'f' .. group, 'paused')
  local meta = found[1]
  if not meta or not found[2] or found[3] or not groups_of(steps, group) then return end
  local batch = redis.call('LRANGE', list, 0, LIMIT.FAN_BATCH - 1)
  for _, record in ipairs(batch) do
    if parse_head(record) ~= group then return fail_damaged(p, run, group, worker, now, 'a branch of its fan-out') end
  end
  redis.call('LTRIM', list, #batch, -1)
  local last = redis.call('HINCRBY', steps, 'last', #batch)
  create(p, run, meta, last - #batch + 1, batch)
  if redis.call('EXISTS', list) == 1 then return queue_fan(p, meta, run, group) end
  redis.call('HDEL', steps, 'q' .. group)
  redis.call('SREM', key_of.extra(p, run), list)
end

-- stage: stages one chunk of a fan-out that is too large for one call; the commit reveals it.
local function stage(p, a)
  local run, seq, offset = a.run, a.seq, a.offset
  if redis.call('HGET', key_of.steps(p, run), seq) ~= a.line then return { 'fenced', 0 } end
  local list = key_of.fan(p, run, seq)
  if offset == 0 then redis.call('UNLINK', list) end
  local length = redis.call('LLEN', list)
  if length == offset then
    chunked('RPUSH', list, a.records)
    redis.call('SADD', key_of.extra(p, run), list)
    length = redis.call('LLEN', list)
  end
  return { 'ok', length }
end

-- Begins only some of the branches when a fan-out opens, and stages the rest until slots are free.
local function stage_rest(p, run, seq, emits)
  if #emits <= LIMIT.FAN_INLINE then return 0 end
  local list, rest = key_of.fan(p, run, seq), {}
  for i = LIMIT.FAN_INLINE + 1, #emits do
    rest[#rest + 1] = emits[i]
    emits[i] = nil
  end
  chunked('RPUSH', list, rest)
  redis.call('SADD', key_of.extra(p, run), list)
  return #rest
end

-- Takes the next staged branch into a slot. `chain` has the groups around the fan-out, `last` the highest number
-- assigned.
local function pop_branch(p, taker, group, chain, meta, last, now)
  local run, list = taker.run, key_of.fan(p, taker.run, group)
  local record = redis.call('LPOP', list)
  if not record then return nil end
  if parse_head(record) ~= group or limit_of(record) then
    redis.call('LPUSH', list, record)
    return nil
  end
  local steps, seq = key_of.steps(p, run), string.format('%.0f', last + 1)
  local line = 'H 1 0 0 ' .. taker.worker .. ' ' .. now .. ' ' .. taker.call
  redis.call('HSET', steps, seq, line, 'e' .. seq, record, 'last', seq)
  if redis.call('EXISTS', list) == 0 then
    redis.call('HDEL', steps, 'q' .. group)
    redis.call('SREM', key_of.extra(p, run), list)
  end
  tell_followers(p, run, meta, 'waiting', seq, 0, '-', record)
  tell_followers(p, run, meta, 'running', seq, 1, taker.worker, record)
  return { run = run, seq = seq, attempt = 1, line = line, record = record, meta = meta, chain = chain }
end

local function take_branch(p, taker, now)
  local steps, group = key_of.steps(p, taker.run), taker.branches
  if not group or group == '0' then return nil end
  local chain, found = groups_of(steps, group), redis.call('HMGET', steps, 'meta', 'last')
  return chain and #chain > 0 and found[1] and pop_branch(p, taker, group, chain, found[1], found[2], now)
end

local function push_joined(p, run, key, payload)
  local length = redis.call('RPUSH', key, payload)
  if length == 1 then redis.call('SADD', key_of.extra(p, run), key) end
  return length
end

local function heads_of(fan)
  local heads = {}
  for header, first in string.gmatch(fan, '\n(%S+ %S+ %S+) ?(%w*)') do
    heads[#heads + 1] = { header = header, step = string.match(header, '^%S+'), first = first }
  end
  return string.match(fan, '^(%d+)'), heads
end

local settle, join_group, push_joins
do -- a chunk of Lua has at most 200 locals

-- Begins joining steps one level up. Returns how many.
local function begin_joins(p, run, meta, group, parent, heads, taker)
  local new = {}
  for i, head in ipairs(heads) do
    local count = redis.call('LLEN', key_of.joined(p, run, group, head.step))
    new[i] = parent .. ' ' .. head.header .. '\n' .. group .. ' ' .. count
  end
  if #heads > 0 then
    local last = redis.call('HINCRBY', key_of.steps(p, run), 'last', #heads)
    create(p, run, meta, last - #heads + 1, new, taker)
  end
  return #heads
end

-- Updates the number of live executions of a group. At zero the group ends and its joins begin one level up, and so on
-- outwards. False if the run has nothing left to do.
settle = function(p, run, meta, group, delta, taker)
  local steps = key_of.steps(p, run)
  while true do
    if redis.call('HINCRBY', steps, 'n' .. group, delta) > 0 then return true end
    if group == '0' then return false end
    local parent, heads = heads_of(redis.call('HGET', steps, 'f' .. group))
    local waiting = {}
    for _, head in ipairs(heads) do
      if head.first ~= 'fired' then waiting[#waiting + 1] = head end
    end
    redis.call('HDEL', steps, 'f' .. group, 'n' .. group)
    local begun = begin_joins(p, run, meta, group, parent, waiting, taker)
    if begun == 1 then return true end
    group, delta = parent, begun - 1
  end
end

-- Closes a fan-out whose joins have all begun. Its group is gone, so its remaining step executions are void; a timer
-- has them discarded in slices.
local function close_group(p, run, group, parent, now)
  local steps, list = key_of.steps(p, run), key_of.fan(p, run, group)
  redis.call('HDEL', steps, 'f' .. group, 'n' .. group, 'q' .. group)
  redis.call('HSET', steps, 'closed', 1)
  redis.call('HINCRBY', steps, 'n' .. parent, -1)
  redis.call('UNLINK', list)
  redis.call('SREM', key_of.extra(p, run), list)
  set_timer(p, now, now, 'close ' .. run .. ' ' .. group .. ' 0')
  tell_workers(p, run .. ' ' .. group, now)
end

-- The innermost fan-out, from `group` outwards, that `step` joins.
join_group = function(steps, group, step)
  while group ~= '0' do
    local fan = redis.call('HGET', steps, 'f' .. group)
    if not fan then return nil end
    if string.find(fan, '\n' .. step .. ' ', 1, true) then return group end
    group = string.match(fan, '^(%d+)')
  end
  return nil
end

local function push_join(p, run, meta, group, step, payload, now, taker)
  local steps = key_of.steps(p, run)
  local fan = redis.call('HGET', steps, 'f' .. group)
  -- An earlier event has closed the fan-out.
  if not fan then return end
  local parent, heads = heads_of(fan)
  local fired, lines = 0, parent
  for _, head in ipairs(heads) do
    if head.step == step and head.first ~= 'fired' then
      local length = push_joined(p, run, key_of.joined(p, run, group, step), payload)
      if head.first == '' or length < tonumber(head.first) then return end
      redis.call('HINCRBY', steps, 'n' .. parent, begin_joins(p, run, meta, group, parent, { head }, taker))
      head.first = 'fired'
    end
    if head.first == 'fired' then fired = fired + 1 end
    lines = lines .. '\n' .. head.header .. (head.first == '' and '' or ' ' .. head.first)
  end
  if fired == #heads then return close_group(p, run, group, parent, now) end
  redis.call('HSET', steps, 'f' .. group, lines)
end

-- Hands events to joining steps. `why_not` has checked that each of them joins a fan-out.
push_joins = function(p, run, meta, group, joins, now, taker)
  local places = {}
  for i = 1, #joins, 2 do places[i] = join_group(key_of.steps(p, run), group, joins[i]) end
  for i = 1, #joins, 2 do push_join(p, run, meta, places[i], joins[i], joins[i + 1], now, taker) end
end
end

-- Adds parts to their sets: slot, number of slots, header, payload, ... Appends the step event of each complete set to
-- `emits`.
local function push_parts(p, run, group, parts, emits)
  for i = 1, #parts, 4 do
    local slots, header = tonumber(parts[i + 1]), parts[i + 2]
    local name = key_of.joined(p, run, group, string.match(header, '^%S+')) .. '+'
    push_joined(p, run, name .. parts[i], parts[i + 3])
    local complete = true
    for slot = 1, slots do complete = complete and redis.call('EXISTS', name .. slot) == 1 end
    if complete then
      local lengths, payloads = {}, {}
      for slot = 1, slots do
        payloads[slot] = redis.call('LPOP', name .. slot)
        lengths[slot] = #payloads[slot]
        if redis.call('EXISTS', name .. slot) == 0 then redis.call('SREM', key_of.extra(p, run), name .. slot) end
      end
      emits[#emits + 1] = group .. ' ' .. header .. '\n' .. table.concat(lengths, ' ') .. '\n' .. table.concat(payloads)
    end
  end
end

local close_waits

-- Ends a step execution of a closed fan-out. A late commit of it is fenced.
discard = function(p, run, meta, seq, s, record, now)
  local steps, journal = key_of.steps(p, run), key_of.journal(p, run, seq)
  local _, step, flags = parse_record(record or '')
  redis.call('HDEL', steps, seq, 'e' .. seq, 'm' .. seq, 'k' .. seq)
  if s.attempt > 0 then
    forget_published(p, run, seq)
    close_questions(p, run, seq)
    kin.drop_children(p, run, seq)
  end
  if redis.call('UNLINK', journal) == 1 then redis.call('SREM', key_of.extra(p, run), journal) end
  local worker = '-'
  if s.letter == 'H' then
    worker = s.about
  elseif s.letter == 'W' then
    redis.call('ZREM', key_of.timers(p), 'step ' .. run .. ' ' .. seq .. ' ' .. s.attempt)
  elseif s.letter == 'S' then
    close_waits(p, run, seq, s.about)
  end
  -- Those that never began are not recorded, since there may be very many.
  if s.attempt > 0 then
    tell_followers(p, run, meta, 'dropped', seq, s.attempt, worker, record or '')
    note(p, run, now, 'dropped', seq, s.attempt, step or '-', worker)
  end
  if s.letter ~= 'T' and step and string.find(flags, '=', 1, true) then pass_turn(p, run, meta, step, seq, now) end
end

-- Passes a turn to the next step execution that waits for one.
pass_turn = function(p, run, meta, step, from, now)
  local steps, turns = key_of.steps(p, run), key_of.turns(p, run, step)
  for _ = 1, LIMIT.TURNS do
    local seq = redis.call('LPOP', turns)
    if not seq then
      if redis.call('HINCRBY', steps, 't' .. step, -1) <= 0 then redis.call('HDEL', steps, 't' .. step) end
      return
    end
    if redis.call('EXISTS', turns) == 0 then redis.call('SREM', key_of.extra(p, run), turns) end
    local found = redis.call('HMGET', steps, seq, 'e' .. seq)
    local s = parse_state(found[1])
    if s.letter == 'T' then
      local group = parse_record(found[2] or '')
      if group and groups_of(steps, group) then return queue_again(p, meta, run, seq, s) end
      discard(p, run, meta, seq, s, found[2], now)
    end
  end
  -- All of these belonged to closed fan-outs: continue in another call.
  set_timer(p, now, now, 'turn ' .. run .. ' ' .. step .. ' ' .. from)
end

-- Discards what closed fan-outs of a run left behind, in slices.
local function discard_closed(p, run, group, from, now)
  local steps = key_of.steps(p, run)
  local meta = redis.call('HGET', steps, 'meta')
  if not meta then return end
  local slice, closed = redis.call('HSCAN', steps, from, 'COUNT', LIMIT.CLOSE_SLICE), {}
  for i = 1, #slice[2], 2 do
    local field, value = slice[2][i], slice[2][i + 1]
    local inner = string.match(field, '^f(%d+)$')
    if inner and not groups_of(steps, inner) then
      local list = key_of.fan(p, run, inner)
      redis.call('HDEL', steps, 'f' .. inner, 'n' .. inner, 'q' .. inner)
      redis.call('UNLINK', list)
      redis.call('SREM', key_of.extra(p, run), list)
    elseif string.find(field, '^%d+$') then
      local within = parse_record(redis.call('HGET', steps, 'e' .. field) or '')
      if within and not groups_of(steps, within) then closed[#closed + 1] = tonumber(field) end
    end
  end
  table.sort(closed)
  for _, seq in ipairs(closed) do
    local found = redis.call('HMGET', steps, seq, 'e' .. seq)
    -- Discarding another one may have ended it.
    if found[1] then discard(p, run, meta, seq, parse_state(found[1]), found[2], now) end
  end
  if slice[1] ~= '0' then set_timer(p, now, now, 'close ' .. run .. ' ' .. group .. ' ' .. slice[1]) end
end
