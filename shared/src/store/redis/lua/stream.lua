-- stream: publishes a piece of a text while the step is still writing it.
--
-- `published:<run>:<seq>` has the state of each stream, by its place in the body: `s<place>` has its take, its length
-- and whether it has ended, `s<place>:<block>` its text. A body that runs again writes to the same places. Text that is
-- there already is not published again; as soon as the body writes something different, the whole new text supersedes
-- it.

local stream
do -- a chunk of Lua has at most 200 locals

local BLOCK = LIMIT.STREAM_BLOCK

local function head_of(key, place)
  local take, length, ended = string.match(redis.call('HGET', key, 's' .. place) or '', '^(%d+) (%d+) ([01])$')
  return tonumber(take), tonumber(length), ended == '1'
end

local function blocks_of(place, from, to)
  local fields = {}
  for block = math.floor(from / BLOCK), math.ceil(to / BLOCK) - 1 do fields[#fields + 1] = 's' .. place .. ':' .. block end
  return fields
end

-- The text from byte `from`, counted from 0, up to but excluding byte `to`.
local function text_of(key, place, from, to)
  if to <= from then return '' end
  local blocks = redis.call('HMGET', key, unpack(blocks_of(place, from, to)))
  for i = 1, #blocks do blocks[i] = blocks[i] or '' end
  local start = from % BLOCK
  return string.sub(table.concat(blocks), start + 1, start + to - from)
end

-- Stores the next part of the text.
local function keep(key, place, take, at, text, ended)
  local from = at - at % BLOCK
  local whole, pairs = text_of(key, place, from, at) .. text, { 's' .. place, take .. ' ' .. at + #text .. ' ' .. (ended and 1 or 0) }
  for i, field in ipairs(blocks_of(place, from, at + #text)) do
    pairs[#pairs + 1] = field
    pairs[#pairs + 1] = string.sub(whole, (i - 1) * BLOCK + 1, i * BLOCK)
  end
  redis.call('HSET', key, unpack(pairs))
end

local function forget(key, place)
  local take, length = head_of(key, place)
  if take then redis.call('HDEL', key, 's' .. place, unpack(blocks_of(place, 0, length))) end
end

stream = function(p, a)
  local run, seq, place, steps = a.run, a.seq, a.place, key_of.steps(p, a.run)
  local found = redis.call('HMGET', steps, seq, 'closed')
  local is_theirs = found[1] == a.line and string.find(a.line, ' ' .. a.worker .. ' ', 1, true)
  if not is_theirs or is_void(steps, seq, found[2]) then return { 'fenced' } end
  local key, extra = key_of.published(p, run, seq), key_of.extra(p, run)
  -- A foreign value in this key must not fail the run.
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', key) end
  for _, done in ipairs(a.done) do forget(key, done) end
  local take, length, ended = head_of(key, place)
  if not take then
    local count = redis.call('HLEN', key)
    if count >= LIMIT.MAX_REMEMBERED then return { 'full' } end
    take, length = 1, 0
  end
  redis.call('SADD', extra, key)
  -- Redis came back without its latest writes, and the text in between is lost.
  if a.at > length then
    keep(key, place, take, length, string.rep('\0', a.at - length), false)
    length = a.at
  end
  local at, text, stop = a.at, a.text, a.at + #a.text
  local is_same = text_of(key, place, at, math.min(stop, length)) == string.sub(text, 1, math.max(0, length - at))
  local goes_on = is_same and not (a.last and stop < length) and not (ended and stop > length)
  if goes_on and stop <= length and (ended or not a.last) then return { 'ok' } end
  local id, added = seq .. '.' .. place, nil
  local function tell(kind, ...)
    added = add_event(p, run, 'kind', kind, 'stream', a.stream, 'id', id, 'take', take, 'step', a.step, 'seq', seq,
      'attempt', a.attempt, 'worker', a.worker, ...)
  end
  if goes_on then
    at, text = length, string.sub(text, length - at + 1)
  else
    at, text, take = 0, text_of(key, place, 0, at) .. text, take + 1
    forget(key, place)
    tell('superseded')
  end
  if a.last then
    tell('piece', 'at', at, 'text', text, 'last', 1)
  else
    tell('piece', 'at', at, 'text', text)
  end
  if type(added) == 'table' then return added end
  keep(key, place, take, at, text, a.last)
  return { 'ok' }
end
end
