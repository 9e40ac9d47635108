-- checkpoint: what a step that goes on has come to so far; it answers those of its waits that have ended. suspend: a step that waits holds no worker until what it
-- waits for is in its journal.
--
-- `journal:<run>:<seq>` has what the body of a step execution has recorded, by the number of the call that recorded it:
-- a letter and the call's name, a line feed, and what came of it. We write those that end a wait, and `x` where the body
-- has let go of one. A wait is a number without an entry yet; the field `w<name>` of the steps hash lists those open for
-- signals of that name, oldest first, as `<seq>.<number>@<deadline, 0 for none>`, with `~<filter>` where there is one.

local function record_entry(p, run, seq, number, entry)
  local key = key_of.journal(p, run, seq)
  redis.call('HSET', key, number, entry)
  redis.call('SADD', key_of.extra(p, run), key)
end

-- `due` is the deadline that the wait had, 0 for none: should the signal turn out to be none that the body can read, it waits on until then.
local function record_signal(p, run, seq, number, name, attributes, payload, due)
  local head = 'w' .. name .. ' ' .. attributes
  if tonumber(due) > 0 then head = head .. ' ' .. due end
  record_entry(p, run, seq, number, head .. '\n' .. payload)
end

-- The body cannot read these signals (number, name, digest of the entry, why, number, ...): they are told of and set aside, and their
-- waits may be opened again. Answers the deadlines that these had. A repetition finds other entries there.
local function set_aside(p, run, seq, unreadable, now)
  local dues, journal = {}, key_of.journal(p, run, seq)
  for i = 1, #unreadable, 4 do
    local number, name, digest, why = unpack(unreadable, i, i + 3)
    local entry = redis.call('HGET', journal, number)
    if entry and string.sub(entry, 1, 1) == 'w' and redis.sha1hex(entry) == digest then
      local due = string.match(string.sub(entry, 1, string.find(entry, '\n', 1, true) - 1), '^w%S* %S* (%d+)$')
      redis.call('HDEL', journal, number)
      note(p, run, now, 'unreadable', seq, 0, '-', '-', name .. ' ' .. why)
      dues[number] = tonumber(due or 0)
    end
  end
  -- Else it would count as lost.
  if #unreadable > 0 and redis.call('EXISTS', journal) == 0 then redis.call('SREM', key_of.extra(p, run), journal) end
  return dues
end

local function is_recorded(p, run, seq, number)
  return redis.call('HEXISTS', key_of.journal(p, run, seq), number) == 1
end

local function deadline_timer(run, name, wait)
  return 'wait ' .. run .. ' ' .. name .. ' ' .. wait
end

-- Sequence number, number, deadline and filter of an open wait.
local function parse_wait(wait)
  return string.match(wait, '^(%d+)%.(%d+)@(%d+)~?(%S*)$')
end

