-- fork: creates a run that continues from a point of another. Only the history of the other changes. A fork from the
-- start of a run has its input, its initial context, and the chosen entries of its first step's journal; a fork from a
-- step execution has that one alone, with the current context. forkable: returns what the caller needs to know first.

local forkable, fork
do -- a chunk of Lua has at most 200 locals

-- The steps hash of a run that is live, failed or cancelled.
local function kept_steps(p, run)
  for _, key in ipairs({ key_of.steps(p, run), key_of.stopped(p, run) }) do
    if redis.call('EXISTS', key) == 1 then return key end
  end
end

-- The number and step of each live step execution, up to as many as an answer names.
local function live_in(steps)
  local found, last = {}, tonumber(redis.call('HGET', steps, 'last')) or 0
  for seq = 1, math.min(last, LIMIT.FORK_LOOKS) do
    local _, step = parse_record(redis.call('HGET', steps, 'e' .. seq) or '')
    if step and #found < 2 * LIMIT.NAMED_STEPS then
      found[#found + 1] = tostring(seq)
      found[#found + 1] = step
    end
  end
  return found
end

local function refusal_of(p, run, steps, seq, record)
  local group, _, flags = parse_record(record)
  if not group then return 'its event in Redis is damaged' end
  if group ~= '0' then return 'step execution ' .. seq .. ' is a branch of a fan-out, and its join would wait for the other branches for ever' end
  if string.find(flags, 'i', 1, true) and redis.call('EXISTS', key_of.input(p, run)) == 0 then return 'its input is gone' end
  return lost_for_good(p, run, steps)
end

-- The requested point: `start` or `step`, number, record; or `several` and which, or `refused` and why.
local function find_point(p, run, asked)
  local steps, began_at = kept_steps(p, run), redis.call('HGET', key_of.run(p, run), 'forked_at')
  local found, seq = steps and redis.call('HMGET', steps, 'last', 'failed') or {}, asked
  if seq == '' and (not steps or found[1] == '1') then
    seq = began_at or '1'
  elseif seq == '' and found[2] then
    seq = string.match(found[2], '^%d+')
  elseif seq == '' then
    local live = live_in(steps)
    if #live ~= 2 then return 'several', live end
    seq = tostring(live[1])
  end
  local record = steps and redis.call('HGET', steps, 'e' .. seq)
  if seq == '1' and not began_at and (found[1] == '1' or not record) then
    if redis.call('EXISTS', key_of.input(p, run)) == 0 then return 'refused', 'its input is gone' end
    return 'start', seq
  end
  if record then
    local why = refusal_of(p, run, steps, seq, record)
    if why then return 'refused', why end
    return 'step', seq, record
  end
  if began_at and seq == began_at then
    return 'refused', 'it began as a fork from step execution ' .. seq .. ', which has committed: its event is not kept'
  end
  return 'refused', 'step execution ' .. seq .. ' has committed or never existed, so its event is not kept; '
    .. 'fork from one that has not ended, from the one that failed, or from the first'
end

-- What the body has recorded at that point. For a start, nothing once other step executions have followed.
local function entries_at(p, run, kind, seq)
  local steps = kept_steps(p, run)
  if kind == 'start' and steps and redis.call('HGET', steps, 'last') ~= '1' then return {} end
  return redis.call('HGETALL', key_of.journal(p, run, seq))
end

local function head_of(entry)
  return string.match(entry, '^[^\n]*')
end

forkable = function(p, a)
  local stands, run = standing(p, a.asked)
  if stands == 'unknown' or stands == 'waiting' then return { stands } end
  local about = redis.call('HMGET', key_of.run(p, run), 'status', 'workflow', 'version')
  if about[1] == 'rejected' then return { 'refused', 'its request was rejected' } end
  local kind, seq, record = find_point(p, run, a.seq)
  if kind == 'several' or kind == 'refused' then return { kind, seq } end
  local _, step = parse_record(record or '')
  local heads, entries = {}, entries_at(p, run, kind, seq)
  for i = 1, #entries, 2 do
    if string.find(entries[i], '^%d+$') then
      heads[#heads + 1] = entries[i]
      heads[#heads + 1] = head_of(entries[i + 1])
    end
  end
  return { kind, seq, step or '-', about[2], about[3], heads }
end

-- Whether the source's entries differ from those that the caller read: an entry never changes, except that of a wait.
local function has_changed(p, run, kind, seq, entries)
  if #entries == 0 then return false end
  local found, known = entries_at(p, run, kind, seq), {}
  for i = 1, #found, 2 do known[found[i]] = head_of(found[i + 1]) end
  for i = 1, #entries, 3 do
    if entries[i + 1] ~= '' and known[entries[i]] ~= entries[i + 1] then return true end
  end
  return false
end

-- Copies journal entries: number, head, and the head it gets in the copy.
local function copy_entries(p, run, new, seq, entries)
  if #entries == 0 then return end
  local from, to = key_of.journal(p, run, seq), key_of.journal(p, new, seq)
  for i = 1, #entries, 3 do
    local entry = entries[i + 1] ~= '' and redis.call('HGET', from, entries[i]) or '\n'
    redis.call('HSET', to, entries[i], entries[i + 2] .. string.sub(entry, #entries[i + 1] + 1))
  end
  redis.call('SADD', key_of.extra(p, new), to)
  -- A first attempt would get no journal, so the fork begins with the second.
  local steps = key_of.steps(p, new)
  local s = parse_state(redis.call('HGET', steps, seq))
  s.attempt = 1
  redis.call('HSET', steps, seq, state_line(s.letter, s, s.about))
end

-- Copies what the step execution depends on besides its event: joined events, incomplete sets and buffers.
local function copy_joined(p, run, new, record)
  local _, step, flags, _, payload = parse_record(record)
  local group = string.find(flags, 'j', 1, true) and string.match(payload, '^(%d+)')
  local start = key_of.joined(p, run, '', '')
  start = string.sub(start, 1, -2)
  for _, key in ipairs(extra_of(p, run)) do
    local rest = string.sub(key, 1, #start) == start and string.sub(key, #start + 1)
    if rest and (string.sub(rest, 1, 2) == '0:' or rest == (group or '') .. ':' .. step) then
      local copy = string.sub(key_of.joined(p, new, '', ''), 1, -2) .. rest
      redis.call('COPY', key, copy)
      redis.call('SADD', key_of.extra(p, new), copy)
    end
  end
end

local function misfit(content, event, record)
  local _, _, flags = parse_record(record or '0 s i e\n')
  if string.find(flags, '[jt]') then return 'the step execution was given several events, and another event cannot replace them' end
  if string.find(flags, 'i', 1, true) and content ~= (string.byte(event) == 1 and 'msgpack' or 'json') then
    return 'it takes the input of the run, which is encoded as ' .. content
  end
  return nil
end

-- Creates the run hash, input and context. Returns the description.
local function begin_run(p, run, new, a, about, seq, now)
  local key, is_step, event = key_of.run(p, new), a.point == 'step', a.event[1]
  redis.call('HSET', key, 'status', is_step and 'running' or 'queued', 'workflow', about[2], 'version', about[3], 'content', about[4],
    'created', now, 'forked', run)
  if is_step then redis.call('HSET', key, 'started', now, 'forked_at', seq) end
  redis.call('COPY', key_of.input(p, run), key_of.input(p, new), 'REPLACE')
  if event and not is_step then redis.call('SET', key_of.input(p, new), string.sub(event, 2)) end
  local context = key_of.context(p, new)
  redis.call('UNLINK', context, key_of.begun(p, new))
  redis.call('COPY', is_step and key_of.context(p, run) or key_of.begun(p, run), context)
  redis.call('COPY', context, key_of.begun(p, new))
  redis.call('ZADD', key_of.runs(p), now, new)
  local steps = kept_steps(p, run)
  local is_followed = steps and follows(redis.call('HGET', steps, 'meta'))
  if about[5] then redis.call('HSET', key, 'durability', about[5]) end
  return about[2] .. ' ' .. about[3] .. ' ' .. about[4] .. (about[5] and ' ' .. about[5] or '') .. (is_followed and ' follow' or '')
end

local function begin_steps(p, run, new, a, meta, seq, record, now)
  local is_step, event = a.point == 'step', a.event[1]
  local records, first = a.records, 1
  if is_step then
    local _, _, flags = parse_record(record)
    if event and string.find(flags, 'i', 1, true) then
      redis.call('SET', key_of.input(p, new), string.sub(event, 2))
    elseif event then
      record = string.match(record, '^[^\n]*\n') .. event
    end
    records, first = { record }, tonumber(seq)
  end
  local about = { 'meta', meta, 'last', first + #records - 1, 'n0', #records }
  if redis.call('EXISTS', key_of.context(p, new)) == 1 then about[#about + 1], about[#about + 2] = 'context', 1 end
  if redis.call('RPUSHX', key_of.history(p, new), start_record(now, meta)) == 0 then
    about[#about + 1], about[#about + 2] = 'born', now
  end
  if a.timeout >= 0 then
    local due = now + a.timeout
    redis.call('HSET', key_of.run(p, new), 'timeout', a.timeout, 'deadline', due)
    about[#about + 1], about[#about + 2] = 'limited', 1
    set_timer(p, now, due, 'timeout ' .. new)
  end
  if is_step then copy_joined(p, run, new, record) end
  create(p, new, meta, first, records, nil, about)
  copy_entries(p, run, new, seq, a.entries)
end

fork = function(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  if across.is_repeated(p, a) then return { 'repeated' } end
  local now, new, stands, run = now_ms(), a.fork, standing(p, a.asked)
  if stands == 'unknown' or stands == 'waiting' then return { stands } end
  local about = redis.call('HMGET', key_of.run(p, run), 'status', 'workflow', 'version', 'content', 'durability')
  if about[1] == 'rejected' then return { 'refused', 'its request was rejected' } end
  local there = redis.call('HMGET', key_of.run(p, new), 'status', 'forked')
  if there[1] and there[2] == run then
    across.settle_request(p, a, 'taken', new, true)
    return { 'exists' }
  end
  local leads = redis.call('EXISTS', key_of.alias(p, new)) == 1 or redis.call('HEXISTS', key_of.deferred(p), new) == 1
  if leads or there[1] and there[1] ~= 'rejected' then return { 'taken' } end
  local kind, seq, record = find_point(p, run, a.seq)
  if kind == 'refused' then return { kind, seq } end
  if kind ~= a.point or seq ~= a.seq or has_changed(p, run, kind, seq, a.entries) then return { 'changed' } end
  local why = a.event[1] and misfit(about[4], a.event[1], record)
  if why then return { 'refused', why } end
  if there[1] then
    forget(p, new, true)
    redis.call('ZREM', key_of.timers(p), 'expire ' .. new)
  end
  local meta = begin_run(p, run, new, a, about, seq, now)
  begin_steps(p, run, new, a, meta, seq, record, now)
  across.settle_request(p, a, 'taken', new)
  local at = a.call ~= '' and ' at call ' .. a.call or ''
  local _, step = parse_record(redis.call('HGET', key_of.steps(p, new), 'e' .. seq) or '')
  note(p, new, now, 'forked', seq, 0, step or '-', '-', 'from ' .. run .. at)
  note(p, run, now, 'forked', seq, 0, step or '-', '-', 'to ' .. new .. at)
  return { 'forked' }
end
end
