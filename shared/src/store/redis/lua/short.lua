-- Short ways for what most commits and checkpoints are: several in one call, each with arguments in fixed places. Each answers 0, and
-- changes nothing, where the long way is to decide: because of the fence, or because there is more to it.

local short
do -- a chunk of Lua has at most 200 locals

local function now_text()
  local t = redis.call('TIME')
  return string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
end

-- `born` where the first record of the history is still to be written.
local function add_history(p, run, born, meta, ...)
  local history, length = p .. 'history:' .. run, nil
  if born then
    length = redis.call('RPUSH', history, start_record(born, meta), ...)
  else
    length = redis.call('RPUSH', history, ...)
  end
  if length > HISTORY_MAX then redis.call('LTRIM', history, -HISTORY_MAX, -1) end
end

-- What stays the same for a worker while one call is dealt with.
local function memo_of(p, batch, worker)
  local memo = batch.memos[worker]
  if not memo then
    memo = { class = class_of(p, worker) }
    batch.memos[worker] = memo
  end
  return memo
end

-- hand_over: a complete whose only successor goes on in the same slot. There is nothing to join, no fan-out, no journal, no merges
-- and no limits.
--
-- After `at`: 1 worker, 2 call, 3 slot, 4 run, 5 number, 6 line, 7 history record without its time, 8 record of the successor, 9 the
-- version of the context that the worker has, or `-` where the successor takes none; up to `last`: fields of the context and their
-- values. Answers number, time and version, and the context where the worker cannot know it.
local function hand_over(p, argv, at, last, now)
  local call, run, seq = argv[at + 2], argv[at + 4], argv[at + 5]
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'last', 'context', 'closed', 'born', 'meta')
  if found[1] ~= argv[at + 6] or found[4] or not found[2] then return 0 end
  local next_seq = found[2] + 1
  if next_seq > MAX_EXECUTIONS then return 0 end
  local worker, successor = argv[at + 1], string.format('%.0f', next_seq)
  local line = 'H 1 0 0 ' .. worker .. ' ' .. now .. ' ' .. call
  local known, version = argv[at + 9], found[3] or '0'
  local sets = last > at + 9
  if sets then redis.call('HSET', p .. 'context:' .. run, unpack(argv, at + 10, last)) end
  add_history(p, run, found[5], found[6], now .. argv[at + 7])
  redis.call('HSET', p .. 'held:' .. worker, argv[at + 3], call .. ' o ' .. run .. ' ' .. successor .. ' 1')
  if found[5] then
    redis.call('HDEL', steps, seq, 'e' .. seq, 'born')
  else
    redis.call('HDEL', steps, seq, 'e' .. seq)
  end
  if sets then
    local raised = string.format('%.0f', version + 1)
    redis.call('HSET', steps, successor, line, 'e' .. successor, argv[at + 8], 'last', successor, 'context', raised)
    -- What the worker has is what it had, and what it has just written.
    if known == version then known = raised end
    version = raised
  else
    redis.call('HSET', steps, successor, line, 'e' .. successor, argv[at + 8], 'last', successor)
  end
  if known == '-' or known == version then return { successor, now, version } end
  return { successor, now, version, redis.call('HGETALL', p .. 'context:' .. run) }
end

-- The line of a step that joins a fan-out when all its branches have ended.
local function joins_all(fan, step)
  local at = string.find(fan, '\n' .. step .. ' ', 1, true)
  return at and string.match(fan, '^%S+ %S+ %S+$', at + 1) or at and string.match(fan, '^%S+ %S+ %S+\n', at + 1)
end

-- end_branch: a complete of a branch of a fan-out that has others, with nothing that follows in it; it may hand an event to a step
-- that joins all. The slot goes on with the next branch where one is staged.
--
-- After `at`: 1 worker, 2 call, 3 slot, 4 run, 5 number, 6 line, 7 history record without its time, 8 the queue that was served last,
-- 9 scope, 10 the step that joins, or nothing, 11 its event; up to `last`: fields of the context and their values.
-- Answers 1, or what the slot has now.
local function end_branch(p, argv, at, last, now, batch)
  local worker, call, run, seq, scope, step = argv[at + 1], argv[at + 2], argv[at + 4], argv[at + 5], argv[at + 9], argv[at + 10]
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'f' .. scope, 'n' .. scope, 'last', 'closed', 'meta')
  local fan, live = found[2], tonumber(found[3])
  if found[1] ~= argv[at + 6] or not fan or not live or live < 2 or found[5] or not found[6] then return 0 end
  if step ~= '' and not joins_all(fan, step) then return 0 end
  local chain = scopes_of(steps, scope, fan)
  if not chain then return 0 end
  if last > at + 11 then
    redis.call('HSET', p .. 'context:' .. run, unpack(argv, at + 12, last))
    redis.call('HINCRBY', steps, 'context', 1)
  end
  -- Whoever opened the fan-out has written the first record.
  add_history(p, run, nil, nil, now .. argv[at + 7])
  if step ~= '' then push_joined(p, run, joined_key(p, run, scope, step), argv[at + 11]) end
  redis.call('HDEL', steps, seq, 'e' .. seq)
  redis.call('HINCRBY', steps, 'n' .. scope, -1)
  local caller = { worker = worker, call = call, run = run, memo = memo_of(p, batch, worker) }
  local item = pop_branch(p, caller, scope, chain, found[6], found[4], now)
    or refill(p, caller, { next = FOLLOWING, after = argv[at + 8] }, nil, tonumber(now))
  local held = p .. 'held:' .. worker
  if not item then
    redis.call('HSET', held, argv[at + 3], call .. ' o')
    return 1
  end
  redis.call('HSET', held, argv[at + 3], slot_value(call, 'o', item.run, item.seq, item.attempt))
  return tell_item(p, argv[at + 3], item, tonumber(now))
