-- publish: an event for those who follow the run, at once, whatever becomes of the attempt.
--
-- The field `p<seq>` of the steps hash has what the step execution published last, as `<attempt>.<number>`: an attempt
-- publishes one after the other, so a repetition is known by it.

local function publish(keys, argv)
  local p, arg = keys[1], cursor(argv)
  local worker, run, seq, attempt, line, number = arg(), arg(), arg(), arg(), arg(), arg()
  local step, event, content, data = arg(), arg(), arg(), arg()
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'p' .. seq, 'closed')
  local is_theirs = found[1] == line and string.find(line, ' ' .. worker .. ' ', 1, true)
  if not is_theirs or is_void(steps, seq, found[3]) then return { 'fenced' } end
  local last_attempt, last = string.match(found[2] or '', '^(%d+)%.(%d+)$')
  if last_attempt == attempt and tonumber(number) <= tonumber(last) then return { 'ok' } end
  local fields = { 'kind', 'event', 'event', event, 'step', step, 'seq', seq, 'attempt', attempt, 'worker', worker, 'data', data }
  if content ~= 'json' then
    fields[#fields + 1] = 'content'
    fields[#fields + 1] = content
  end
  local added = add_event(p, run, unpack(fields))
  if type(added) == 'table' then return added end
  redis.call('HSET', steps, 'p' .. seq, attempt .. '.' .. number)
  return { 'ok' }
end
