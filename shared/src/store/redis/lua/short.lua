-- Short ways for what most commits and checkpoints are, with arguments in fixed places. Each answers 0, and changes nothing, where
-- the long way is to decide: because of the fence, or because there is more to it.

local hand_over, end_branch, record
do -- a chunk of Lua has at most 200 locals

local function now_text()
  local t = redis.call('TIME')
  return string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
end

local function add_history(p, run, now, text)
  local history = p .. 'history:' .. run
  if redis.call('RPUSH', history, now .. text) > HISTORY_MAX then redis.call('LTRIM', history, -HISTORY_MAX, -1) end
end

-- hand_over: a complete whose only successor goes on in the same slot. There is nothing to join, no fan-out, no journal, no merges
-- and no limits.
--
-- `argv`: 1 worker, 2 call, 3 slot, 4 run, 5 number, 6 line, 7 history record without its time, 8 record of the successor, 9 the
-- version of the context that the worker has, or `-` where the successor takes none, 10 fields of the context and their values.
-- Answers number, time and version, and the context where the worker cannot know it.
hand_over = function(keys, argv)
  local p, worker, call, run, seq, line = keys[1], argv[1], argv[2], argv[4], argv[5], argv[6]
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'last', 'context', 'closed')
  if found[1] ~= line or found[4] or not found[2] then return 0 end
  local next_seq = found[2] + 1
  if next_seq > MAX_EXECUTIONS then return 0 end
  local now, successor = now_text(), string.format('%.0f', next_seq)
  redis.call('HDEL', steps, seq, 'e' .. seq)
  local successor_line = 'H 1 0 0 ' .. worker .. ' ' .. now .. ' ' .. call
  local known, version = argv[9], found[3] or '0'
  if argv[10] then
    redis.call('HSET', p .. 'context:' .. run, unpack(argv, 10))
    local raised = string.format('%.0f', version + 1)
    redis.call('HSET', steps, successor, successor_line, 'e' .. successor, argv[8], 'last', successor, 'context', raised)
    -- What the worker has is what it had, and what it has just written.
    if known == version then known = raised end
    version = raised
  else
    redis.call('HSET', steps, successor, successor_line, 'e' .. successor, argv[8], 'last', successor)
  end
  add_history(p, run, now, argv[7])
  redis.call('HSET', p .. 'held:' .. worker, argv[3], call .. ' o ' .. run .. ' ' .. successor .. ' 1')
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
-- `argv`: 1 worker, 2 call, 3 slot, 4 run, 5 number, 6 line, 7 history record without its time, 8 the queue that was served last,
-- 9 scope, 10 the step that joins, or nothing, 11 its event, 12 fields of the context and their values.
-- Answers 1, or what the slot has now.
end_branch = function(keys, argv)
  local p, run, seq, line, scope = keys[1], argv[4], argv[5], argv[6], argv[9]
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'f' .. scope, 'n' .. scope, 'last', 'closed', 'meta')
  local fan, live = found[2], tonumber(found[3])
  if found[1] ~= line or not fan or not live or live < 2 or found[5] or not found[6] then return 0 end
  if argv[10] ~= '' and not joins_all(fan, argv[10]) then return 0 end
  local now, chain = now_text(), scopes_of(steps, scope, fan)
  if not chain then return 0 end
  redis.call('HDEL', steps, seq, 'e' .. seq)
  if argv[12] then
    redis.call('HSET', p .. 'context:' .. run, unpack(argv, 12))
    redis.call('HINCRBY', steps, 'context', 1)
  end
  add_history(p, run, now, argv[7])
  if argv[10] ~= '' then push_joined(p, run, joined_key(p, run, scope, argv[10]), argv[11]) end
  redis.call('HINCRBY', steps, 'n' .. scope, -1)
  local caller = { worker = argv[1], call = argv[2], run = run }
  local item = pop_branch(p, caller, scope, chain, found[6], found[4], now)
    or refill(p, caller, { next = FOLLOWING, after = argv[8] }, nil, tonumber(now))
  local held = p .. 'held:' .. caller.worker
  if not item then
    redis.call('HSET', held, argv[3], caller.call .. ' o')
    return 1
  end
  redis.call('HSET', held, argv[3], slot_value(caller.call, 'o', item.run, item.seq, item.attempt))
  return tell_item(p, argv[3], item, tonumber(now))
end

-- record: a checkpoint that adds one entry to the journal and nothing else. `argv`: 1 run, 2 number, 3 line, 4 number of the call,
-- 5 entry. Answers 1.
record = function(keys, argv)
  local p, run, seq = keys[1], argv[1], argv[2]
  local found = redis.call('HMGET', p .. 'steps:' .. run, seq, 'closed')
  if found[1] ~= argv[3] or found[2] then return 0 end
  local journal = p .. 'journal:' .. run .. ':' .. seq
  redis.call('HSET', journal, argv[4], argv[5])
  redis.call('SADD', p .. 'extra:' .. run, journal)
  return 1
end

end