end

-- end_run: a complete with the stop event, where nothing else of the run is under way and nobody follows it.
--
-- After `at`: 1 worker, 2 call, 3 slot, 4 run, 5 number, 6 line, 7 history record without its time, 8 the queue that was served last,
-- 9 the record of the run's end, 10 result, 11 retention in ms; up to `last`: fields of the context and their values.
-- Answers 1, or what the slot has now.
local function end_run(p, argv, at, last, now, batch)
  local worker, call, run, seq = argv[at + 1], argv[at + 2], argv[at + 4], argv[at + 5]
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'n0', 'closed', 'events', 'born', 'meta', 'timed')
  if found[1] ~= argv[at + 6] or found[2] ~= '1' or found[3] or found[4] then return 0 end
  if last > at + 11 then redis.call('HSET', p .. 'context:' .. run, unpack(argv, at + 12, last)) end
  add_history(p, run, found[5], found[6], now .. argv[at + 7], now .. argv[at + 9])
  local ms = tonumber(now)
  finish(p, run, ms, 'completed', tonumber(argv[at + 11]), { 'result', argv[at + 10] }, false, found[7])
  local item = refill(p, { worker = worker, call = call, memo = memo_of(p, batch, worker) }, { next = FOLLOWING, after = argv[at + 8] }, nil, ms)
  if not item then
    redis.call('HSET', p .. 'held:' .. worker, argv[at + 3], call .. ' o')
    return 1
  end
  redis.call('HSET', p .. 'held:' .. worker, argv[at + 3], slot_value(call, 'o', item.run, item.seq, item.attempt))
  return tell_item(p, argv[at + 3], item, ms)
end

-- record: a checkpoint that adds one entry to the journal and nothing else. After `at`: 1 run, 2 number, 3 line, 4 number of the
-- call, 5 entry. Answers 1.
local function record(p, argv, at)
  local run, seq = argv[at + 1], argv[at + 2]
  local found = redis.call('HMGET', p .. 'steps:' .. run, seq, 'closed')
  if found[1] ~= argv[at + 3] or found[2] then return 0 end
  local journal = p .. 'journal:' .. run .. ':' .. seq
  redis.call('HSET', journal, argv[at + 4], argv[at + 5])
  redis.call('SADD', p .. 'extra:' .. run, journal)
  return 1
end

-- start: a run with one step that takes its input, at once, with nothing else to it. The rest of what a start does is done for all
-- starts of a call together.
--
-- After `at`: 1 run, 2 workflow, 3 version, 4 content, 5 input, 6 the inbox entry, 7 the record. Answers 1.
local function start_run(p, argv, at, _, now, batch)
  local run, entry = argv[at + 1], argv[at + 6]
  if redis.call('EXISTS', p .. 'run:' .. run, p .. 'history:' .. run) > 0 then return 0 end
  local queue = argv[at + 2] .. ':' .. argv[at + 3]
  redis.call('HSET', p .. 'run:' .. run, 'status', 'queued', 'workflow', argv[at + 2], 'version', argv[at + 3],
    'content', argv[at + 4], 'created', now)
  redis.call('SET', p .. 'input:' .. run, argv[at + 5])
  redis.call('HSET', p .. 'steps:' .. run, 'meta', argv[at + 2] .. ' ' .. argv[at + 3] .. ' ' .. argv[at + 4], 'last', '1', 'n0', '1',
    'born', now, '1', 'Q 0 0 0 ' .. add_entry(p, 'q', queue, run, '1'), 'e1', argv[at + 7])
  local created, entries = batch.created, batch.entries
  created[#created + 1] = now
  created[#created + 1] = run
  entries[#entries + 1] = entry
  batch.queues[queue] = true
  return 1
end

local WAYS = { h = hand_over, b = end_branch, e = end_run, r = record, s = start_run }

-- `argv`: for each, which way, how many arguments it has, and these. What one of them meets must not undo the others: the long way
-- will meet it again.
short = function(keys, argv)
  local p, out, count, at, now = keys[1], {}, 0, 1, now_text()
  local batch = { memos = {}, created = {}, entries = {}, queues = {} }
  while argv[at] do
    local last = at + 1 + argv[at + 1]
    local is_fine, answer = pcall(WAYS[argv[at]], p, argv, at + 1, last, now, batch)
    count = count + 1
    out[count] = is_fine and answer or 0
    at = last + 1
  end
  if #batch.entries > 0 then
    redis.call('ZADD', p .. 'runs', unpack(batch.created))
    redis.call('XACK', p .. 'inbox', 'coordinators', unpack(batch.entries))
    redis.call('XDEL', p .. 'inbox', unpack(batch.entries))
    for queue in pairs(batch.queues) do has_entries(p, 'q', queue) end
  end
  return out
end

end
