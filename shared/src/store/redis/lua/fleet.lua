-- Workers and their leases, recovery of what dead workers held, and timers. All use Redis' clock.

local register, heartbeat, deregister, release, reap, fire, requeue, reap_worker, fire_deadline, fire_timeout, fire_again
do -- a chunk of Lua has at most 200 locals

-- register: adds a worker. Its `class` is shared by all workers that serve the same queues, to find an idle one.
register = function(p, a)
  local now, worker, class, queues = now_ms(), a.worker, a.class, a.queues
  redis.call('HSET', key_of.worker(p, worker), 'since', now, 'queues', table.concat(queues, ' '), 'class', class, unpack(a.about))
  redis.call('ZADD', key_of.leases(p), now + a.lease, worker)
  for _, queue in ipairs(queues) do
    for lane, kind in pairs(LANES) do
      redis.pcall('XGROUP', 'CREATE', lane_key(p, lane, queue), GROUP, '0', 'MKSTREAM')
      redis.call('SADD', key_of.queues(p), kind .. ':' .. queue)
    end
    redis.call('SADD', key_of.classes(p, queue), class)
  end
  chunked('SADD', key_of.serves(p, class), queues)
  chunked('HSET', key_of.workflows(p), a.served)
  -- While there is no worker, coordinators do not look at connections: the alarm changes that.
  redis.call('PUBLISH', key_of.alarm(p), now)
  return { 'ok', now }
end

-- Whether this worker should drain because something waits to be executed alone. One worker at a time does; each
-- heartbeat extends its turn.
local function makes_room(p, worker, lease)
  if redis.call('EXISTS', ready_key(p, 'a')) == 0 then return false end
  local class, key, lasts = class_of(p, worker), key_of.drain(p), math.max(1, lease)
  if not class or #redis.pcall('SINTER', ready_key(p, 'a'), key_of.serves(p, class)) == 0 then return false end
  if redis.call('SET', key, worker, 'NX', 'PX', lasts) then return true end
  return redis.pcall('GET', key) == worker and redis.call('PEXPIRE', key, lasts) == 1
end

-- heartbeat: renews a lease; one that was reaped is lost for good. Names what was cancelled since the last heartbeat,
-- and tells the worker whether to drain, that is, to let its steps end and take no new ones, so that it can execute one
-- alone.
heartbeat = function(p, a)
  local now, worker, leases = now_ms(), a.worker, key_of.leases(p)
  local is_changed = redis.call('ZADD', leases, 'XX', 'CH', now + a.lease, worker) == 1
  if not is_changed and not redis.call('ZSCORE', leases, worker) then return { 'lost', now, {}, 0 } end
  if a.client ~= '' then redis.call('HSET', key_of.clients(p), worker, a.client) end
  -- Idle workers need no news, so that a thousand of them cost as little as possible.
  if a.idle or redis.call('EXISTS', key_of.cancelled(p), ready_key(p, 'a')) == 0 then return { 'ok', now, {}, 0 } end
  local cancelled = redis.call('ZRANGEBYSCORE', key_of.cancelled(p), a.since, '+inf', 'LIMIT', 0, 1000)
  return { 'ok', now, cancelled, makes_room(p, worker, a.lease) and 1 or 0 }
end

-- Gives up one hold and requeues its step execution, ahead of new ones. `attempt` and `call` identify the hold, which
-- may have been given up before. Only a step execution held `alone` is blamed for the loss of its worker; of several,
-- any may be innocent.
requeue = function(p, worker, run, seq, attempt, call, now, kind, max_losses, retention, alone)
  local steps = key_of.steps(p, run)
  local found = redis.call('HMGET', steps, seq, 'e' .. seq, 'meta')
  local s = parse_state(found[1])
  local is_held = s.letter == 'H' and s.attempt == tonumber(attempt) and s.about == worker and s.call == call
  if not is_held then return 0 end
  local what = damage(found[1], found[2], found[3])
  if what then
    fail_damaged(p, run, seq, worker, now, what)
    return 0
  end
  local _, step = parse_record(found[2])
  note(p, run, now, kind, seq, attempt, step, worker)
  if kind ~= 'lost' then
    s.losses, s.shared = 0, 0
  elseif alone then
    s.losses = s.losses + 1
  else
    s.shared = s.shared + 1
  end
  if s.losses > max_losses then
    tell_followers(p, run, found[3], 'failed', seq, attempt, worker, found[2])
    fail_run(p, { run = run, seq = seq, attempt = attempt, step = step, worker = worker, now = now },
      'step "' .. step .. '" killed its worker ' .. s.losses .. ' times while it was executed alone '
      .. '(out of memory, or a crash in native code)', retention)
    return 0
  end
  tell_followers(p, run, found[3], 'waiting', seq, attempt, '-', found[2])
  queue_again(p, found[3], run, seq, s)
  return 1
