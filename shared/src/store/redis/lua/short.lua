-- Fast paths for the most common commits, checkpoints and starts: several per call, each with positional arguments.
-- Each returns 0 and changes nothing if the full transition must decide: because of the fence, or because the case is
-- not simple.

local short
do -- a chunk of Lua has at most 200 locals

-- Positions of each path's arguments: after `at`, then fields of the context and their values up to `last`.
local H, B, E, R, S = place_of.hand_over, place_of.end_branch, place_of.end_run, place_of.record, place_of.start_run

-- Formats numbers with `..`, which is cheaper than string.format and exact up to 14 digits.
local function now_text()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000) .. ''
end

-- Appends to the history. `born` is given if the first record is not yet written.
local function add_history(p, run, born, meta, ...)
  local history, length = key_of.history(p, run), nil
  if born then
    length = redis.call('RPUSH', history, start_record(born, meta), ...)
  else
    length = redis.call('RPUSH', history, ...)
  end
  if length > LIMIT.HISTORY_MAX then redis.call('LTRIM', history, -LIMIT.HISTORY_MAX, -1) end
end

-- Caches what stays the same for a worker during one call.
local function memo_of(p, batch, worker)
  local memo = batch.memos[worker]
  if not memo then
    memo = { class = class_of(p, worker) }
    batch.memos[worker] = memo
  end
  return memo
end

-- hand_over: a complete whose only successor takes the same slot, without joins, fan-outs, journal, merges or limits.
--
-- `version` is the context version that the worker has, or `-` if the successor takes no context. Returns number, time
-- and version, and the context if the worker cannot know it.
local function hand_over(p, argv, at, last, now)
  local call, run, seq = argv[at + H.call], argv[at + H.run], argv[at + H.number]
  local steps = key_of.steps(p, run)
  local found = redis.call('HMGET', steps, seq, 'last', 'context', 'closed', 'born', 'meta', 'paused')
  if found[1] ~= argv[at + H.line] or found[4] or not found[2] or found[7] then return 0 end
  local next_seq = found[2] + 1
  if next_seq > LIMIT.MAX_EXECUTIONS then return 0 end
  local worker, successor = argv[at + H.worker], next_seq .. ''
  local line = 'H 1 0 0 ' .. worker .. ' ' .. now .. ' ' .. call
  local known, version = argv[at + H.version], found[3] or '0'
  local sets = last >= at + H.fields
  if sets then redis.call('HSET', key_of.context(p, run), unpack(argv, at + H.fields, last)) end
  add_history(p, run, found[5], found[6], now .. argv[at + H.history])
  redis.call('HSET', key_of.held(p, worker), argv[at + H.slot], call .. ' o ' .. run .. ' ' .. successor .. ' 1')
  if found[5] then
    redis.call('HDEL', steps, seq, 'e' .. seq, 'born')
  else
    redis.call('HDEL', steps, seq, 'e' .. seq)
  end
  if sets then
    local raised = version + 1 .. ''
    redis.call('HSET', steps, successor, line, 'e' .. successor, argv[at + H.record], 'last', successor, 'context', raised)
    -- The worker knows the context that it had, plus its own changes.
    if known == version then known = raised end
    version = raised
  else
    redis.call('HSET', steps, successor, line, 'e' .. successor, argv[at + H.record], 'last', successor)
  end
  if known == '-' or known == version then return { successor, now, version } end
  return { successor, now, version, redis.call('HGETALL', key_of.context(p, run)) }
end

-- Whether the step joins the fan-out only when all branches have ended.
local function joins_all(fan, step)
  local at = string.find(fan, '\n' .. step .. ' ', 1, true)
  return at and string.match(fan, '^%S+ %S+ %S+$', at + 1) or at and string.match(fan, '^%S+ %S+ %S+\n', at + 1)
end

-- end_branch: a complete of a fan-out branch, which has siblings and no successor; it may hand an event to a step that
-- joins all branches. The slot takes the next branch if one is staged.
--
-- `after` is the queue served last, `join` the joining step or empty. Returns 1, or what the slot holds now.
local function end_branch(p, argv, at, last, now, batch)
  local worker, call, run, seq = argv[at + B.worker], argv[at + B.call], argv[at + B.run], argv[at + B.number]
  local group, step = argv[at + B.group], argv[at + B.join]
  local steps = key_of.steps(p, run)
  local found = redis.call('HMGET', steps, seq, 'f' .. group, 'n' .. group, 'last', 'closed', 'meta', 'paused')
  local fan, live = found[2], tonumber(found[3])
  if found[1] ~= argv[at + B.line] or not fan or not live or live < 2 or found[5] or not found[6] or found[7] then return 0 end
  if step ~= '' and not joins_all(fan, step) then return 0 end
  local chain = groups_of(steps, group, fan)
  if not chain then return 0 end
  if last >= at + B.fields then
    redis.call('HSET', key_of.context(p, run), unpack(argv, at + B.fields, last))
    redis.call('HINCRBY', steps, 'context', 1)
  end
  -- The commit that opened the fan-out has already written the first record.
  add_history(p, run, nil, nil, now .. argv[at + B.history])
  if step ~= '' then push_joined(p, run, key_of.joined(p, run, group, step), argv[at + B.event]) end
  redis.call('HDEL', steps, seq, 'e' .. seq)
  redis.call('HINCRBY', steps, 'n' .. group, -1)
  local memo = memo_of(p, batch, worker)
  local caller = { worker = worker, call = call, run = run, next = FOLLOWING, after = argv[at + B.after] }
  local item = pop_branch(p, caller, group, chain, found[6], found[4], now) or refill(p, caller, nil, tonumber(now), memo)
  local held = key_of.held(p, worker)
  if not item then
    redis.call('HSET', held, argv[at + B.slot], call .. ' o')
    return 1
  end
  redis.call('HSET', held, argv[at + B.slot], slot_value(call, 'o', item.run, item.seq, item.attempt))
  return tell_item(p, argv[at + B.slot], item, tonumber(now))
