-- answer: answers an open question. questions: lists open questions.

local answer, questions
do -- a chunk of Lua has at most 200 locals

answer = function(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  if across.is_repeated(p, a) then return { 'repeated' } end
  local stands, run = standing(p, a.asked)
  if stands == 'over' or stands == 'unknown' then return { stands } end
  local seq, number = string.match(a.question, '^(%d+)%.(%d+)$')
  local wait = stands == 'live' and seq and find_open(p, run, seq, a.name, number)
  if not wait or not is_waiting(key_of.steps(p, run), seq) then return { 'closed' } end
  local now, _, _, due = now_ms(), parse_wait(wait)
  close_wait(p, run, a.name, wait)
  note(p, run, now, 'answered', seq, 0, '-', '-', a.name .. ' ' .. a.by)
  record_signal(p, run, seq, number, a.name, '', a.payload, due)
  wake(p, run, seq)
  across.settle_request(p, a, 'taken')
  return { 'answered' }
end

local function shown(p, run, mark, asked)
  local found = redis.call('HMGET', key_of.asked(p, run), mark, 'd' .. mark)
  local is_open = asked and found[1] and is_waiting(key_of.steps(p, run), string.match(mark, '^%d+'))
  return is_open and { run, mark, asked, found[2] or '0', found[1] } or nil
end

questions = function(p, a)
  local found = {}
  if a.run ~= '' then
    for _, mark in ipairs(marks_of(p, a.run)) do
      found[#found + 1] = shown(p, a.run, mark, redis.call('ZSCORE', key_of.questions(p), a.run .. ' ' .. mark))
    end
    return found
  end
  local open = redis.call('ZRANGE', key_of.questions(p), a.from, a.from + a.count - 1, 'WITHSCORES')
  for i = 1, #open, 2 do
    local run, mark = string.match(open[i], '^(%S+) (%S+)$')
    found[#found + 1] = run and shown(p, run, mark, open[i + 1])
  end
  return found
end
end
