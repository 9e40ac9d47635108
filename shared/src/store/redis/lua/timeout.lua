-- Fails a run at its timeout. The error names the steps that were active.

do -- a chunk of Lua has at most 200 locals

local ACTIVITIES = { 'running', 'queued', 'waiting to start', 'waiting to retry', 'waiting for a signal', 'waiting for a turn' }

local function activity(s)
  if s.letter == 'H' then return 1 end
  if s.letter == 'Q' then return 2 end
  if s.letter == 'W' then return s.attempt == 0 and 3 or 4 end
  if s.letter == 'S' then return 5 end
  if s.letter == 'T' then return 6 end
  return nil
end

local function spell(ms)
  for _, unit in ipairs({ { 'h', 3600000 }, { 'm', 60000 }, { 's', 1000 } }) do
    if ms > 0 and ms % unit[2] == 0 then return string.format('%d%s', ms / unit[2], unit[1]) end
  end
  return string.format('%dms', ms)
end

-- Counts the executions of each step by activity, from number `first` to `last`.
local function count_active(steps, first, last, found)
  for from = first, last, LIMIT.CHUNK do
    local seqs = {}
    for seq = from, math.min(from + LIMIT.CHUNK - 1, last) do seqs[#seqs + 1] = seq end
    local states = redis.call('HMGET', steps, unpack(seqs))
    for i, seq in ipairs(seqs) do
      local at = activity(parse_state(states[i]))
      if at and found.bytes > LIMIT.NAMED_BYTES then
        found.unnamed = found.unnamed + 1
      elseif at then
        local _, step, _, _, payload = parse_record(redis.call('HGET', steps, 'e' .. seq) or '')
        step = step or '-'
        found.bytes = found.bytes + #(payload or '')
        if not found.counts[step] then
          found.counts[step] = {}
          found.names[#found.names + 1] = step
        end
        found.counts[step][at] = (found.counts[step][at] or 0) + 1
      end
    end
  end
end

local function name_active(found, last)
  table.sort(found.names, comes_before)
  local parts = {}
  for i = 1, math.min(#found.names, LIMIT.NAMED_STEPS) do
    local counts, told = found.counts[found.names[i]], {}
    for at, word in ipairs(ACTIVITIES) do
      if counts[at] then told[#told + 1] = counts[at] .. ' ' .. word end
    end
    parts[#parts + 1] = found.names[i] .. ' (' .. table.concat(told, ', ') .. ')'
  end
  if #found.names > LIMIT.NAMED_STEPS then parts[#parts + 1] = (#found.names - LIMIT.NAMED_STEPS) .. ' more steps' end
  if found.unnamed > 0 then parts[#parts + 1] = found.unnamed .. ' more step executions' end
  local text = #parts > 0 and table.concat(parts, ', ') or 'none'
  if last > LIMIT.OLDEST + LIMIT.NEWEST then
    text = text .. '; of its ' .. last .. ' step executions the first ' .. LIMIT.OLDEST .. ' and the last ' .. LIMIT.NEWEST .. ' were examined'
  end
  return text
end

fire_timeout = function(p, run, now, retention)
  local about = redis.call('HMGET', key_of.run(p, run), 'status', 'timeout', 'deadline')
  local timeout, deadline = tonumber(about[2] or ''), tonumber(about[3] or '')
  -- Comparing the due time rejects a timer of an earlier run with this id.
  local is_paused = about[1] == 'paused'
  if not (is_paused or about[1] == 'queued' or about[1] == 'running') or not timeout or not deadline or deadline > now then return end
  local steps = key_of.steps(p, run)
  local last = tonumber(redis.call('HGET', steps, 'last') or '') or 0
  local found = { counts = {}, names = {}, unnamed = 0, bytes = 0 }
  count_active(steps, 1, math.min(last, LIMIT.OLDEST), found)
  count_active(steps, math.max(LIMIT.OLDEST + 1, last - LIMIT.NEWEST + 1), last, found)
  fail_run(p, { run = run, seq = 0, attempt = 0, step = '-', worker = '-', now = now },
    'the run did not end within its timeout of ' .. spell(timeout) .. (is_paused and ', which keeps running while a run is paused' or '')
      .. '; active steps: ' .. name_active(found, last), retention)
end
end
