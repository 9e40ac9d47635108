-- Receipts: tell the requester, in the list that the request names, the outcome of the request and of the run it
-- started. Each is written in the same transition as what it reports.

do

local function quoted(text)
  local escaped = string.gsub(text, '[%z\1-\31\\"\127]', function(c) return string.format('\\u%04x', string.byte(c)) end)
  return '"' .. escaped .. '"'
end

-- Appends a receipt to a list. `...`: names and values of more members; empty ones are left out, and a table holds
-- JSON. Foreign data under the list's key is left alone.
function receipts.push(p, list, event, run, ...)
  local members, text = { 'run', run, ... }, '{"event":' .. quoted(event)
  for i = 1, #members, 2 do
    local value = members[i + 1]
    if value ~= '' then text = text .. ',"' .. members[i] .. '":' .. (type(value) == 'table' and value.json or quoted(value)) end
  end
  local key = key_of.reply(p, list)
  if type(redis.pcall('RPUSH', key, text .. '}')) ~= 'number' then return end
  redis.call('LTRIM', key, -LIMIT.REPLY_MAX, -1)
  redis.call('PEXPIRE', key, LIMIT.REPLY_MS)
end

-- The lists that get a receipt when the run ends or its deferred request is settled.
function receipts.lists(p, run)
  local start, found = key_of.reply(p, ''), {}
  for _, key in ipairs(redis.call('SMEMBERS', key_of.extra(p, run))) do
    if string.sub(key, 1, #start) == start then found[#found + 1] = string.sub(key, #start + 1) end
  end
  table.sort(found, comes_before)
  return found
end

function receipts.follow(p, run, list)
  if #receipts.lists(p, run) < LIMIT.REPLIES then redis.call('SADD', key_of.extra(p, run), key_of.reply(p, list)) end
end

function receipts.tell_end(p, run, lists)
  local found = redis.call('HMGET', key_of.run(p, run), 'status', 'content', 'result', 'error')
  -- JSON cannot contain MessagePack, and callers read large results from the run.
  local is_shown = found[3] and found[2] == 'json' and #found[3] <= LIMIT.REPLY_RESULT
  for _, list in ipairs(lists) do
    receipts.push(p, list, 'ended', run, 'status', found[1], 'result', is_shown and { json = found[3] } or '', 'error', found[4] or '')
  end
end

-- Sends the receipt of the start of a run to its requesters, and has its end sent to them.
function receipts.started(p, run, lists, entry, request, is_repeated)
  for _, list in ipairs(lists) do
    receipts.push(p, list, 'started', run, 'entry', entry, 'request', request, 'repeated', is_repeated and { json = 'true' } or '')
    local status = redis.call('HGET', key_of.run(p, run), 'status')
    if status == 'queued' or status == 'running' or status == 'paused' then
      receipts.follow(p, run, list)
    else
      receipts.tell_end(p, run, { list })
    end
  end
end
end