end

-- end_run: a complete with the stop event, if no other step execution of the run is live and it has no followers.
-- Returns 1, or what the slot holds now.
local function end_run(p, argv, at, last, now, batch)
  local worker, call, run, seq = argv[at + E.worker], argv[at + E.call], argv[at + E.run], argv[at + E.number]
  local steps = key_of.steps(p, run)
  local found = redis.call('HMGET', steps, seq, 'n0', 'closed', 'events', 'born', 'meta', 'limited', 'parent')
  if found[1] ~= argv[at + E.line] or found[2] ~= '1' or found[3] or found[4] then return 0 end
  if last >= at + E.fields then redis.call('HSET', key_of.context(p, run), unpack(argv, at + E.fields, last)) end
  add_history(p, run, found[5], found[6], now .. argv[at + E.history], now .. argv[at + E.completed])
  local ms, memo = tonumber(now), memo_of(p, batch, worker)
  finish(p, run, ms, 'completed', tonumber(argv[at + E.retention]), { 'result', argv[at + E.result] }, false, found[7], nil, found[8])
  local item = refill(p, { worker = worker, call = call, next = FOLLOWING, after = argv[at + E.after] }, nil, ms, memo)
  if not item then
    redis.call('HSET', key_of.held(p, worker), argv[at + E.slot], call .. ' o')
    return 1
  end
  redis.call('HSET', key_of.held(p, worker), argv[at + E.slot], slot_value(call, 'o', item.run, item.seq, item.attempt))
  return tell_item(p, argv[at + E.slot], item, ms)
end

-- record: a checkpoint that only adds one journal entry. Returns 1.
local function record(p, argv, at)
  local run, seq = argv[at + R.run], argv[at + R.number]
  local found = redis.call('HMGET', key_of.steps(p, run), seq, 'closed')
  if found[1] ~= argv[at + R.line] or found[2] then return 0 end
  local journal, upon = key_of.journal(p, run, seq), argv[at + R.upon]
  if upon ~= '' and is_forgotten(p, run, seq, argv[at + R.line], upon) then return 0 end
  redis.call('HSETNX', journal, argv[at + R.call], argv[at + R.entry])
  redis.call('SADD', key_of.extra(p, run), journal)
  return 1
end

-- start_run: starts a run whose only first step takes the input at once, without further options. The rest of a start
-- is done for all starts of a call together. Returns 1.
local function start_run(p, argv, at, _, now, batch)
  local run, workflow, version, content = argv[at + S.run], argv[at + S.workflow], argv[at + S.version], argv[at + S.content]
  local key = key_of.run(p, run)
  if redis.call('EXISTS', key, key_of.history(p, run), key_of.extra(p, run)) > 0 then return 0 end
  local queue = workflow .. ':' .. version
  redis.call('HSET', key, 'status', 'queued', 'workflow', workflow, 'version', version, 'content', content, 'created', now)
  redis.call('SET', key_of.input(p, run), argv[at + S.input])
  redis.call('HSET', key_of.steps(p, run), 'meta', workflow .. ' ' .. version .. ' ' .. content, 'last', '1', 'n0', '1', 'born', now,
    '1', 'Q 0 0 0 ' .. add_entry(p, 'q', queue, run, '1'), 'e1', argv[at + S.record])
  local created, entries = batch.created, batch.entries
  created[#created + 1] = now
  created[#created + 1] = run
  entries[#entries + 1] = argv[at + S.entry]
  batch.queues[queue] = true
  return 1
end

local function finish_starts(p, batch)
  for queue in pairs(batch.queues) do has_entries(p, 'q', queue) end
  redis.call('ZADD', key_of.runs(p), unpack(batch.created))
  redis.call('XACK', key_of.inbox(p), 'coordinators', unpack(batch.entries))
  redis.call('XDEL', key_of.inbox(p), unpack(batch.entries))
end

local WAYS = { h = hand_over, b = end_branch, e = end_run, r = record, s = start_run }

-- `argv` has for each the path, the number of arguments, and the arguments. An error in one must not affect the others:
-- the full transition will meet it again.
short = function(keys, argv)
  local p, out, count, at, now = keys[1], {}, 0, 1, now_text()
  local batch, starts = { memos = {}, created = {}, entries = {}, queues = {} }, {}
  while argv[at] do
    local last = at + 1 + argv[at + 1]
    local is_fine, answer = pcall(WAYS[argv[at]], p, argv, at + 1, last, now, batch)
    count = count + 1
    out[count] = is_fine and answer or 0
    if argv[at] == 's' then starts[#starts + 1] = count end
    at = last + 1
  end
  if #batch.entries > 0 and not pcall(finish_starts, p, batch) then
    for _, index in ipairs(starts) do out[index] = 0 end
  end
  return out
end

end
