-- Shared by all transitions. docs/architecture.md lists the keys and the fields of the steps hash.
--
-- Each function gets one key, the prefix `sf:{p}:`. All keys that it touches begin with the prefix and so are in the
-- same hash slot. A transition takes that prefix, `p`, and its named arguments, as contract.lua parses them. Payloads
-- are opaque bytes.

local GROUP = 'workers'

-- Filled by child.lua.
local kin = {}

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Compares bytes: `<` depends on the server's locale.
local function comes_before(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- Lua's unpack fails near 8,000 values.
local function chunked(command, key, values)
  for from = 1, #values, LIMIT.CHUNK do
    redis.call(command, key, unpack(values, from, math.min(from + LIMIT.CHUNK - 1, #values)))
  end
end

local function unlink(keys)
  for from = 1, #keys, LIMIT.CHUNK do
    redis.call('UNLINK', unpack(keys, from, math.min(from + LIMIT.CHUNK - 1, #keys)))
  end
end

-- The first record of a history. It is written with the second one: a list for it alone would take a fifth of a waiting
-- run's memory.
local function start_record(born, meta)
  return born .. ' start 0 0 - - ' .. (string.match(meta or '', '^%S+ %S+') or '- -')
end

local function note(p, run, now, kind, seq, attempt, step, worker, detail)
  local key = key_of.history(p, run)
  local line = now .. ' ' .. kind .. ' ' .. seq .. ' ' .. attempt .. ' ' .. step .. ' ' .. worker .. ' ' .. (detail or '')
  local length = redis.call('RPUSHX', key, line)
  if length == 0 then
    local steps = key_of.steps(p, run)
    local found = redis.call('HMGET', steps, 'born', 'meta')
    if not found[1] then return redis.call('RPUSH', key, line) end
    redis.call('RPUSH', key, start_record(found[1], found[2]), line)
    redis.call('HDEL', steps, 'born')
  elseif length > LIMIT.HISTORY_MAX then
    redis.call('LTRIM', key, -LIMIT.HISTORY_MAX, -1)
  end
end

-- The state of a step execution: letter (Q queued, H held, W waiting for a timer, S suspended by waits, T waiting for
-- its turn), attempt, failures, losses, and details by letter: for Q the lane and the id of the queue entry; for W the
-- due time; for S its waits, as `<name>.<number>,...`, each with `~<filter>` if it has one; for H the worker, since
-- when, and the number of the call that took it. An ended step execution has no state. Losses count since the last
-- attempt that ended well: losses of workers that held nothing else, then `+` and those of workers that also held
-- others.
--
-- The line of a hold is the fence: a worker receives it and sends it back, and it is compared as one string. The number
-- of the call makes it unique: attempts alone repeat if a run id is reused, or if a restart of Redis loses writes.
local function parse_state(line)
  if not line then return {} end
  local letter, attempt, failures, losses, shared, about, since, call =
    string.match(line, '^(%u) (%d+) (%d+) (%d+)%+?(%d*) (%S*) ?(%d*) ?(%d*)$')
  return {
    letter = letter, attempt = tonumber(attempt), failures = tonumber(failures), losses = tonumber(losses),
    shared = tonumber(shared) or 0, about = about, since = since, call = call,
  }
end

local function state_line(letter, s, about)
  local losses = s.shared > 0 and s.losses .. '+' .. s.shared or s.losses
  return letter .. ' ' .. s.attempt .. ' ' .. s.failures .. ' ' .. losses .. ' ' .. about
end

local NEW = { attempt = 0, failures = 0, losses = 0, shared = 0 }

-- After this many losses without an attempt that ended well, a step execution is executed alone: either it kills its
-- workers, or it dies along with one that does. Two workers killed by chance delay nothing.
local function is_suspect(s)
  return s.losses + s.shared >= 3
end

-- Parses a record: `<group> <step> <flags> <event>\n<payload>`. Nil if it is malformed. The flags are letters, and
-- numbers that only workers read.
local function parse_record(record)
  local stop = string.find(record, '\n', 1, true)
  if not stop then return nil end
  local name = '([%w_%.%-]+)'
  local group, step, flags, event =
    string.match(string.sub(record, 1, stop - 1), '^(%d+) ' .. name .. ' ([icjot%-]+=?%d*%+?%d*) ' .. name .. '$')
  return group, step, flags, event, string.sub(record, stop + 1)
end

-- Parses the group and flags of a record without touching the payload. Nil if it is malformed.
local function parse_head(record)
  return string.match(record or '', '^(%d+) [%w_%.%-]+ ([icjot%-]+=?%d*%+?%d*) [%w_%.%-]+\n')
end

-- Patterns of a state's details: for a hold, including the call that took it.
local ABOUT = { Q = '^[aqr]%d+%-%d+ $', H = '^%S+ %d+$', W = '^%d+ $', S = '^%S+ $', T = '^turn $' }

-- Describes which part of a step execution is damaged; nil if none is. Claims check only the state: workers read the
-- rest and report it.
local function damage(state, record, meta)
  local s = parse_state(state)
  if not s.letter or s.attempt >= 1e9 then return 'its state' end
  if not string.match(s.about .. ' ' .. s.call, ABOUT[s.letter] or '%z%z') then return 'its state' end
  local version, content, more = string.match(meta or '', '^[%w_%.%-]+ (%d+) (%a+)(.*)$')
  more = string.gsub(more or '', ' follow$', '')
  local is_known = more == '' or more == ' fsync' or string.match(more, '^ replicas:%d+$')
  if not version or not is_known or #version > 10 or content ~= 'json' and content ~= 'msgpack' then return "the run's description" end
  local group, _, flags, _, payload = parse_record(record or '')
  if not group or #group > LIMIT.MAX_EXACT or string.find(flags, '%d%d%d%d%d%d%d%d%d%d') then return 'its event' end
  if string.find(flags, 'j', 1, true) and not string.match(payload, '^%d+ %d+$') then return 'its event' end
  if string.find(flags, 't', 1, true) and not string.match(payload, '^%d[%d ]*\n') then return 'its event' end
  return nil
end

-- Returns step and limit if the flags of the record end with `=<limit>`: how many executions of the step may run at
-- once.
local function limit_of(record)
  local step, limit = string.match(record, '^%d+ (%S+) [%a%-]+=(%d+)')
  return step, tonumber(limit)
end

-- Whether a new step execution may begin now. If its step is at its limit, it waits for its turn.
local function take_turn(p, run, seq, record)
  local step, limit = limit_of(record)
  if not step then return true end
  local steps, taken = key_of.steps(p, run), 't' .. step
  if tonumber(redis.call('HGET', steps, taken) or 0) < limit then
    redis.call('HINCRBY', steps, taken, 1)
    return true
  end
  local turns = key_of.turns(p, run, step)
  redis.call('RPUSH', turns, seq)
  redis.call('SADD', key_of.extra(p, run), turns)
  return false
end

local function queue_of(meta)
  local workflow, version = string.match(meta, '^(%S+) (%S+)')
  return workflow .. ':' .. version
end

-- The lanes of a queue: `q` for new entries, `r` for requeued ones, which are served first, `a` for those to execute
-- alone. A ready set for each lane lists the queues that have entries.
local LANES = { q = 'queue', r = 'requeued', a = 'alone' }

-- Functions for bodies that workers keep in memory.
local kept = {}

-- Wakes the worker if it is idle.
function kept.wake(p, queue, keeper)
  local class = redis.call('HGET', key_of.worker(p, keeper), 'class')
  if not class or redis.call('SREM', key_of.idle(p, class), keeper) == 0 then return false end
  redis.call('RPUSH', key_of.wake(p, keeper), queue)
  return true
end

-- Wakes one idle worker that serves the queue, through the worker's own wake list: the cost does not depend on how many
-- are idle.
local function wake_worker(p, queue)
  for _, class in ipairs(redis.call('SMEMBERS', key_of.classes(p, queue))) do
    local worker = redis.call('SPOP', key_of.idle(p, class))
    if worker then return redis.call('RPUSH', key_of.wake(p, worker), queue) end
  end
end

local function lane_key(p, lane, queue)
  return key_of[LANES[lane]](p, queue)
end

-- The set of queues that have entries in this lane.
local ready_key
do
local READY = { q = 'ready', r = 'urgent', a = 'lonely' }

ready_key = function(p, lane)
  return key_of[READY[lane]](p)
end
end

-- Adds a queue entry: the run and the number of the step execution, or `f` and the fan-out whose next branches to
-- write.
local function add_entry(p, lane, queue, run, number)
  return lane .. redis.call('XADD', lane_key(p, lane, queue), '*', run, number)
end

-- Lists the queue as ready. If it was not listed, wakes a worker: while it is listed, no worker that serves it becomes
-- idle without looking at it.
local function has_entries(p, lane, queue, keeper)
  local is_first = redis.call('SADD', ready_key(p, lane), queue) == 1
  if not (keeper and kept.wake(p, queue, keeper)) and is_first then wake_worker(p, queue) end
end

local function append(p, lane, queue, run, number, keeper)
  local place = add_entry(p, lane, queue, run, number)
  has_entries(p, lane, queue, keeper)
  return place
end

-- Requeues a step execution, ahead of new ones. Preferably wakes `keeper`, which has its body in memory.
local function queue_again(p, meta, run, seq, s, keeper)
  local place = append(p, is_suspect(s) and 'a' or 'r', queue_of(meta), run, seq, keeper)
  redis.call('HSET', key_of.steps(p, run), seq, state_line('Q', s, place))
end

-- Queues the entry that triggers writing the next branches of a large fan-out.
local function queue_fan(p, meta, run, group)
  redis.call('HSET', key_of.steps(p, run), 'q' .. group, append(p, 'q', queue_of(meta), run, 'f' .. group))
end

-- Sets a timer. Coordinators sleep until the next timer is due: one that is due soon and before all others wakes them.
local function set_timer(p, now, due, timer)
  local timers = key_of.timers(p)
  redis.call('ZADD', timers, due, timer)
  if due - now < LIMIT.SOON and redis.call('ZRANGE', timers, 0, 0)[1] == timer then redis.call('PUBLISH', key_of.alarm(p), due) end
end

-- The chain of fan-outs around a group, innermost first, starting with the group itself and without the run. Nil, and
-- which, if one of them is closed, which voids everything in it. `fan` is the first one's field, if already read.
local function groups_of(steps, group, fan)
  local chain = {}
  while group ~= '0' do
    fan = fan or redis.call('HGET', steps, 'f' .. group)
    if not fan then return nil, group end
    chain[#chain + 1] = group
    group, fan = string.match(fan, '^(%d+)'), nil
  end
  return chain
end

-- Appends to what the run publishes. Numbered entries let a reader detect trimmed ones. If the key holds foreign data,
-- returns the error: followers must not make a run fail.
local function add_event(p, run, ...)
  local n = redis.pcall('HINCRBY', key_of.steps(p, run), 'events', 1)
  if type(n) ~= 'number' then return n end
  return redis.pcall('XADD', key_of.events(p, run), 'MAXLEN', '~', LIMIT.MAX_EVENTS, '*', 'n', n, ...)
end

-- Forgets what a step execution that has ended published.
local function forget_published(p, run, seq)
  local key = key_of.published(p, run, seq)
  if redis.call('UNLINK', key) == 1 then redis.call('SREM', key_of.extra(p, run), key) end
end

-- Whether the run was started with its steps to be followed.
local function follows(meta)
  return string.sub(meta or '', -7) == ' follow'
end

-- Publishes the state of a step execution to followers. Reads the record if it is not given.
local function tell_followers(p, run, meta, state, seq, attempt, worker, record, ...)
  if not follows(meta) then return end
  local _, step, _, event = parse_record(record or redis.call('HGET', key_of.steps(p, run), 'e' .. seq) or '')
  add_event(p, run, 'kind', 'state', 'state', state, 'event', event or '-', 'step', step or '-', 'seq', seq,
    'attempt', attempt, 'worker', worker, ...)
end

-- Whether a fan-out around a step execution is closed. Its record may be large, so it is read only if the run has
-- closed any fan-out (field `closed` of the steps hash).
local function is_void(steps, seq, has_closed)
  if not has_closed then return false end
  local group = parse_record(redis.call('HGET', steps, 'e' .. seq) or '')
  return group and not groups_of(steps, group)
end

-- The value of a worker's slot: the number of the call that wrote it, `o` or `f` for the outcome of that call's commit
-- (good or fenced), and run, number and attempt of the step execution that it holds, if any.
local function slot_value(call, letter, run, seq, attempt)
  if not run then return call .. ' ' .. letter end
  return call .. ' ' .. letter .. ' ' .. run .. ' ' .. seq .. ' ' .. attempt
end

-- Returns call number, letter, run, number of the step execution, attempt.
local function parse_slot(value)
  return string.match(value or '', '^(%d+) (%a) ?(%S*) ?(%d*) ?(%d*)$')
end

-- Creates step executions. The first that may begin at once goes to `taker`, if given: directly to the slot whose step
-- execution ends, bypassing the queue. `fields` are other fields of the steps hash to write with them. `later` has
-- `now` and `due` if they begin then; an empty one puts them in state Q without a queue entry.
local function create(p, run, meta, first, records, taker, fields, later)
  local queue, has_queued = queue_of(meta), false
  fields = fields or {}
  for i, record in ipairs(records) do
    local seq = first + i - 1
    fields[#fields + 1] = seq
    if not take_turn(p, run, seq, record) then
      fields[#fields + 1] = state_line('T', NEW, 'turn')
    elseif taker and not taker.taken then
      local line = 'H 1 0 0 ' .. taker.worker .. ' ' .. taker.now .. ' ' .. taker.call
      taker.taken = { run = run, seq = seq, attempt = 1, line = line, record = record, meta = meta }
      fields[#fields + 1] = line
    elseif later and not later.due then
      fields[#fields + 1] = state_line('Q', NEW, 'q0-0')
    elseif later then
      fields[#fields + 1] = state_line('W', NEW, later.due)
      set_timer(p, later.now, later.due, 'step ' .. run .. ' ' .. seq .. ' 0')
    else
      fields[#fields + 1] = state_line('Q', NEW, add_entry(p, 'q', queue, run, seq))
      has_queued = true
    end
    fields[#fields + 1] = 'e' .. seq
    fields[#fields + 1] = record
    tell_followers(p, run, meta, 'waiting', seq, 0, '-', record)
  end
  chunked('HSET', key_of.steps(p, run), fields)
  if has_queued then has_entries(p, 'q', queue) end
end

-- Open questions. `asked:<run>` has their texts, including those of a failed run, which may be retried; `questions`
-- lists them by the time they were asked. `mark` is `<seq>.<number>`.
local function is_question(name)
  return string.sub(name, 1, 5) == '%ask.'
end

local function close_question(p, run, mark)
  local key = key_of.asked(p, run)
  redis.call('HDEL', key, mark, 'd' .. mark)
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', key_of.extra(p, run), key) end
  redis.call('ZREM', key_of.questions(p), run .. ' ' .. mark)
end

local function marks_of(p, run)
  local marks = {}
  for _, field in ipairs(redis.call('HKEYS', key_of.asked(p, run))) do
    if string.find(field, '^%d') then marks[#marks + 1] = field end
  end
  return marks
end

-- Closes the questions of a step execution that has ended.
local function close_questions(p, run, seq)
  if redis.call('EXISTS', key_of.asked(p, run)) == 0 then return end
  local start = seq .. '.'
  for _, mark in ipairs(marks_of(p, run)) do
    if string.sub(mark, 1, #start) == start then close_question(p, run, mark) end
  end
end

-- Takes the questions of an ended run off the list: they cannot be answered.
local function hide_questions(p, run)
  local gone = {}
  for _, mark in ipairs(marks_of(p, run)) do gone[#gone + 1] = run .. ' ' .. mark end
  chunked('ZREM', key_of.questions(p), gone)
end

-- Filled by session.lua.
local sessions = {}

-- Filled by receipts.lua.
local receipts = {}

-- Runs that end without completing during a call, each with workflow and status. Collected only while `ended` exists,
-- for callers that count them.
local tally = {}

-- The other keys of a run that its set `extra` lists, and the signal keys among them, if any; whether it has questions,
-- its session, and the lists that get a receipt of its end. Anything else in the set is not ours to remove.
local function extra_of(p, run)
  local keys, signals, asks, has_children, has_undo, session, lists = {}, nil, false, false, false, nil, nil
  local of_session, of_reply = key_of.session(p, ''), key_of.reply(p, '')
  for _, key in ipairs(redis.call('SMEMBERS', key_of.extra(p, run))) do
    if key == key_of.asked(p, run) then
      keys[#keys + 1], asks = key, true
    elseif key == key_of.children(p, run) then
      keys[#keys + 1], has_children = key, true
    elseif string.sub(key, 1, #of_session) == of_session then
      session = string.sub(key, #of_session + 1)
    elseif string.sub(key, 1, #of_reply) == of_reply then
      lists = lists or {}
      lists[#lists + 1] = string.sub(key, #of_reply + 1)
    elseif key == key_of.undo(p, run) then
      keys[#keys + 1], has_undo = key, true
    end
    for _, kind in ipairs({ 'joined', 'fan', 'journal', 'signals', 'turns', 'published' }) do
      local start = p .. kind .. ':' .. run .. ':'
      if string.sub(key, 1, #start) == start then
        keys[#keys + 1] = key
        if kind == 'signals' then
          signals = signals or {}
          signals[#signals + 1] = key
        end
      end
    end
  end
  return keys, signals, asks, has_children, has_undo, session, lists
end

-- Records in the history which kept signals no wait will take, given their keys and the count of each.
local function tell_unused(p, run, now, keys, count_of)
  local told, unnamed = {}, 0
  table.sort(keys, comes_before)
  for _, key in ipairs(keys) do
    local count = count_of[key]
    if count > 0 and #told < LIMIT.NAMED_SIGNALS then
      told[#told + 1] = string.match(key, ':([^:]+)$') .. ' ' .. count
    elseif count > 0 then
      unnamed = unnamed + 1
    end
  end
  if unnamed > 0 then told[#told + 1] = unnamed .. ' more names' end
  if #told > 0 then note(p, run, now, 'unused-signals', 0, 0, '-', '-', table.concat(told, ', ')) end
end

-- The same for all signals kept for a run.
local function tell_kept(p, run, now, keys)
  local count_of = {}
  -- Each signal has two fields; `last` is one more.
  for _, key in ipairs(keys) do count_of[key] = math.floor(redis.call('HLEN', key) / 2) end
  tell_unused(p, run, now, keys, count_of)
end

-- Tells workers, in their next heartbeat, what to abandon: a run or `<run> <group>`. It is kept for longer than any
-- lease.
local function tell_workers(p, what, now)
  redis.call('ZREMRANGEBYSCORE', key_of.cancelled(p), '-inf', now - 600000)
  redis.call('ZREMRANGEBYRANK', key_of.cancelled(p), 0, -10000)
  redis.call('ZADD', key_of.cancelled(p), now, what)
end

-- Records in the history the events that no step received because their join, set or buffer stayed incomplete: those in
-- the run's `joined` keys. Lists only a readable number of them one by one.
local function tell_left(p, run, now, extra)
  if #extra == 0 then return end
  local start, left = string.sub(key_of.joined(p, run, '', ''), 1, -2), {}
  for _, key in ipairs(extra) do
    if string.sub(key, 1, #start) == start then left[#left + 1] = string.sub(key, #start + 1) end
  end
  if #left == 0 then return end
  table.sort(left, comes_before)
  for i = 1, math.min(#left, LIMIT.MAX_LEFT) do
    local group, step, kind, name = string.match(left[i], '^(%d+):([%w_%.%-]+)([+*]?)(.*)$')
    local count = group and redis.call('LLEN', start .. left[i]) or 0
    local what = kind == '+' and 'set ' .. group .. ' ' .. name or kind == '*' and 'buffer ' .. group .. ' ' .. name or 'join ' .. (group or '')
    if count > 0 then note(p, run, now, 'left', 0, 0, step, '-', count .. ' ' .. what) end
  end
  if #left > LIMIT.MAX_LEFT then note(p, run, now, 'left', 0, 0, '-', '-', #left - LIMIT.MAX_LEFT .. ' more') end
end

-- Ends a run. One that did not complete keeps its steps, out of reach of any fence, for a retry or a fork. `publishes`
-- says whether it has published anything, `has_timeout` whether it has a timeout; nil if unknown. `journal` is kept for
-- forks if the run completes. `parent` is the run that waits for it: false if there is none, nil if unknown.
local function finish(p, run, now, status, retention, fields, publishes, has_timeout, journal, parent)
  local key, steps = key_of.run(p, run), key_of.steps(p, run)
  if publishes == nil then publishes = redis.call('HEXISTS', steps, 'events') == 1 end
  if publishes then add_event(p, run, 'kind', 'end', 'status', status) end
  redis.call('HSET', key, 'status', status, 'finished', now, 'expires', now + retention, unpack(fields))
  if tally.ended and status ~= 'completed' then
    tally.ended[#tally.ended + 1] = redis.call('HGET', key, 'workflow') or '-'
    tally.ended[#tally.ended + 1] = status
  end
  local extra, signals, asks, has_children, has_undo, session, lists = extra_of(p, run)
  if asks then hide_questions(p, run) end
  if signals then tell_kept(p, run, now, signals) end
  if has_children and status ~= 'failed' then kin.cancel_children(p, run) end
  if parent == nil then parent = redis.call('HGET', steps, 'parent') end
  if parent then kin.tell_parent(p, run, parent, status, fields[2]) end
  local undo = has_undo and kin.begin_undo(p, run, now, status)
  if status ~= 'completed' then
    if redis.call('EXISTS', steps) == 1 then redis.call('RENAME', steps, key_of.stopped(p, run)) end
  else
    tell_left(p, run, now, extra)
    local gone = { key_of.extra(p, run), steps }
    for _, key in ipairs(extra) do
      if key ~= journal and key ~= undo then gone[#gone + 1] = key end
    end
    unlink(gone)
    if undo then redis.call('SADD', key_of.extra(p, run), undo) end
    if journal and redis.call('EXISTS', journal) == 1 then redis.call('SADD', key_of.extra(p, run), journal) end
  end
  set_timer(p, now, now + retention, 'expire ' .. run)
  if has_timeout ~= false then redis.call('ZREM', key_of.timers(p), 'timeout ' .. run) end
  redis.call('PUBLISH', key_of.ended(p, run), status)
  if lists then receipts.tell_end(p, run, lists) end
  if session then sessions.leave(p, run, session, now, status, retention) end
end

-- Removes a run. `but_signals`: except the signals kept for the next run with its id.
local function forget(p, run, but_signals)
  local keys, signals, asks = extra_of(p, run)
  if asks then hide_questions(p, run) end
  if but_signals and signals then
    keys = {}
  else
    keys[#keys + 1] = key_of.extra(p, run)
  end
  for _, kind in ipairs({ 'run', 'input', 'context', 'begun', 'history', 'stopped', 'steps', 'events' }) do
    keys[#keys + 1] = key_of[kind](p, run)
  end
  unlink(keys)
  redis.call('ZREM', key_of.runs(p), run)
end