local function read_waits(steps, name)
  local waits = {}
  for wait in string.gmatch(redis.call('HGET', steps, 'w' .. name) or '', '%S+') do waits[#waits + 1] = wait end
  return waits
end

-- Keeps the waits that `is_kept` says; those that go lose their deadlines. Answers how many stay, and how many go.
local function keep_waits(p, run, name, is_kept)
  local steps, left, gone = key_of.steps(p, run), {}, {}
  for _, wait in ipairs(read_waits(steps, name)) do
    if is_kept(wait) then
      left[#left + 1] = wait
    else
      gone[#gone + 1] = deadline_timer(run, name, wait)
      if is_question(name) then close_question(p, run, string.match(wait, '^[^@]+')) end
      if kin.is_child(name) then kin.drop_child(p, run, string.match(wait, '^[^@]+')) end
    end
  end
  if #gone == 0 then return #left, 0 end
  chunked('ZREM', key_of.timers(p), gone)
  if #left == 0 then
    redis.call('HDEL', steps, 'w' .. name)
  else
    redis.call('HSET', steps, 'w' .. name, table.concat(left, ' '))
  end
  return #left, #gone
end

-- Takes one wait off the list of its name. False where it is not on it.
local function close_wait(p, run, name, wait)
  local _, gone = keep_waits(p, run, name, function(open) return open ~= wait end)
  return gone > 0
end

-- The step execution is there and has not ended, nor the fan-out that it is a branch of been closed.
local function is_waiting(steps, seq)
  local found = redis.call('HMGET', steps, seq, 'e' .. seq)
  local s, group = parse_state(found[1]), parse_record(found[2] or '')
  return s.letter and (group == '0' or group and groups_of(steps, group))
end

-- The attributes of a signal, or the filter of a wait: tokens that compare byte by byte.
local function set_of(tokens)
  local set = {}
  for token in string.gmatch(tokens, '[^&]+') do set[token] = true end
  return set
end

local function passes(attributes, filter)
  for token in string.gmatch(filter, '[^&]+') do
    if not attributes[token] then return false end
  end
  return true
end

local function end_overdue(p, run, seq, number, name, now)
  note(p, run, now, 'overdue', seq, 0, '-', '-', name)
  record_entry(p, run, seq, number, 'o' .. name .. '\n')
end

-- The wait as it stands on the list of its name.
local function find_open(p, run, seq, name, number)
  local open = redis.call('HGET', key_of.steps(p, run), 'w' .. name) or ''
  return string.match(' ' .. open, ' (' .. seq .. '%.' .. number .. '@%S+)')
end

-- Signals that came before their wait: `<number>` has the payload and `a<number>` the attributes, oldest first.
local function kept_numbers(key)
  local numbers = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local number = tonumber(string.match(field, '^a(%-?%d+)$'))
    if number then numbers[#numbers + 1] = number end
  end
  table.sort(numbers)
  return numbers
end

-- Takes the first one that passes the filter: its attributes and its payload.
local function take_signal(p, run, name, filter)
  local key = key_of.signals(p, run, name)
  for _, number in ipairs(kept_numbers(key)) do
    local attributes = redis.call('HGET', key, 'a' .. number) or ''
    if passes(set_of(attributes), filter) then
      local payload = redis.call('HGET', key, number) or ''
      redis.call('HDEL', key, number, 'a' .. number)
      if redis.call('HLEN', key) <= 1 then
        redis.call('UNLINK', key)
        redis.call('SREM', key_of.extra(p, run), key)
      end
      return attributes, payload
    end
  end
  return nil
end

-- People are asked this.
local function ask(p, run, seq, number, name, question, due, now)
  local key, mark = key_of.asked(p, run), seq .. '.' .. number
  redis.call('HSET', key, mark, question)
  if due > 0 then redis.call('HSET', key, 'd' .. mark, due) end
  redis.call('SADD', key_of.extra(p, run), key)
  redis.call('ZADD', key_of.questions(p), now, run .. ' ' .. mark)
  note(p, run, now, 'asked', seq, 0, '-', '-', name)
end

-- A signal that came before its wait ends it at once; so does a deadline of no time.
local function open_wait(p, run, seq, number, name, deadline, filter, question, now, known_due)
  local steps, mark = key_of.steps(p, run), seq .. '.' .. number .. '@'
  local open = redis.call('HGET', steps, 'w' .. name) or ''
  if is_recorded(p, run, seq, number) or string.find(' ' .. open, ' ' .. mark, 1, true) then return end
  if question ~= '' and kin.is_undo(name) then return kin.keep_undo(p, run, seq, number, name, question) end
  local attributes, payload = take_signal(p, run, name, filter)
  local due = known_due or tonumber(deadline) >= 0 and now + deadline or 0
  if payload then return record_signal(p, run, seq, number, name, attributes, payload, due) end
  if due > 0 and due <= now then return end_overdue(p, run, seq, number, name, now) end
  local wait = mark .. due
  if filter ~= '' then wait = wait .. '~' .. filter end
  redis.call('HSET', steps, 'w' .. name, open == '' and wait or open .. ' ' .. wait)
  if due > 0 then set_timer(p, now, due, deadline_timer(run, name, wait)) end
  if question ~= '' and kin.is_child(name) then
    kin.ask_for(p, run, seq, number, name, question, now)
  elseif question ~= '' then
    ask(p, run, seq, number, name, question, due, now)
  end
end

-- `waits` is number, name, deadline (-1 for none), filter, question, number, ... Those that are opened again have the deadlines in `dues`.
local function open_waits(p, run, seq, waits, now, dues)
  for i = 1, #waits, 5 do
    open_wait(p, run, seq, waits[i], waits[i + 1], waits[i + 2], waits[i + 3], waits[i + 4], now, dues and dues[waits[i]])
  end
end

local checkpoint, is_too_much
do -- a chunk of Lua has at most 200 locals

-- Those that have their answer: number, entry, number, ...
local function answers_of(p, run, seq, waits)
  local journal, found = key_of.journal(p, run, seq), {}
  for i = 1, #waits, 5 do
    local entry = redis.call('HGET', journal, waits[i])
    if entry then
      found[#found + 1] = waits[i]
      found[#found + 1] = entry
    end
  end
  return found
end

-- How many waits there would be of each name.
local function waits_after(p, run, seq, waits)
  local steps, known, open, new = key_of.steps(p, run), {}, {}, 0
  for i = 1, #waits, 5 do
    local number, name = waits[i], waits[i + 1]
    if not open[name] then
      local list = read_waits(steps, name)
      open[name] = #list
      for _, wait in ipairs(list) do
        local of, other = parse_wait(wait)
        if of == seq then known[name .. ' ' .. other] = true end
      end
    end
    if not known[name .. ' ' .. number] and not is_recorded(p, run, seq, number) then
      open[name], new = open[name] + 1, new + 1
    end
  end
  return open, new
end

is_too_much = function(p, run, seq, entries, waits)
  local steps = key_of.steps(p, run)
  local open, new = waits_after(p, run, seq, waits)
  if redis.call('HLEN', key_of.journal(p, run, seq)) + entries + new > LIMIT.MAX_ENTRIES then return true end
  for name, count in pairs(open) do
    if count > LIMIT.MAX_WAITS then
      -- Those of step executions that have ended make room.
      local _, gone = keep_waits(p, run, name, function(wait) return is_waiting(steps, (parse_wait(wait))) end)
      if count - gone > LIMIT.MAX_WAITS then return true end
    end
  end
  return false
end

-- Of `entries` each has so many values, its number first.
local function new_entries(p, run, seq, entries, width)
  local new = 0
  for i = 1, #entries, width do
    if not is_recorded(p, run, seq, entries[i]) then new = new + 1 end
  end
  return new
end

-- An earlier try may have come, and others of the same body since: each part of it is done once.
checkpoint = function(p, a)
  local now, run, seq, line, entries, waits = now_ms(), a.run, a.seq, a.line, a.entries, a.waits
  local steps = key_of.steps(p, run)
  local found = redis.call('HMGET', steps, seq, 'm' .. seq, 'closed')
  if found[1] ~= line or is_void(steps, seq, found[3]) then return { 'fenced' } end
  -- What this attempt has recorded is gone: Redis came back without its last moments.
  if a.after ~= '' and not is_recorded(p, run, seq, a.after) then return { 'fenced' } end
  -- What was done by an earlier try is not done again; others may have written the same fields since.
  local made = line .. '.' .. a.mark
  if a.mark ~= '' and found[2] == made then return { 'ok', answers_of(p, run, seq, waits) } end
  local new = new_entries(p, run, seq, entries, 2) + new_entries(p, run, seq, a.gone, 3)
  if is_too_much(p, run, seq, new, waits) then return { 'full' } end
  if not (entries[1] and is_recorded(p, run, seq, entries[1])) then
    local why_not, field, wrong = settle_changes(p, run, a)
    if why_not then return { why_not, field, wrong } end
    write_context(p, run, a)
  end
  if a.mark ~= '' then redis.call('HSET', steps, 'm' .. seq, made) end
  for i = 1, #entries, 2 do
    if not is_recorded(p, run, seq, entries[i]) then record_entry(p, run, seq, entries[i], entries[i + 1]) end
  end
  let_go(p, run, seq, a.gone, now)
  open_waits(p, run, seq, waits, now, set_aside(p, run, seq, a.unreadable, now))
  return { 'ok', answers_of(p, run, seq, waits) }
end
end

-- The step execution has what it waited for: it goes on wherever there is a worker.
local function wake(p, run, seq)
  local found = redis.call('HMGET', key_of.steps(p, run), seq, 'meta', 'k' .. seq)
  local s = parse_state(found[1])
  if s.letter ~= 'S' then return end
  tell_followers(p, run, found[2], 'waiting', seq, s.attempt, '-')
  queue_again(p, found[2], run, seq, s, found[3] and string.match(found[3], '^%S+'))
end

local function suspend(p, a)
  local waits = a.waits
  return under_fence(p, a, function(_, x)
    if is_too_much(p, x.run, x.seq, 0, waits) then return 'full' end
    local about, told, keeps = {}, {}, { x.worker }
    for i = 1, #waits, 5 do
      local filter = waits[i + 3]
      keeps[#keeps + 1] = waits[i]
      told[#told + 1] = waits[i + 1] .. '.' .. waits[i]
      about[#about + 1] = told[#told] .. (filter ~= '' and '~' .. filter or '')
    end
    redis.call('HSET', key_of.steps(p, x.run), x.seq, state_line('S', x.state, table.concat(about, ',')))
    if a.keeps then redis.call('HSET', key_of.steps(p, x.run), 'k' .. x.seq, table.concat(keeps, ' ')) end
    tell_followers(p, x.run, x.meta, 'suspended', x.seq, x.attempt, x.worker)
    note(p, x.run, x.now, 'suspended', x.seq, x.attempt, x.step, x.worker, table.concat(told, ','))
    open_waits(p, x.run, x.seq, waits, x.now)
    for i = 1, #waits, 5 do
      if is_recorded(p, x.run, x.seq, waits[i]) then
        wake(p, x.run, x.seq)
        return nil
      end
    end
    return nil
  end)
end

-- What `about` of a suspended step execution names: name, number and filter of each wait.
local function suspended_by(about)
  return string.gmatch(about, '([%w_%.%-%%]+)%.(%d+)~?([^,]*)')
end

-- It is waited for no more.
close_waits = function(p, run, seq, about)
  for name, number in suspended_by(about) do
    local wait = find_open(p, run, seq, name, number)
    if wait then close_wait(p, run, name, wait) end
  end
end

-- The wait's time is over: an entry says so.
fire_deadline = function(p, timer, now)
  local run, name, wait = string.match(timer, '^wait (%S+) (%S+) (%S+)$')
  local seq, number = parse_wait(wait or '')
  if not seq or not close_wait(p, run, name, wait) then return end
  end_overdue(p, run, seq, number, name, now)
  wake(p, run, seq)
end

-- waits: what is waited for, a slice of the steps hash at a time: name, wait and step of each.
local function waits(p, a)
  local steps, found = key_of.steps(p, a.run), {}
  local slice = redis.call('HSCAN', steps, a.cursor, 'MATCH', 'w*', 'COUNT', 500)
  for i = 1, #slice[2], 2 do
    for wait in string.gmatch(slice[2][i + 1], '%S+') do
      local seq = parse_wait(wait)
      if seq and is_waiting(steps, seq) then
        local _, step = parse_record(redis.call('HGET', steps, 'e' .. seq) or '')
        found[#found + 1] = { string.sub(slice[2][i], 2), wait, step or '-' }
      end
    end
  end
  return { slice[1], found }
end
