-- checkpoint: records the progress of a step that continues, and returns the entries of its waits that have ended.
-- suspend: frees the worker of a step that waits, until the journal has what it waits for.
--
-- `journal:<run>:<seq>` has the entries of a step execution's body, by call number: a letter and the call's name, a
-- line feed, and the result. The transitions write the entries that end a wait, and `x` if the body has let go of one.
-- An open wait has no entry yet. The field `w<name>` of the steps hash lists the open waits of that name, oldest first,
-- as `<seq>.<number>@<deadline, 0 for none>`, with `~<filter>` if there is one.

local function record_entry(p, run, seq, number, entry)
  local key = key_of.journal(p, run, seq)
  redis.call('HSET', key, number, entry)
  redis.call('SADD', key_of.extra(p, run), key)
end

-- `due` is the deadline of the wait, 0 for none: if the body cannot read the signal, the wait continues until then.
local function record_signal(p, run, seq, number, name, attributes, payload, due)
  local head = 'w' .. name .. ' ' .. attributes
  if tonumber(due) > 0 then head = head .. ' ' .. due end
  record_entry(p, run, seq, number, head .. '\n' .. payload)
end

local function is_recorded(p, run, seq, number)
  return redis.call('HEXISTS', key_of.journal(p, run, seq), number) == 1
end

local function deadline_timer(run, name, wait)
  return 'wait ' .. run .. ' ' .. name .. ' ' .. wait
end

-- Returns seq, number, deadline and filter of an open wait.
local function parse_wait(wait)
  return string.match(wait, '^(%d+)%.(%d+)@(%d+)~?(%S*)$')
end

local function read_waits(steps, name)
  local waits = {}
  for wait in string.gmatch(redis.call('HGET', steps, 'w' .. name) or '', '%S+') do waits[#waits + 1] = wait end
  return waits
end

-- Keeps the waits that pass `is_kept`, and removes the others with their deadlines. Returns how many remain and how
-- many went.
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

-- Removes one wait from the list of its name. False if it is not there.
local function close_wait(p, run, name, wait)
  local _, gone = keep_waits(p, run, name, function(open) return open ~= wait end)
  return gone > 0
end

-- Whether the step execution exists, has not ended, and is in no closed fan-out.
local function is_waiting(steps, seq)
  local found = redis.call('HMGET', steps, seq, 'e' .. seq)
  local s, group = parse_state(found[1]), parse_record(found[2] or '')
  return s.letter and (group == '0' or group and groups_of(steps, group))
end

-- The attributes of a signal, or the filter of a wait, as a set of tokens, compared byte by byte.
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

-- The wait as it is on the list of its name.
local function find_open(p, run, seq, name, number)
  local open = redis.call('HGET', key_of.steps(p, run), 'w' .. name) or ''
  return string.match(' ' .. open, ' (' .. seq .. '%.' .. number .. '@%S+)')
end

-- The numbers of kept signals, oldest first: field `<number>` has the payload, `a<number>` the attributes.
local function kept_numbers(key)
  local numbers = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local number = tonumber(string.match(field, '^a(%-?%d+)$'))
    if number then numbers[#numbers + 1] = number end
  end
  table.sort(numbers)
  return numbers
end

-- Takes the oldest kept signal that passes the filter. Returns its attributes and payload.
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

-- Opens a question.
local function ask(p, run, seq, number, name, question, due, now)
  local key, mark = key_of.asked(p, run), seq .. '.' .. number
  redis.call('HSET', key, mark, question)
  if due > 0 then redis.call('HSET', key, 'd' .. mark, due) end
  redis.call('SADD', key_of.extra(p, run), key)
  redis.call('ZADD', key_of.questions(p), now, run .. ' ' .. mark)
  note(p, run, now, 'asked', seq, 0, '-', '-', name)
end

-- Opens a wait. A kept signal or a deadline of zero ends it at once.
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

-- `waits` is number, name, deadline (-1 for none), filter, question, number, ... `dues` has the deadlines of reopened
-- waits.
local function open_waits(p, run, seq, waits, now, dues)
  for i = 1, #waits, 5 do
    open_wait(p, run, seq, waits[i], waits[i + 1], waits[i + 2], waits[i + 3], waits[i + 4], now, dues and dues[waits[i]])
  end
end

local checkpoint, is_too_much
do -- a chunk of Lua has at most 200 locals

-- Removes from the journal signals that the body cannot read (number, name, digest of the entry, why, number, ...), and
-- notes them in the history. Their waits can be opened again: returns their deadlines. A repeated call finds other
-- entries and does nothing.
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

-- The entries of those waits that have ended: number, entry, number, ...
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

-- How many waits of each name there would be.
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
      -- Waits of step executions that have ended do not count.
      local _, gone = keep_waits(p, run, name, function(wait) return is_waiting(steps, (parse_wait(wait))) end)
      if count - gone > LIMIT.MAX_WAITS then return true end
    end
  end
  return false
end

-- How many entries are new. Each takes `width` values of `entries`, starting with its number.
local function new_entries(p, run, seq, entries, width)
  local new = 0
  for i = 1, #entries, width do
    if not is_recorded(p, run, seq, entries[i]) then new = new + 1 end
  end
  return new
end

-- An earlier try may have taken effect, and other checkpoints of the body since: applies each part only once.
checkpoint = function(p, a)
  local now, run, seq, line, entries, waits = now_ms(), a.run, a.seq, a.line, a.entries, a.waits
  local steps = key_of.steps(p, run)
  local found = redis.call('HMGET', steps, seq, 'm' .. seq, 'closed')
  if found[1] ~= line or is_void(steps, seq, found[3]) then return { 'fenced' } end
  -- What was done by an earlier try is not done again; others may have written the same fields since.
  local made = line .. '.' .. a.mark
  if a.mark ~= '' and found[2] == made then return { 'ok', answers_of(p, run, seq, waits) } end
  if a.upon and is_forgotten(p, run, seq, line, a.upon) then return { 'fenced' } end
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

-- Requeues a suspended step execution whose wait has ended: any worker may continue it.
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

-- Iterates over the waits of a suspended step execution: name, number and filter of each.
local function suspended_by(about)
  return string.gmatch(about, '([%w_%.%-%%]+)%.(%d+)~?([^,]*)')
end

-- Closes the waits of a suspended step execution.
close_waits = function(p, run, seq, about)
  for name, number in suspended_by(about) do
    local wait = find_open(p, run, seq, name, number)
    if wait then close_wait(p, run, name, wait) end
  end
end

-- Ends an overdue wait: records that in the journal and wakes the step execution.
fire_deadline = function(p, timer, now)
  local run, name, wait = string.match(timer, '^wait (%S+) (%S+) (%S+)$')
  local seq, number = parse_wait(wait or '')
  if not seq or not close_wait(p, run, name, wait) then return end
  end_overdue(p, run, seq, number, name, now)
  wake(p, run, seq)
end

-- waits: lists open waits, one slice of the steps hash at a time: name, wait and step of each.
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
