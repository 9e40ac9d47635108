-- checkpoint: what a step that goes on has come to so far. suspend: a step that waits holds no worker until what it
-- waits for is in its journal.
--
-- `journal:<run>:<seq>` has what the body of a step execution has recorded, by the number of the call that recorded it.
-- A wait is a number without an entry yet; the field `w<name>` of the steps hash lists those open for signals of that
-- name, oldest first, as `<seq>.<number>@<deadline, 0 for none>`.

local MAX_SIGNALS = 1000 -- that wait for a wait, per run and name
local MAX_WAITS = 1000 -- per run and name
local MAX_ENTRIES = 10000 -- per step execution

local function signals_key(p, run, name)
  return p .. 'signals:' .. run .. ':' .. name
end

local function record_entry(p, run, seq, number, payload)
  local key = p .. 'journal:' .. run .. ':' .. seq
  redis.call('HSET', key, number, payload)
  redis.call('SADD', p .. 'extra:' .. run, key)
end

local function is_recorded(p, run, seq, number)
  return redis.call('HEXISTS', p .. 'journal:' .. run .. ':' .. seq, number) == 1
end

local function deadline_timer(run, name, wait)
  return 'wait ' .. run .. ' ' .. name .. ' ' .. wait
end

-- Takes one wait off the list of its name. False where it is not on it.
local function close_wait(steps, name, wait)
  local left, found = {}, false
  for open in string.gmatch(redis.call('HGET', steps, 'w' .. name) or '', '%S+') do
    if open == wait then found = true else left[#left + 1] = open end
  end
  if not found then return false end
  if #left == 0 then
    redis.call('HDEL', steps, 'w' .. name)
  else
    redis.call('HSET', steps, 'w' .. name, table.concat(left, ' '))
  end
  return true
end

-- The wait as it stands on the list of its name.
local function find_open(p, run, seq, name, number)
  local open = redis.call('HGET', p .. 'steps:' .. run, 'w' .. name) or ''
  return string.match(' ' .. open, ' (' .. seq .. '%.' .. number .. '@%S+)')
end

local function take_signal(p, run, name)
  local key = signals_key(p, run, name)
  local payload = redis.call('LPOP', key)
  if payload and redis.call('EXISTS', key) == 0 then redis.call('SREM', p .. 'extra:' .. run, key) end
  return payload
end

-- A signal that came before its wait ends it at once.
local function open_wait(p, run, seq, number, name, deadline, now)
  local steps, mark = p .. 'steps:' .. run, seq .. '.' .. number .. '@'
  local open = redis.call('HGET', steps, 'w' .. name) or ''
  if is_recorded(p, run, seq, number) or string.find(' ' .. open, ' ' .. mark, 1, true) then return end
  local payload = take_signal(p, run, name)
  if payload then return record_entry(p, run, seq, number, payload) end
  local due = tonumber(deadline) >= 0 and now + deadline or 0
  local wait = mark .. due
  redis.call('HSET', steps, 'w' .. name, open == '' and wait or open .. ' ' .. wait)
  if due > 0 then redis.call('ZADD', p .. 'timers', due, deadline_timer(run, name, wait)) end
end

local function is_too_much(p, run, seq, entries, waits)
  if redis.call('HLEN', p .. 'journal:' .. run .. ':' .. seq) + #entries / 2 + #waits / 3 > MAX_ENTRIES then return true end
  for i = 1, #waits, 3 do
    local _, open = string.gsub(redis.call('HGET', p .. 'steps:' .. run, 'w' .. waits[i + 1]) or '', '%S+', '')
    if open + #waits / 3 > MAX_WAITS then return true end
  end
  return false
end

local function checkpoint(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, run, seq, attempt, claim, mark = arg(), arg(), arg(), arg(), arg(), arg()
  local c = { set = take(arg), unset = take(arg) }
  local entries, waits = take(arg), take(arg)
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'm' .. seq)
  local s = parse_state(found[1])
  if not holds(s, attempt, worker, claim) then return { 'fenced' } end
  -- What was done by an earlier try is not done again; others may have written the same fields since.
  local made = attempt .. '.' .. claim .. '.' .. mark
  if mark ~= '' and found[2] == made then return { 'ok' } end
  if entries[1] and is_recorded(p, run, seq, entries[1]) then return { 'ok' } end
  if is_too_much(p, run, seq, entries, waits) then return { 'full' } end
  write_context(p, run, c)
  if mark ~= '' then redis.call('HSET', steps, 'm' .. seq, made) end
  for i = 1, #entries, 2 do record_entry(p, run, seq, entries[i], entries[i + 1]) end
  for i = 1, #waits, 3 do open_wait(p, run, seq, waits[i], waits[i + 1], waits[i + 2], now) end
  return { 'ok' }
end

-- The step execution has what it waited for: it goes on wherever there is a worker.
local function wake(p, run, seq)
  local found = redis.call('HMGET', p .. 'steps:' .. run, seq, 'meta')
  local s = parse_state(found[1])
  if s.letter == 'S' then queue_again(p, found[2], run, seq, s) end
end

local function suspend(keys, argv)
  return under_fence(keys, argv, take, function(p, x, waits)
    local about = {}
    for i = 1, #waits, 2 do about[#about + 1] = waits[i + 1] .. '.' .. waits[i] end
    x.state.failed = x.attempt
    redis.call('HSET', p .. 'steps:' .. x.run, x.seq, state_line('S', x.state, table.concat(about, ',')))
    note(p, x.run, x.now, 'suspended', x.seq, x.attempt, x.step, x.worker, table.concat(about, ','))
    for i = 1, #waits, 2 do
      if is_recorded(p, x.run, x.seq, waits[i]) then
        wake(p, x.run, x.seq)
        return nil
      end
    end
    return nil
  end)
end

-- What `about` of a suspended step execution names is waited for no more.
close_waits = function(p, run, seq, about)
  for name, number in string.gmatch(about, '([^,]+)%.(%d+)') do
    local wait = find_open(p, run, seq, name, number)
    if wait and close_wait(p .. 'steps:' .. run, name, wait) then
      redis.call('ZREM', p .. 'timers', deadline_timer(run, name, wait))
    end
  end
end

-- The wait's time is over: an empty entry says so.
fire_deadline = function(p, timer, now)
  local run, name, wait = string.match(timer, '^wait (%S+) (%S+) (%S+)$')
  local seq, number = string.match(wait or '', '^(%d+)%.(%d+)@')
  if not seq or not close_wait(p .. 'steps:' .. run, name, wait) then return end
  note(p, run, now, 'overdue', seq, 0, '-', '-', name)
  record_entry(p, run, seq, number, '')
  wake(p, run, seq)
end
