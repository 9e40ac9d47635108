-- retry: continues a failed run from where it failed. Its steps hash, which `finish` put out of reach, is unchanged;
-- timers and queue entries that came due since are gone, and are created again from it: the first slice at once, the
-- rest by a timer.

local retry
do -- a chunk of Lua has at most 200 locals

-- Sets the timers again for deadlines of waits, turns to pass on, and closed fan-outs to discard.
local function renew_timers(p, run, meta, fields, has_closed, now)
  local steps, is_any_void = key_of.steps(p, run), false
  for _, at in ipairs(fields) do
    local field, value = at[1], at[2]
    local waited, step, group = string.match(field, '^w(.+)$'), string.match(field, '^u(.+)$'), string.match(field, '^f(%d+)$')
    if waited then
      for wait in string.gmatch(value, '%S+') do
        local due = string.match(wait, '@(%d+)')
        local mark = is_question(waited) and string.match(wait, '^[^@]+')
        if mark then redis.call('ZADD', key_of.questions(p), now, run .. ' ' .. mark) end
        if due and due ~= '0' then set_timer(p, now, tonumber(due), deadline_timer(run, waited, wait)) end
      end
    elseif step then
      redis.call('HDEL', steps, field)
      for _ = 1, tonumber(value) or 0 do pass_turn(p, run, meta, step, '0', now) end
    elseif has_closed and (group and not groups_of(steps, group) or string.find(field, '^%d+$') and is_void(steps, field, true)) then
      is_any_void = true
    end
  end
  if is_any_void then set_timer(p, now, now, 'close ' .. run .. ' 0 0') end
end

-- Requeues a held step execution, which fences its holder: that was told to drop it, or is gone.
local function take_back(p, run, meta, seq, s, now)
  local record = redis.call('HGET', key_of.steps(p, run), 'e' .. seq)
  local what = damage(state_line('Q', s, 'q0-0'), record, meta)
  if what then return fail_damaged(p, run, seq, '-', now, what) end
  if not groups_of(key_of.steps(p, run), (parse_head(record))) then return end
  tell_followers(p, run, meta, 'waiting', seq, s.attempt, '-', record)
  queue_again(p, meta, run, seq, s)
end

