-- Workers and their leases; recovery of what the dead held; timers. All on Redis' clock.

local register, heartbeat, deregister, release, tick, requeue, reap, fire_deadline, fire_timeout
do -- a chunk of Lua has at most 200 locals

local REAPED = 5 -- workers whose lease ran out are taken back so many at a time

-- `class` stands for all workers that serve the same queues: an idle one of them is found by it.
register = function(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, lease, class, about = arg(), tonumber(arg()), arg(), take_list(arg)
  local queues, served = take_list(arg), take_list(arg)
  redis.call('HSET', p .. 'worker:' .. worker, 'since', now, 'queues', table.concat(queues, ' '), 'class', class, unpack(about))
  redis.call('ZADD', p .. 'leases', now + lease, worker)
  for _, queue in ipairs(queues) do
    for _, lane in pairs(LANES) do
      redis.pcall('XGROUP', 'CREATE', p .. lane .. queue, GROUP, '0', 'MKSTREAM')
      redis.call('SADD', p .. 'queues', lane .. queue)
    end
    redis.call('SADD', p .. 'classes:' .. queue, class)
  end
  chunked('SADD', p .. 'serves:' .. class, queues)
  chunked('HSET', p .. 'workflows', served)
  -- Coordinators look after workers from now on.
  redis.call('PUBLISH', p .. 'alarm', now)
  return { 'ok', now }
end

-- Is this worker to make room, as something waits to be executed alone? One worker at a time is, as long as it says so itself.
local function makes_room(p, worker, lease)
  if redis.call('EXISTS', p .. READY.a) == 0 then return false end
  local class, key, lasts = class_of(p, worker), p .. 'drain', math.max(1, lease)
  if not class or #redis.pcall('SINTER', p .. READY.a, p .. 'serves:' .. class) == 0 then return false end
  if redis.call('SET', key, worker, 'NX', 'PX', lasts) then return true end
  return redis.pcall('GET', key) == worker and redis.call('PEXPIRE', key, lasts) == 1
end

-- heartbeat: renews a lease that is still there; one that was reaped is lost for good. Names the runs that were cancelled since
-- the last one, and says whether the worker is to let its steps end and take no new ones, to execute one alone.
heartbeat = function(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, lease, client, since = arg(), tonumber(arg()), arg(), arg()
  local leases = p .. 'leases'
  local is_changed = redis.call('ZADD', leases, 'XX', 'CH', now + lease, worker) == 1
  if not is_changed and not redis.call('ZSCORE', leases, worker) then return { 'lost', now, {}, 0 } end
  if client ~= '' then redis.call('HSET', p .. 'clients', worker, client) end
  -- A thousand idle workers are to cost as little as can be.
  if redis.call('EXISTS', p .. 'cancelled', p .. READY.a) == 0 then return { 'ok', now, {}, 0 } end
  local cancelled = redis.call('ZRANGEBYSCORE', p .. 'cancelled', since, '+inf', 'LIMIT', 0, 1000)
  return { 'ok', now, cancelled, makes_room(p, worker, lease) and 1 or 0 }
end

-- Gives one hold up and queues its step execution again, ahead of what is new. `attempt` and `call` are those of the hold: it may
-- have been given up before. A worker is lost through the one that it held `alone`; of several any may be innocent.
requeue = function(p, worker, run, seq, attempt, call, now, kind, max_losses, retention, alone)
  local steps = p .. 'steps:' .. run
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

-- Empties one slot.
vacate = function(p, worker, slot, value, now, kind, max_losses, retention, alone)
  local call, _, run, seq, attempt = parse_slot(value)
  redis.call('HDEL', p .. 'held:' .. worker, slot)
  if not call or run == '' then return 0 end
  return requeue(p, worker, run, seq, attempt, call, now, kind, max_losses, retention, alone)
end

-- Whether these are all slots that a worker has, and one step execution in them. `several` tells later slices that it had more.
local function is_single(p, worker, slots, values)
  local count, about = 0, p .. 'worker:' .. worker
  for _, slot in ipairs(slots) do
    local _, _, run = parse_slot(values[slot])
    if run and run ~= '' then count = count + 1 end
  end
  if redis.call('HLEN', p .. 'held:' .. worker) == #slots then
    return count == 1 and redis.call('HEXISTS', about, 'several') == 0
  end
  redis.call('HSET', about, 'several', 1)
  return false
end

-- One slice of taking back all that a worker has. True when nothing is left and the worker is forgotten.
reap = function(p, worker, now, kind, limit, max_losses, retention)
  local about = redis.call('HMGET', p .. 'worker:' .. worker, 'queues', 'class')
  -- First: what is queued again must wake somebody else.
  redis.call('SREM', p .. 'idle:' .. (about[2] or ''), worker)
  -- Not HSCAN: begun anew in each slice, it finds nothing once the first part of the table is empty.
  local held = redis.call('HRANDFIELD', p .. 'held:' .. worker, limit, 'WITHVALUES')
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
  if redis.call('EXISTS', p .. 'held:' .. worker) == 1 then return false, moved end
  for queue in string.gmatch(about[1] or '', '%S+') do redis.call('HSET', p .. 'departed', queue, now) end
  redis.call('ZREM', p .. 'leases', worker)
  redis.call('HDEL', p .. 'clients', worker)
  if redis.pcall('GET', p .. 'drain') == worker then redis.call('UNLINK', p .. 'drain') end
  redis.call('UNLINK', p .. 'worker:' .. worker, p .. 'wake:' .. worker)
  return true, moved
end

deregister = function(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local over, moved = reap(p, arg(), now, 'released', tonumber(arg()), math.huge, 0)
  return { over and 'ok' or 'more', moved }
end

-- release: gives back holds that the worker knows nothing of, because Redis came back without its last moments.
release = function(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, fences, moved = arg(), take_list(arg), 0
  for i = 1, #fences, 5 do
    local slot, run, seq, attempt, call = unpack(fences, i, i + 4)
    local value = redis.call('HGET', p .. 'held:' .. worker, slot)
    local by, _, other, number, try = parse_slot(value)
    if by == call and other == run and number == seq and try == attempt then
      moved = moved + vacate(p, worker, slot, value, now, 'released', math.huge, 0)
    end
  end
  return { moved }
end


local function fire_turn(p, timer, now)
  local run, step, from = string.match(timer, '^turn (%S+) (%S+) (%d+)$')
  local meta = run and redis.call('HGET', p .. 'steps:' .. run, 'meta')
  if meta then pass_turn(p, run, meta, step, from, now) end
end

local function fire(p, timer, now, retention)
  local kind, run, seq, attempt = string.match(timer, '^(%S+) (%S+) ?(%d*) ?(%d*)')
  if kind == 'expire' then return forget(p, run) end
  if kind == 'wait' then return fire_deadline(p, timer, now) end
  if kind == 'timeout' then return fire_timeout(p, run, now, retention) end
  if kind == 'close' and seq ~= '' then return sweep_closed(p, run, seq, attempt ~= '' and attempt or '0', now) end
  if kind == 'turn' then return fire_turn(p, timer, now) end
  if not seq or seq == '' then return end
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'meta')
  local s = parse_state(found[1])
  -- The due time tells a timer of an earlier run of this id from this one's.
  if s.letter == 'W' and s.attempt == tonumber(attempt) and (tonumber(s.about) or 0) <= now then
    tell_followers(p, run, found[2], 'waiting', seq, s.attempt, '-')
    queue_again(p, found[2], run, seq, s)
  end
end

-- Workers in other languages find the functions that they call by this. Each coordinator writes its own, which are there: whoever
-- calls this has them.
local function offer(p)
  if redis.call('HGET', p .. 'functions', '1') ~= '@PREFIX@v1_' then redis.call('HSET', p .. 'functions', '1', '@PREFIX@v1_') end
end

-- tick: take back what dead and silent workers held; fire what is due. Bounded by `limit`; the answer says if more is waiting.
tick = function(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local limit, max_losses, retention = tonumber(arg()), tonumber(arg()), tonumber(arg())
  local suspects, reaped, moved, more = take_list(arg), {}, 0, 0
  offer(p)
  local gone, listed = redis.call('ZRANGEBYSCORE', p .. 'leases', '-inf', now, 'LIMIT', 0, REAPED), {}
  if #gone >= REAPED then more = 1 end
  for _, worker in ipairs(gone) do listed[worker] = true end
  for i = 1, #suspects, 2 do
    -- The client id says which connection was seen closed: the worker may have a new one by now.
    local is_known = redis.call('EXISTS', p .. 'worker:' .. suspects[i], p .. 'held:' .. suspects[i]) > 0
    local client = is_known and (redis.call('HGET', p .. 'clients', suspects[i]) or '0')
    if client == suspects[i + 1] and not listed[suspects[i]] then gone[#gone + 1] = suspects[i] end
  end
  for _, worker in ipairs(gone) do
    local over, count = reap(p, worker, now, 'lost', limit, max_losses, retention)
    moved = moved + count
    if over then reaped[#reaped + 1] = worker else more = 1 end
  end
  local due = redis.call('ZRANGEBYSCORE', p .. 'timers', '-inf', now, 'LIMIT', 0, limit)
  if #due > 0 then chunked('ZREM', p .. 'timers', due) end
  for _, timer in ipairs(due) do fire(p, timer, now, retention) end
  if #due >= limit then more = 1 end
  -- Nobody may have heard the wake-up of what is queued.
  for _, ready in pairs(READY) do
    for _, queue in ipairs(redis.call('SRANDMEMBER', p .. ready, limit)) do wake_worker(p, queue) end
  end
  local head = redis.call('ZRANGE', p .. 'timers', 0, 0, 'WITHSCORES')
  local wait = head[2] and math.max(0, tonumber(head[2]) - now) or -1
  return { now, moved, #due, more, wait, reaped, redis.call('ZCARD', p .. 'leases') }
end
end
