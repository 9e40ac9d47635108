-- Child runs: a wait whose name begins with `%child.` waits for the end of another run. Opening it requests that run
-- through the inbox of this partition; the end of the child is sent to its parent in the same way. A coordinator routes
-- both to the right partition. child_ended: delivers the end of a child to its parent.
--
-- Compensations are kept in `undo:<run>`, a list of `<u, or a for always> <child> <name of the wait>`, a line feed and
-- the request. When the run ends without completing, they are requested last to first, each after the previous one has
-- completed.

do -- a chunk of Lua has at most 200 locals

local CHILD = '%child.'

function kin.is_child(name)
  return string.sub(name, 1, #CHILD) == CHILD
end

local function request(p, ...)
  redis.call('XADD', key_of.inbox(p), '*', ...)
end

-- Requests a child run. `asked` is the child's id, ` outlives` if only an explicit request cancels it, a line feed, and
-- the request. A failed child keeps its id and continues: its parent, which failed with it, requests it again when
-- retried.
function kin.ask_for(p, run, seq, number, name, asked, now)
  local key, mark = key_of.children(p, run), seq .. '.' .. number
  local stop = string.find(asked, '\n', 1, true)
  local id, outlives = string.match(string.sub(asked, 1, stop - 1), '^(%S+)(.*)$')
  local child = string.match(redis.call('HGET', key, mark) or '', '^%S+') or id
  redis.call('HSET', key, mark, child .. ' ' .. name .. outlives)
  redis.call('SADD', key_of.extra(p, run), key)
  request(p, 'op', 'child', 'run', child, 'parent', run, 'wait', name, 'request', string.sub(asked, stop + 1))
  note(p, run, now, 'child', seq, 0, '-', '-', child .. ' ' .. name)
end

local function forget_child(p, run, mark)
  local key = key_of.children(p, run)
  redis.call('HDEL', key, mark)
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', key_of.extra(p, run), key) end
end

-- Cancels a child run that its parent no longer waits for, unless it has ended or outlives its wait.
function kin.drop_child(p, run, mark)
  local child, state = string.match(redis.call('HGET', key_of.children(p, run), mark) or '', '^(%S+) %S+ ?(%a*)$')
  if not child or state == 'failed' then return end
  forget_child(p, run, mark)
  if state ~= 'outlives' then request(p, 'op', 'cancel', 'run', child) end
end

-- Lets go of the children of a step execution that has ended, including failed ones.
function kin.drop_children(p, run, seq)
  local key, start = key_of.children(p, run), seq .. '.'
  if redis.call('EXISTS', key) == 0 then return end
  for _, mark in ipairs(redis.call('HKEYS', key)) do
    if string.sub(mark, 1, #start) == start then
      kin.drop_child(p, run, mark)
      forget_child(p, run, mark)
    end
  end
end

-- Lets go of the children of a run that has ended for good.
function kin.cancel_children(p, run)
  local key = key_of.children(p, run)
  for _, mark in ipairs(redis.call('HKEYS', key)) do kin.drop_child(p, run, mark) end
  redis.call('UNLINK', key)
  redis.call('SREM', key_of.extra(p, run), key)
end

-- Sends the end of a run to its parent. `parent` is `<run> <name of the wait>`, `output` the result or the error.
function kin.tell_parent(p, run, parent, status, output)
  local of, wait = string.match(parent, '^(%S+) (%S+)$')
  if not of then return end
  request(p, 'op', 'child-ended', 'run', of, 'wait', wait, 'child', run, 'status', status,
    'content', redis.call('HGET', key_of.run(p, run), 'content') or 'json', 'output', output or '')
end

local UNDO, CLEANUP = '%undo.', '%cleanup.'

local function is_cleanup(name)
  return string.sub(name, 1, #CLEANUP) == CLEANUP
end

function kin.is_undo(name)
  return string.sub(name, 1, #UNDO) == UNDO or is_cleanup(name)
end

-- Registers a compensation and ends its wait. `asked` is as in `ask_for`.
function kin.keep_undo(p, run, seq, number, name, asked)
  local key, stop = key_of.undo(p, run), string.find(asked, '\n', 1, true)
  local head = (is_cleanup(name) and 'a ' or 'u ') .. string.match(asked, '^%S+') .. ' ' .. name
  redis.call('RPUSH', key, head .. string.sub(asked, stop))
  redis.call('SADD', key_of.extra(p, run), key)
  record_signal(p, run, seq, number, name, '', '', 0)
end

local function compensation(p, run, stands)
  redis.call('HSET', key_of.run(p, run), 'compensation', stands)
end

-- Requests the last remaining compensation.
local function next_undo(p, run, now)
  local key = key_of.undo(p, run)
  local item = redis.call('LINDEX', key, -1)
  if not item then
    redis.call('SREM', key_of.extra(p, run), key)
    return compensation(p, run, 'done')
  end
  local stop = string.find(item, '\n', 1, true)
  local child, name = string.match(string.sub(item, 1, stop - 1), '^%a (%S+) (%S+)$')
  compensation(p, run, 'running')
  note(p, run, now, 'child', 0, 0, '-', '-', child .. ' ' .. name)
  request(p, 'op', 'child', 'run', child, 'parent', run, 'wait', name, 'request', string.sub(item, stop + 1))
end

-- Starts the compensations of a run that has ended. Returns the list if it is kept.
function kin.begin_undo(p, run, now, status)
  local key = key_of.undo(p, run)
  if status == 'completed' then
    local kept = {}
    for _, item in ipairs(redis.call('LRANGE', key, 0, -1)) do
      if string.sub(item, 1, 1) == 'a' then kept[#kept + 1] = item end
    end
    if #kept == 0 then return nil end
    redis.call('DEL', key)
    chunked('RPUSH', key, kept)
  end
  next_undo(p, run, now)
  return key
end

-- Retries a failed compensation on request. Returns nil if it did, an empty string if the run has no compensations, and
-- otherwise why not.
function kin.retry_undo(p, run, now)
  local stands = redis.call('HGET', key_of.run(p, run), 'compensation')
  if stands == 'running' then return 'its compensations are under way' end
  if stands == 'done' then return 'its compensations have been carried out; start it again, or fork it' end
  if stands then next_undo(p, run, now) end
  return not stands and '' or nil
end

local function undo_ended(p, run, a, now)
  local key = key_of.undo(p, run)
  if string.match(redis.call('LINDEX', key, -1) or '', '^%a (%S+)') ~= a.child then return { 'over' } end
  note(p, run, now, 'child-ended', 0, 0, '-', '-', a.child .. ' ' .. a.status)
  if a.status == 'completed' then
    redis.call('RPOP', key)
    next_undo(p, run, now)
  else
    compensation(p, run, 'failed')
  end
  return { 'told' }
end

function kin.child_ended(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  leave_inbox(p, a.entry)
  local stands, run = standing(p, a.parent)
  if kin.is_undo(a.wait) then return undo_ended(p, run, a, now_ms()) end
  local is_failed = stands == 'over' and redis.call('HGET', key_of.run(p, run), 'status') == 'failed'
  local steps = is_failed and key_of.stopped(p, run) or key_of.steps(p, run)
  local seq, number, due = parse_wait(redis.call('HGET', steps, 'w' .. a.wait) or '')
  if not seq or not is_failed and not is_waiting(steps, seq) then return { 'over' } end
  local mark, now = seq .. '.' .. number, now_ms()
  if a.status == 'failed' then
    redis.call('HSET', key_of.children(p, run), mark, a.child .. ' ' .. a.wait .. ' failed')
  else
    forget_child(p, run, mark)
  end
  note(p, run, now, 'child-ended', seq, 0, '-', '-', a.child .. ' ' .. a.status)
  redis.call('HDEL', steps, 'w' .. a.wait)
  record_signal(p, run, seq, number, a.wait, '', a.payload, due)
  -- A failed parent finds the entry when it is retried.
  if not is_failed then wake(p, run, seq) end
  return { 'told' }
end
end
