-- publish: sends an event to the run's followers at once, whether or not the attempt succeeds.
--
-- `published:<run>:<seq>` has a digest of each event that the step execution has published, by its place in the body,
-- `<call>.<number>`. A body that runs again passes the same places, and publishes no event twice. When the key is full,
-- `last` has only the latest event, so that a repeated call after a lost reply is still recognized.

local publish
do -- a chunk of Lua has at most 200 locals

-- Ignores foreign data under the key: followers must not make a run fail.
local function known_of(key, place)
  local found = redis.pcall('HMGET', key, place, 'last')
  if found.err then return nil, nil end
  return found[1], found[2]
end

local function remember(p, run, key, place, digest, is_known)
  local count = redis.pcall('HLEN', key)
  if type(count) ~= 'number' then return end
  if count == 0 then redis.call('SADD', key_of.extra(p, run), key) end
  if is_known or count < LIMIT.MAX_REMEMBERED then
    redis.call('HSET', key, place, digest)
  else
    redis.call('HSET', key, 'last', place .. ' ' .. digest)
  end
end

publish = function(p, a)
  local run, seq, place, digest, steps = a.run, a.seq, a.place, a.digest, key_of.steps(p, a.run)
  local found = redis.call('HMGET', steps, seq, 'closed')
  local is_theirs = found[1] == a.line and string.find(a.line, ' ' .. a.worker .. ' ', 1, true)
  if not is_theirs or is_void(steps, seq, found[2]) then return { 'fenced' } end
  local key = key_of.published(p, run, seq)
  local known, last = known_of(key, place)
  if known == digest or last == place .. ' ' .. digest then return { 'ok' } end
  local fields = { 'kind', 'event', 'event', a.event, 'id', seq .. '.' .. place, 'step', a.step, 'seq', seq, 'attempt', a.attempt,
    'worker', a.worker, 'data', a.data }
  if a.content ~= 'json' then
    fields[#fields + 1] = 'content'
    fields[#fields + 1] = a.content
  end
  local added = add_event(p, run, unpack(fields))
  if type(added) == 'table' then return added end
  remember(p, run, key, place, digest, known)
  return { 'ok' }
end
end
