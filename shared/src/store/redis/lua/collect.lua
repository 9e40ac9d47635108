-- collect: one event for a buffer of a step, while it executes. The one that fills the buffer gets all that is in it.
--
-- What it came to is in the journal: an attempt that runs again gets the same answer. `c` alone, or with what was
-- collected: the lengths of the payloads, a line feed, and the payloads.
local function collect(p, a)
  local run, seq, group, number, count = a.run, a.seq, a.group, a.number, a.count
  local steps = key_of.steps(p, run)
  if redis.call('HGET', steps, seq) ~= a.line or not groups_of(steps, group) then return { 'fenced', '' } end
  local known = redis.call('HGET', key_of.journal(p, run, seq), number)
  if known then return { 'ok', known } end
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

-- send: events from outside for a run that is under way. They belong to no fan-out.
local function send(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  local stands, run = standing(p, a.asked)
  if stands ~= 'live' then return { stands == 'over' and 'over' or 'unknown' } end
  local steps, count = key_of.steps(p, run), #a.list
  local found = redis.call('HMGET', steps, 'meta', 'last')
  if not found[1] or tonumber(found[2]) + count > LIMIT.MAX_EXECUTIONS then return { 'full' } end
  leave_inbox(p, a.entry)
  local last = redis.call('HINCRBY', steps, 'last', count)
  redis.call('HINCRBY', steps, 'n0', count)
  create(p, run, found[1], last - count + 1, a.list)
  return { 'delivered' }
end