-- The numbers of the fields named with this letter and a number, in order.
local function numbered(fields, letter)
  local found = {}
  for _, at in ipairs(fields) do
    local number = string.match(at[1], '^' .. letter .. '(%d+)$')
    if number then found[#found + 1] = { number, at[2] } end
  end
  table.sort(found, function(a, b) return tonumber(a[1]) < tonumber(b[1]) end)
  return found
end

-- Restores one slice. Step executions claimed after `since`, when the run was retried, are executing and left alone.
local function go_on(p, run, cursor, since, now)
  local steps, fields = key_of.steps(p, run), {}
  local meta = redis.call('HGET', steps, 'meta')
  if not meta then return end
  repeat
    local slice = redis.call('HSCAN', steps, cursor, 'COUNT', LIMIT.AGAIN_SLICE / 4)
    cursor = slice[1]
    for i = 1, #slice[2], 2 do fields[#fields + 1] = { slice[2][i], slice[2][i + 1] } end
  until cursor == '0' or #fields >= LIMIT.AGAIN_SLICE
  local has_closed = redis.call('HEXISTS', steps, 'closed') == 1
  renew_timers(p, run, meta, fields, has_closed, now)
  local a, executions = quiet_audit(p, now), numbered(fields, '')
  -- The run waits for its turn in its session.
  a.is_paused = redis.call('HEXISTS', steps, 'paused') == 1
  for _, at in ipairs(executions) do
    local s = parse_state(at[2])
    local is_earlier = s.letter == 'H' and tonumber(s.since) and tonumber(s.since) <= since
    -- `begin_anew` has already queued the failed one.
    if is_earlier and redis.call('HGET', steps, at[1]) == at[2] then take_back(p, run, meta, at[1], s, now) end
  end
  for _, at in ipairs(executions) do
    local line = redis.call('HGET', steps, at[1])
    local letter = line and parse_state(line).letter
    if line and letter ~= 'H' and not is_void(steps, at[1], has_closed) then mend_execution(a, run, meta, at[1], line) end
    -- `mend_execution` may have ended the run, if a step execution was damaged.
    if redis.call('EXISTS', steps) == 0 then return end
  end
  for _, at in ipairs(numbered(fields, 'q')) do mend_fan(a, run, meta, at[1], at[2]) end
  if cursor ~= '0' then set_timer(p, now, now, 'again ' .. run .. ' ' .. cursor .. ' ' .. since) end
end

fire_again = function(p, run, cursor, since, now)
  go_on(p, run, cursor, since, now)
end

-- Why the failed step execution cannot take this event; nil if it can.
local function misfit(stopped, seq, meta, payload)
  local record = seq and redis.call('HGET', stopped, 'e' .. seq)
  local _, flags = parse_head(record or '')
  if not flags then return 'no step is recorded as failed, so no step can take another event' end
  if string.find(flags, '[jt]') then return 'the step that failed was given several events, and another event cannot replace them' end
  local content = string.match(meta, '^%S+ %S+ (%S+)')
  if string.find(flags, 'i', 1, true) and content ~= (string.byte(payload) == 1 and 'msgpack' or 'json') then
    return 'the step that failed takes the input of the run, which is encoded as ' .. content
  end
  return nil
end

local function give(p, run, seq, payload)
  local steps = key_of.steps(p, run)
  local record = redis.call('HGET', steps, 'e' .. seq)
  local _, flags = parse_head(record)
  if string.find(flags, 'i', 1, true) then return redis.call('SET', key_of.input(p, run), string.sub(payload, 2)) end
  redis.call('HSET', steps, 'e' .. seq, string.match(record, '^[^\n]*\n') .. payload)
end

-- Why the run cannot continue.
local function objection(p, run, event)
  local stopped = key_of.stopped(p, run)
  local found = redis.call('HMGET', stopped, 'meta', 'failed')
  if not found[1] or damage('T 0 0 0 turn', '0 s - e\n', found[1]) then return 'none of its state is left to continue with' end
  if redis.call('EXISTS', key_of.input(p, run)) == 0 then return 'its input is gone' end
  return lost_for_good(p, run, stopped) or event and misfit(stopped, string.match(found[2] or '', '^%d+'), found[1], event)
end

-- Restarts the retry policy of the failed step execution, and those of the calls it failed with.
local function begin_anew(p, run, meta, seq, forget, now)
  local steps, journal = key_of.steps(p, run), key_of.journal(p, run, seq)
  chunked('HDEL', journal, forget)
  if redis.call('HDEL', journal, 'began', 'error') + #forget > 0 and redis.call('EXISTS', journal) == 0 then
    redis.call('SREM', key_of.extra(p, run), journal)
  end
  local s = parse_state(redis.call('HGET', steps, seq))
  if s.letter ~= 'H' then return end
  s.failures, s.losses, s.shared = 0, 0, 0
  take_back(p, run, meta, seq, s, now)
end

-- Takes back the published end: the next publication reuses its number.
local function unpublish_end(p, run)
  local key, steps = key_of.events(p, run), key_of.steps(p, run)
  if redis.call('HEXISTS', steps, 'events') == 0 then return end
  local last = redis.pcall('XREVRANGE', key, '+', '-', 'COUNT', 1)
  if last.err or not last[1] or last[1][2][4] ~= 'end' then return end
  redis.call('XDEL', key, last[1][1])
  redis.call('HINCRBY', steps, 'events', -1)
end

local function revive(p, run, now, about, session)
  local key, status, timeout = key_of.run(p, run), about[2] and 'running' or 'queued', tonumber(about[3] or '')
  redis.call('RENAME', key_of.stopped(p, run), key_of.steps(p, run))
  redis.call('HDEL', key, 'finished', 'expires', 'error', 'error_step', 'error_attempt')
  -- If the run was paused when it failed, its retry also resumes it.
  redis.call('HDEL', key_of.steps(p, run), 'paused')
  if session then redis.call('HSET', key_of.steps(p, run), 'paused', sessions.IN_LINE) end
  redis.call('HSET', key, 'status', status)
  redis.call('ZREM', key_of.timers(p), 'expire ' .. run)
  redis.call('ZREM', key_of.cancelled(p), run)
  if session then
    redis.call('HDEL', key, 'deadline')
  elseif timeout then
    redis.call('HSET', key, 'deadline', now + timeout)
    set_timer(p, now, now + timeout, 'timeout ' .. run)
  end
  unpublish_end(p, run)
end

retry = function(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  if across.is_repeated(p, a) then return { 'repeated' } end
  local now, event, stands, run = now_ms(), a.event[1], standing(p, a.asked)
  local about = redis.call('HMGET', key_of.run(p, run), 'status', 'started', 'timeout', 'error_step', 'error_attempt', 'session')
  local session = about[6]
  if about[1] == 'paused' then return { 'paused' } end
  local undone = stands == 'over' and kin.retry_undo(p, run, now) or nil
  if stands == 'over' and not undone then
    across.settle_request(p, a, 'taken')
    note(p, run, now, 'retried', 0, 0, '-', '-')
    return { 'retried' }
  end
  if stands == 'over' and undone ~= '' then return { 'refused', undone } end
  if stands ~= 'over' or about[1] ~= 'failed' then return { stands } end
  local why = objection(p, run, event) or session and sessions.is_full(p, session) and sessions.why_full(session)
  if why then return { 'refused', why } end
  across.settle_request(p, a, 'taken')
  revive(p, run, now, about, session)
  local steps = key_of.steps(p, run)
  local found = redis.call('HMGET', steps, 'meta', 'failed')
  local meta, forget = found[1], {}
  for number in string.gmatch(found[2] or '', '%d+') do forget[#forget + 1] = number end
  local seq = table.remove(forget, 1)
  note(p, run, now, 'retried', seq or 0, about[5] or 0, about[4] or '-', '-', event and 'with another event' or '')
  redis.call('HDEL', steps, 'failed')
  if event then give(p, run, seq, event) end
  if a.reply ~= '' then receipts.follow(p, run, a.reply) end
  if seq then begin_anew(p, run, meta, seq, forget, now) end
  go_on(p, run, '0', now, now)
  if session then sessions.join(p, run, session, now, 0) end
  return { 'retried' }
end
end