end

-- Empties one slot and requeues what it held.
vacate = function(p, worker, slot, value, now, kind, max_losses, retention, alone)
  local call, _, run, seq, attempt = parse_slot(value)
  redis.call('HDEL', key_of.held(p, worker), slot)
  if not call or run == '' then return 0 end
  return requeue(p, worker, run, seq, attempt, call, now, kind, max_losses, retention, alone)
end

-- Whether the worker held a single step execution, in these slots. `several` tells later slices that it held more.
local function is_single(p, worker, slots, values)
  local count, about = 0, key_of.worker(p, worker)
  for _, slot in ipairs(slots) do
    local _, _, run = parse_slot(values[slot])
    if run and run ~= '' then count = count + 1 end
  end
  if redis.call('HLEN', key_of.held(p, worker)) == #slots then
    return count == 1 and redis.call('HEXISTS', about, 'several') == 0
  end
  redis.call('HSET', about, 'several', 1)
  return false
end

-- Takes back one slice of a worker's holds. True once none is left and the worker is removed.
reap_worker = function(p, worker, now, kind, limit, max_losses, retention)
  local about = redis.call('HMGET', key_of.worker(p, worker), 'queues', 'class')
  -- First, so that the requeued steps wake other workers.
  redis.call('SREM', key_of.idle(p, about[2] or ''), worker)
  -- Not HSCAN: each slice would begin at 0 again, and find nothing once the first part of the table is empty.
  local held = redis.call('HRANDFIELD', key_of.held(p, worker), limit, 'WITHVALUES')
  local slots, values, moved = {}, {}, 0
  for i = 1, #held, 2 do
    slots[#slots + 1] = held[i]
    values[held[i]] = held[i + 1]
  end
  table.sort(slots, function(a, b) return (tonumber(a) or 0) < (tonumber(b) or 0) end)
  local alone = is_single(p, worker, slots, values)
  for _, slot in ipairs(slots) do
    moved = moved + vacate(p, worker, slot, values[slot], now, kind, max_losses, retention, alone)
  end
  if redis.call('EXISTS', key_of.held(p, worker)) == 1 then return false, moved end
  for queue in string.gmatch(about[1] or '', '%S+') do redis.call('HSET', key_of.departed(p), queue, now) end
  redis.call('ZREM', key_of.leases(p), worker)
  redis.call('HDEL', key_of.clients(p), worker)
  if redis.pcall('GET', key_of.drain(p)) == worker then redis.call('UNLINK', key_of.drain(p)) end
  redis.call('UNLINK', key_of.worker(p, worker), key_of.wake(p, worker))
  return true, moved
end

deregister = function(p, a)
  local over, moved = reap_worker(p, a.worker, now_ms(), 'released', a.limit, math.huge, 0)
  return { over and 'ok' or 'more', moved }
end

-- release: releases holds that the worker does not know of, because Redis restarted without its latest writes.
release = function(p, a)
  local now, worker, fences, moved = now_ms(), a.worker, a.fences, 0
  for i = 1, #fences, 5 do
    local slot, run, seq, attempt, call = unpack(fences, i, i + 4)
    local value = redis.call('HGET', key_of.held(p, worker), slot)
    local by, _, other, number, try = parse_slot(value)
    if by == call and other == run and number == seq and try == attempt then
      moved = moved + vacate(p, worker, slot, value, now, 'released', math.huge, 0)
    end
  end
  return { moved }
end

local function fire_turn(p, timer, now)
  local run, step, from = string.match(timer, '^turn (%S+) (%S+) (%d+)$')
  local meta = run and redis.call('HGET', key_of.steps(p, run), 'meta')
  if meta then return pass_turn(p, run, meta, step, from, now) end
  -- `retry` passes the turn on.
  if run and redis.call('EXISTS', key_of.stopped(p, run)) == 1 then redis.call('HINCRBY', key_of.stopped(p, run), 'u' .. step, 1) end
end

local function fire_timer(p, timer, now, retention)
  local kind, run, seq, attempt = string.match(timer, '^(%S+) (%S+) ?(%d*) ?(%d*)')
  if kind == 'expire' then return forget(p, run) end
  if kind == 'line' then return sessions.fire_line(p, run, now) end
  if kind == 'session' then return sessions.expire(p, run) end
  if kind == 'wait' then return fire_deadline(p, timer, now) end
  if kind == 'timeout' then return fire_timeout(p, run, now, retention) end
  if kind == 'close' and seq ~= '' then return discard_closed(p, run, seq, attempt ~= '' and attempt or '0', now) end
  if kind == 'turn' then return fire_turn(p, timer, now) end
  if kind == 'again' then return fire_again(p, run, seq, tonumber(attempt) or now, now) end
  if not seq or seq == '' then return end
  local steps = key_of.steps(p, run)
  local found = redis.call('HMGET', steps, seq, 'meta')
  local s = parse_state(found[1])
  -- Comparing the due time rejects a timer of an earlier run with this id.
  if s.letter == 'W' and s.attempt == tonumber(attempt) and (tonumber(s.about) or 0) <= now then
    tell_followers(p, run, found[2], 'waiting', seq, s.attempt, '-')
    queue_again(p, found[2], run, seq, s)
  end
end

-- Publishes the prefix by which workers in other languages find the functions they call. Each coordinator writes its
-- own, which is loaded, since the coordinator is calling it.
local function offer(p)
  if redis.call('HGET', key_of.functions(p), '1') ~= '@PREFIX@v1_' then redis.call('HSET', key_of.functions(p), '1', '@PREFIX@v1_') end
end

-- reap: reclaims what dead and silent workers held, and wakes workers for what is queued. Bounded by `limit`; the
-- answer says whether more is left, how long ago each lease expired (-1 if it had not), and which runs ended: workflow,
-- status, ...
reap = function(p, a)
  local now, limit, suspects = now_ms(), a.limit, a.suspects
  local reaped, late, moved, more = {}, {}, 0, 0
  tally.ended = {}
  offer(p)
  local expired = redis.call('ZRANGEBYSCORE', key_of.leases(p), '-inf', now, 'WITHSCORES', 'LIMIT', 0, LIMIT.REAPED)
  local gone, listed = {}, {}
  for i = 1, #expired, 2 do
    gone[#gone + 1] = expired[i]
    listed[expired[i]] = math.max(0, now - (tonumber(expired[i + 1]) or now))
  end
  if #gone >= LIMIT.REAPED then more = 1 end
  for i = 1, #suspects, 2 do
    -- The worker may have a new connection by now; then the client ids differ.
    local is_known = redis.call('EXISTS', key_of.worker(p, suspects[i]), key_of.held(p, suspects[i])) > 0
    local client = is_known and (redis.call('HGET', key_of.clients(p), suspects[i]) or '0')
    if client == suspects[i + 1] and not listed[suspects[i]] then gone[#gone + 1] = suspects[i] end
  end
  for _, worker in ipairs(gone) do
    local over, count = reap_worker(p, worker, now, 'lost', limit, a.max_losses, a.retention)
    moved = moved + count
    if over then
      reaped[#reaped + 1] = worker
      late[#late + 1] = listed[worker] or -1
    else
      more = 1
    end
  end
  -- An earlier wake-up for these queues may have been lost.
  for lane in pairs(LANES) do
    for _, queue in ipairs(redis.call('SRANDMEMBER', ready_key(p, lane), limit)) do wake_worker(p, queue) end
  end
  local ended = tally.ended
  tally.ended = nil
  return { moved, more, reaped, redis.call('ZCARD', key_of.leases(p)), late, ended }
end

-- fire: fires up to `limit` due timers. The answer says whether more are due, and otherwise when the next one is.
fire = function(p, a)
  local now, limit = now_ms(), a.limit
  local due = redis.call('ZRANGEBYSCORE', key_of.timers(p), '-inf', now, 'LIMIT', 0, limit)
  local late = due[1] and math.max(0, now - (tonumber(redis.call('ZSCORE', key_of.timers(p), due[1])) or now)) or 0
  if #due > 0 then chunked('ZREM', key_of.timers(p), due) end
  tally.ended = {}
  for _, timer in ipairs(due) do fire_timer(p, timer, now, a.retention) end
  local ended = tally.ended
  tally.ended = nil
  local head = redis.call('ZRANGE', key_of.timers(p), 0, 0, 'WITHSCORES')
  local wait = head[2] and math.max(0, tonumber(head[2]) - now) or -1
  return { now, #due, #due >= limit and 1 or 0, wait, late, ended }
end
end
