-- audit: finds what a run needs but is missing (keys deleted by hand, a restore from an old backup, a bug), and
-- recreates it from the run's state. If it cannot, it fails the run and says why. Each call audits one key, or one
-- slice of a large hash.

local audit, quiet_audit, mend_execution, mend_fan, lost_for_good
do -- a chunk of Lua has at most 200 locals

-- `found` collects the breaches, one sentence each. `fix` is false if the audit may change nothing.
local function new_audit(p, given)
  return { p = p, now = now_ms(), fix = given.fix, max_losses = given.max_losses, retention = given.retention, found = {}, groups = {}, holds = {} }
end

-- Repairs without reporting: for a run whose failure cut off what it needs.
quiet_audit = function(p, now)
  return { p = p, now = now, fix = true, is_quiet = true, max_losses = math.huge, retention = LIMIT.DAMAGED_RETENTION, found = {}, groups = {}, holds = {} }
end

-- Reports a breach. Returns true if it should be repaired, which the lifetime counter includes.
local function report(a, name, what)
  a.found[#a.found + 1] = name
  a.found[#a.found + 1] = what
  if a.fix then redis.call('HINCRBY', key_of.counters(a.p), 'repaired', 1) end
  return a.fix
end

local function breach(a, run, what, mend)
  -- A retry or a resume may find things missing; that is no breach.
  if a.is_quiet then return mend() end
  if not report(a, run, what) then return end
  mend()
  note(a.p, run, a.now, 'repaired', 0, 0, '-', '-', what)
end

local function after(id, other)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  local other_ms, other_n = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms > other_ms or ms == other_ms and tonumber(n) > tonumber(other_n)
end

-- How far the stream's group has read; nil if there is no group, so that every entry is still unread.
local function read_up_to(a, stream)
  if a.groups[stream] == nil then
    a.groups[stream] = false
    local groups = redis.pcall('XINFO', 'GROUPS', stream)
    for _, about in ipairs(groups.err and {} or groups) do
      local group = {}
      for i = 1, #about, 2 do group[about[i]] = about[i + 1] end
      if group.name == GROUP then a.groups[stream] = group['last-delivered-id'] end
    end
  end
  return a.groups[stream]
end

-- Whether the entry exists and is still to be read, or is pending.
local function is_queued(a, queue, place)
  local lane, id = string.sub(place, 1, 1), string.sub(place, 2)
  if not LANES[lane] then return false end
  local stream = lane_key(a.p, lane, queue)
  local entry = redis.pcall('XRANGE', stream, id, id)
  if entry.err or #entry == 0 then return false end
  local read = read_up_to(a, stream)
  return not read or after(id, read)
end

-- Claims read only queues that the ready set lists.
local function audit_ready(a, run, queue, lane)
  if redis.call('SISMEMBER', ready_key(a.p, lane), queue) == 1 then return end
  breach(a, run, LANES[lane] .. ':' .. queue .. ' has entries and is not listed as having any', function() has_entries(a.p, lane, queue) end)
end

-- Each worker's holds are read once in a call: all that a slice has to look for may be among many of one worker.
local function has_slot(a, run, seq, s)
  local holds = a.holds[s.about]
  if not holds then
    holds = {}
    for _, value in ipairs(redis.call('HVALS', key_of.held(a.p, s.about))) do
      local call, _, other, number, attempt = parse_slot(value)
      if call then holds[table.concat({ call, other, number, tonumber(attempt) or '' }, ' ')] = true end
    end
    a.holds[s.about] = holds
  end
  return holds[table.concat({ s.call, run, seq, s.attempt }, ' ')]
end

local function audit_hold(a, run, seq, s)
  if not redis.call('ZSCORE', key_of.leases(a.p), s.about) then
    local what = 'step execution ' .. seq .. ' is held by worker ' .. s.about .. ', which is gone'
    breach(a, run, what, function()
      requeue(a.p, s.about, run, seq, s.attempt, s.call, a.now, 'lost', a.max_losses, a.retention)
    end)
  elseif not has_slot(a, run, seq, s) then
    -- Only its worker knows whether it is executing it, so it is not queued again.
    local what = 'step execution ' .. seq .. ' is not among the holds of its worker ' .. s.about
    breach(a, run, what, function()
      redis.call('HSET', key_of.held(a.p, s.about), 'x' .. run .. '.' .. seq, slot_value(s.call, 'o', run, seq, s.attempt))
    end)
  end
end

local function audit_timer(a, run, what, timer, due)
  if redis.call('ZSCORE', key_of.timers(a.p), timer) then return end
  breach(a, run, what, function() set_timer(a.p, a.now, tonumber(due) or a.now, timer) end)
end

local function audit_wait(a, run, seq, name, number, filter)
  local wait, mark = find_open(a.p, run, seq, name, number), seq .. '.' .. number
  local question = is_question(name) and redis.call('HGET', key_of.asked(a.p, run), mark)
  if not wait then
    breach(a, run, 'step execution ' .. seq .. ' waits for a signal ' .. name .. ' that would not reach it',
      function() open_wait(a.p, run, seq, number, name, -1, filter, question or '', a.now) end)
    return
  end
  if question and not redis.call('ZSCORE', key_of.questions(a.p), run .. ' ' .. mark) then
    breach(a, run, 'step execution ' .. seq .. ' asks a question that is not listed',
      function() redis.call('ZADD', key_of.questions(a.p), a.now, run .. ' ' .. mark) end)
  end
  local due = string.match(wait, '@(%d+)')
  if due ~= '0' then
    audit_timer(a, run, 'step execution ' .. seq .. ' waits for ' .. name .. ', whose deadline has no timer',
      deadline_timer(run, name, wait), due)
  end
end

local function audit_suspended(a, run, seq, s)
  for name, number, filter in suspended_by(s.about) do
    if is_recorded(a.p, run, seq, number) then
      breach(a, run, 'step execution ' .. seq .. ' has what it waited for and was not woken',
        function() wake(a.p, run, seq) end)
      return
    end
    audit_wait(a, run, seq, name, number, filter)
  end
end

local function audit_turn(a, run, meta, seq, step)
  local turns = key_of.turns(a.p, run, step)
  if not redis.call('LPOS', turns, seq) then
    breach(a, run, 'step execution ' .. seq .. ' waits for a turn that would not reach it', function()
      redis.call('RPUSH', turns, seq)
      redis.call('SADD', key_of.extra(a.p, run), turns)
    end)
  end
  if redis.call('HEXISTS', key_of.steps(a.p, run), 't' .. step) == 0 then
    breach(a, run, 'step ' .. step .. ' has executions that wait for a turn and none that has one', function()
      redis.call('HINCRBY', key_of.steps(a.p, run), 't' .. step, 1)
      pass_turn(a.p, run, meta, step, seq, a.now)
    end)
  end
end

mend_execution = function(a, run, meta, seq, line)
  local what = damage(line, redis.call('HGET', key_of.steps(a.p, run), 'e' .. seq), meta)
  if what then
    breach(a, run, 'step execution ' .. seq .. ' cannot be read: ' .. what .. ' is damaged',
      function() fail_damaged(a.p, run, seq, '-', a.now, what) end)
    return
  end
  local s, record = parse_state(line), redis.call('HGET', key_of.steps(a.p, run), 'e' .. seq)
  local group, step = parse_record(record or '')
  local _, closed = groups_of(key_of.steps(a.p, run), group or '0')
  if closed then
    -- A closed fan-out is discarded in slices, so this is no breach.
    if a.fix then redis.call('ZADD', key_of.timers(a.p), 'NX', a.now, 'close ' .. run .. ' ' .. closed .. ' 0') end
    return
  end
  if s.letter == 'T' then
    audit_turn(a, run, meta, seq, step)
  elseif s.letter == 'Q' then
    -- While the run is paused, claims read its entries without effect, so they need not exist.
    if a.is_paused then return end
    if is_queued(a, queue_of(meta), s.about) then return audit_ready(a, run, queue_of(meta), string.sub(s.about, 1, 1)) end
    breach(a, run, 'step execution ' .. seq .. ' is queued but missing from its queue',
      function() queue_again(a.p, meta, run, seq, s) end)
  elseif s.letter == 'H' then
    audit_hold(a, run, seq, s)
  elseif s.letter == 'W' then
    local timer = 'step ' .. run .. ' ' .. seq .. ' ' .. s.attempt
    audit_timer(a, run, 'step execution ' .. seq .. ' waits for a timer that is not set', timer, s.about)
  elseif s.letter == 'S' then
    audit_suspended(a, run, seq, s)
  end
end

mend_fan = function(a, run, meta, group, place)
  -- The timer `close` discards the rest of a closed fan-out.
  if not groups_of(key_of.steps(a.p, run), group) then return end
  if a.is_paused or redis.call('EXISTS', key_of.fan(a.p, run, group)) == 0 then return end
  if is_queued(a, queue_of(meta), place) then return audit_ready(a, run, queue_of(meta), string.sub(place, 1, 1)) end
  breach(a, run, 'the next branches of fan-out ' .. group .. ' are not in their queue',
    function() queue_fan(a.p, meta, run, group) end)
end

local function fail_audited(a, run, what)
  breach(a, run, what, function()
    fail_run(a.p, { run = run, seq = 0, attempt = 0, step = '-', worker = '-', now = a.now },
      'the run cannot go on: ' .. what .. '; start it again', a.retention)
  end)
end

local GONE = {
  asked = 'questions that it asks', children = 'its child runs', undo = 'its compensations',
  fan = 'branches of a fan-out that were not begun', joined = 'events that waited to be joined',
  journal = 'the records of a step', signals = 'signals that waited to be taken',
}

-- Names state that is lost for good, without which the run must not continue.
lost_for_good = function(p, run, steps)
  local version = redis.call('HMGET', steps, 'context', 'bare')
  if version[1] and version[1] ~= version[2] and redis.call('EXISTS', key_of.context(p, run)) == 0 then
    return 'its context is gone'
  end
  for _, list in ipairs(extra_of(p, run)) do
    local group = string.match(list, ':fan:.+:(%d+)$')
    -- The worker stages uncommitted branches again.
    local needed = not group or redis.call('HEXISTS', steps, 'f' .. group) == 1
    -- The states of the step executions show which of them wait for a turn.
    if string.find(list, ':turns:' .. run .. ':', 1, true) then needed = false end
    -- At worst, followers get an event twice.
    if string.find(list, ':published:' .. run .. ':', 1, true) then needed = false end
    if needed and redis.call('EXISTS', list) == 0 then return GONE[string.match(list, '}:(%a+):')] .. ' are gone' end
  end
  return nil
end

-- Audits the run hash. If it is missing, only the steps hash still describes the run.
local function audit_run_hash(a, run, steps)
  if redis.call('EXISTS', key_of.run(a.p, run)) == 1 then return end
  breach(a, run, 'its hash with its status is gone', function()
    local workflow, version, content = string.match(redis.call('HGET', steps, 'meta'), '^(%S+) (%S+) (%S+)')
    local first = redis.call('LINDEX', key_of.history(a.p, run), 0) or redis.call('HGET', steps, 'born')
    local held = redis.call('HGET', steps, 'paused')
    local status = held and held ~= sessions.IN_LINE and 'paused' or 'running'
    redis.call('HSET', key_of.run(a.p, run), 'status', status, 'workflow', workflow, 'version', version,
      'content', content, 'created', first and string.match(first, '^%d+') or a.now)
  end)
end

-- Whether the step execution takes the run's input.
local function needs_input(record)
  local _, _, flags = parse_record(record)
  return string.find(flags, 'i', 1, true)
end

local function audit_index(a, run)
  if redis.call('ZSCORE', key_of.runs(a.p), run) then return end
  local created = redis.call('HGET', key_of.run(a.p, run), 'created')
  if created then
    breach(a, run, 'it is not in the list of runs', function() redis.call('ZADD', key_of.runs(a.p), created, run) end)
  end
end

local function audit_timeout(a, run)
  local deadline = redis.call('HGET', key_of.run(a.p, run), 'deadline')
  if deadline then audit_timer(a, run, 'its timeout is not set', 'timeout ' .. run, tonumber(deadline) or a.now) end
end

local function audit_queue_list(a, run, queue)
  for lane, kind in pairs(LANES) do
    local is_served, name = read_up_to(a, lane_key(a.p, lane, queue)), kind .. ':' .. queue
    if is_served and redis.call('SISMEMBER', key_of.queues(a.p), name) == 0 then
      breach(a, run, name .. ' is not in the list of queues', function() redis.call('SADD', key_of.queues(a.p), name) end)
    end
  end
end

-- A run of a session must be in the session's line.
local function audit_place(a, run)
  local name = redis.call('HGET', key_of.run(a.p, run), 'session')
  if not name then return end
  local session, line, steps = key_of.session(a.p, name), key_of.line(a.p, name), key_of.steps(a.p, run)
  if redis.call('SISMEMBER', key_of.extra(a.p, run), session) == 0 then
    breach(a, run, 'session ' .. name .. ' would not learn of its end',
      function() redis.call('SADD', key_of.extra(a.p, run), session) end)
  end
  local found, is_there = redis.call('HMGET', steps, 'paused', '1'), redis.call('LPOS', line, run)
  if not sessions.is_in_line(found[1]) then
    local running = redis.call('HGET', session, 'running')
    if not running then
      breach(a, run, 'session ' .. name .. ' does not know that it is its turn', function() sessions.take(a.p, run, name) end)
    end
    if not is_there and (not running or running == run) then
      breach(a, run, 'it is not in the line of session ' .. name, function() redis.call('LPUSH', line, run) end)
    end
    return
  end
  local first = parse_state(found[2])
  if is_there then return end
  if first.letter == 'W' and first.attempt == 0 then
    return audit_timer(a, run, 'it would never take its place in session ' .. name, 'line ' .. run, first.about)
  end
  breach(a, run, 'it is not in the line of session ' .. name, function() redis.call('RPUSH', line, run) end)
end

-- A live run must have the session's turn, or the session must have a timer to expire.
local function audit_session(a, kind, name)
  local session, line, told = key_of.session(a.p, name), key_of.line(a.p, name), 'session ' .. name
  local has_hash, has_line = redis.call('EXISTS', session) == 1, redis.call('EXISTS', line) == 1
  if kind == 'line' and has_hash or kind == 'shared' and (has_hash or has_line) then return end
  local run = redis.call('HGET', session, 'running') or redis.call('LINDEX', line, 0)
  if not run then
    local due = tonumber(redis.call('HGET', session, 'expires') or '') or a.now + a.retention
    if redis.call('ZSCORE', key_of.timers(a.p), told) then return end
    if report(a, told, 'it would never expire') then sessions.rest(a.p, name, a.now, due) end
    return
  end
  local found = redis.call('HMGET', key_of.steps(a.p, run), 'meta', 'paused')
  if found[1] and not sessions.is_in_line(found[2]) then return end
  local what = found[1] and 'the turn of run ' .. run .. ' has come, and it is held back' or 'run ' .. run .. ', whose turn it is, is not under way'
  if report(a, told, what) then
    redis.call('HDEL', session, 'running')
    sessions.go_on(a.p, name, a.now, a.now + a.retention)
  end
end

local function audit_live(a, run, cursor_at)
  local steps = key_of.steps(a.p, run)
  if cursor_at == '0' then
    audit_run_hash(a, run, steps)
    -- First, since the other repairs write to the history.
    if redis.call('EXISTS', key_of.history(a.p, run)) == 0 and redis.call('HEXISTS', steps, 'born') == 0 then
      breach(a, run, 'its history is gone', function() end)
    end
    audit_index(a, run)
    audit_timeout(a, run)
    audit_place(a, run)
    audit_queue_list(a, run, queue_of(redis.call('HGET', steps, 'meta')))
    local lost = lost_for_good(a.p, run, steps)
    if lost then
      fail_audited(a, run, lost)
      return '0'
    end
  end
  a.is_paused = redis.call('HEXISTS', steps, 'paused') == 1
  local meta, inputless = redis.call('HGET', steps, 'meta'), redis.call('EXISTS', key_of.input(a.p, run)) == 0
  local slice = redis.call('HSCAN', steps, cursor_at, 'COUNT', LIMIT.SLICE)
  for i = 1, #slice[2], 2 do
    local field, value = slice[2][i], slice[2][i + 1]
    local group = string.match(field, '^q(%d+)$')
    if string.find(field, '^%d+$') then
      mend_execution(a, run, meta, field, value)
    elseif group then
      mend_fan(a, run, meta, group, value)
    elseif inputless and string.find(field, '^e%d+$') and needs_input(value) then
      fail_audited(a, run, 'its input is gone')
    end
    -- A repair may have ended the run.
    if redis.call('EXISTS', steps) == 0 then return '0' end
  end
  return slice[1]
end

local function audit_run(a, run, cursor_at)
  local steps = key_of.steps(a.p, run)
  if redis.call('HEXISTS', steps, 'meta') == 1 then return audit_live(a, run, cursor_at) end
  local found = redis.call('HMGET', key_of.run(a.p, run), 'status', 'expires')
  local status = found[1]
  if not status then return '0' end
  audit_index(a, run)
  if status == 'queued' or status == 'running' or status == 'paused' then
    fail_audited(a, run, 'its step executions are gone')
  else
    audit_timer(a, run, 'it has ended and would never expire', 'expire ' .. run, found[2] or a.now + a.retention)
  end
  return '0'
end

-- Audits a key of a run, which must be removed with the run. The run may be gone already.
local function audit_part(a, kind, name)
  local run = name
  if kind == 'fan' then run = string.match(name, '^(.+):%d+$') or name end
  if kind == 'journal' or kind == 'published' then run = string.match(name, '^(.+):%d+$') or name end
  if kind == 'signals' or kind == 'turns' then run = string.match(name, '^(.+):[^:]+$') or name end
  if kind == 'joined' then run = string.match(name, '^(.+):%d+:[^:]+$') or name end
  local key, extra = a.p .. kind .. ':' .. name, key_of.extra(a.p, run)
  if redis.call('EXISTS', key_of.run(a.p, run), key_of.steps(a.p, run)) == 0 then
    -- Signals may come before a worker serves the run.
    if redis.call('HEXISTS', key_of.deferred(a.p), run) == 1 then return end
    if redis.call('EXISTS', key) == 0 then return end
    if report(a, run, 'its ' .. kind .. ' was left behind') then redis.call('UNLINK', key) end
  elseif run ~= name and redis.call('EXISTS', key) == 1 and redis.call('SISMEMBER', extra, key) == 0 then
    breach(a, run, 'its ' .. kind .. ' would be left behind', function() redis.call('SADD', extra, key) end)
  end
end

-- Claims and wake-ups find the queues that a worker serves by its class.
local function audit_class(a, worker)
  local about = redis.call('HMGET', key_of.worker(a.p, worker), 'queues', 'class')
  for queue in string.gmatch(about[2] and about[1] or '', '%S+') do
    local serves, classes = key_of.serves(a.p, about[2]), key_of.classes(a.p, queue)
    local is_known = redis.call('SISMEMBER', serves, queue) == 1 and redis.call('SISMEMBER', classes, about[2]) == 1
    if not is_known and report(a, worker, 'the worker would receive nothing from the queue ' .. queue) then
      redis.call('SADD', serves, queue)
      redis.call('SADD', classes, about[2])
    end
  end
end

local function audit_worker(a, worker)
  local held, about = key_of.held(a.p, worker), key_of.worker(a.p, worker)
  if redis.call('ZSCORE', key_of.leases(a.p), worker) then return audit_class(a, worker) end
  if redis.call('EXISTS', held, about) == 0 then return end
  if report(a, worker, 'the worker has no lease, and its holds were left behind') then
    reap_worker(a.p, worker, a.now, 'lost', LIMIT.SLICE, a.max_losses, a.retention)
  end
end

audit = function(p, given)
  local a, kind, name, cursor_at = new_audit(p, given), given.kind, given.name, given.cursor_at
  local next_at = '0'
  if kind == 'run' or kind == 'steps' and redis.call('EXISTS', key_of.run(p, name)) == 0 then
    next_at = audit_run(a, name, cursor_at)
  elseif kind == 'session' or kind == 'line' or kind == 'shared' then
    audit_session(a, kind, name)
  elseif kind == 'held' or kind == 'worker' and redis.call('EXISTS', key_of.held(p, name)) == 0 then
    audit_worker(a, name)
  elseif kind ~= 'steps' and kind ~= 'worker' then
    audit_part(a, kind, name)
  end
  return { next_at, a.found }
end
end
