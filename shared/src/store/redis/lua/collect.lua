-- collect: adds one event to a buffer of an executing step. The call that fills the buffer gets all its events.
--
-- The journal records the answer, so a later attempt gets the same one: `c`, followed, if the buffer was full, by the
-- lengths of the payloads, a line feed, and the payloads.
local function collect(p, a)
  local run, seq, group, number, count = a.run, a.seq, a.group, a.number, a.count
  local steps = key_of.steps(p, run)
  if redis.call('HGET', steps, seq) ~= a.line or not groups_of(steps, group) then return { 'fenced', '' } end
  local known = redis.call('HGET', key_of.journal(p, run, seq), number)
  if known then return { 'ok', known } end
  if a.upon and is_forgotten(p, run, seq, a.line, a.upon) then return { 'fenced', '' } end
  if is_too_much(p, run, seq, 1, {}) then return { 'full', '' } end
  local key = key_of.joined(p, run, group, a.step .. '*' .. a.buffer)
  local entry, length = 'c', push_joined(p, run, key, a.payload)
  if length >= count then
    local lengths, payloads = {}, redis.call('LPOP', key, count)
    for i, one in ipairs(payloads) do lengths[i] = #one end
    if length == count then redis.call('SREM', key_of.extra(p, run), key) end
    entry = 'c' .. table.concat(lengths, ' ') .. '\n' .. table.concat(payloads)
  end
  record_entry(p, run, seq, number, entry)
  return { 'ok', entry }
end

-- send: delivers events from outside to a live run. They belong to no fan-out. If the run's start delay is not over,
-- they begin together with its first steps.
local function send(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  if across.is_repeated(p, a) then return { 'repeated' } end
  local stands, run = standing(p, a.asked)
  if stands ~= 'live' then return { stands == 'over' and 'over' or 'unknown' } end
  local steps, count = key_of.steps(p, run), #a.list
  local found = redis.call('HMGET', steps, 'meta', 'last', '1')
  if not found[1] or tonumber(found[2]) + count > LIMIT.MAX_EXECUTIONS then return { 'full' } end
  across.settle_request(p, a, 'taken')
  local last = redis.call('HINCRBY', steps, 'last', count)
  redis.call('HINCRBY', steps, 'n0', count)
  local first = parse_state(found[3])
  local later = first.letter == 'W' and first.attempt == 0 and { now = now_ms(), due = tonumber(first.about) }
  create(p, run, found[1], last - count + 1, a.list, nil, nil, later)
  return { 'delivered' }
end

-- defer_send: keeps an event for a run whose request is deferred: only its version will tell which steps take the
-- event.
local function defer_send(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  if across.is_repeated(p, a) then return { 'repeated' } end
  local stands, run = standing(p, a.asked)
  if stands ~= 'waiting' then return { stands } end
  local key = key_of.sent(p, run)
  if redis.call('LLEN', key) >= LIMIT.MAX_SENT then return { 'full' } end
  redis.call('RPUSH', key, a.event .. ' ' .. a.step .. ' ' .. a.content .. '\n' .. a.input)
  across.settle_request(p, a, 'kept')
  return { 'deferred' }
end
