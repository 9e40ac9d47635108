-- Workers and their leases; recovery of what the dead held; timers. All on Redis' clock.

local SWEEP = 5 -- workers whose lease ran out are taken back so many at a time

local function register(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, lease, about = arg(), tonumber(arg()), take(arg)
  local queues, served = take(arg), take(arg)
  redis.call('HSET', p .. 'worker:' .. worker, 'since', now, 'queues', table.concat(queues, ' '), unpack(about))
  redis.call('ZADD', p .. 'leases', now + lease, worker)
  for _, queue in ipairs(queues) do
    for _, kind in ipairs({ 'requeued:', 'queue:' }) do
      redis.pcall('XGROUP', 'CREATE', p .. kind .. queue, GROUP, '0', 'MKSTREAM')
      redis.call('SADD', p .. 'queues', kind .. queue)
    end
  end
  chunked('HSET', p .. 'workflows', served)
  return { 'ok', now }
end

-- beat: renews a lease that is still there; one that was swept is lost for good. Names the runs that were cancelled since
-- the last beat.
local function beat(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, lease, client, since = arg(), tonumber(arg()), arg(), arg()
  if not redis.call('ZSCORE', p .. 'leases', worker) then return { 'lost', now, {} } end
  redis.call('ZADD', p .. 'leases', now + lease, worker)
  redis.call('HSET', p .. 'worker:' .. worker, 'client', client)
  return { 'ok', now, redis.call('ZRANGEBYSCORE', p .. 'cancelled', since, '+inf', 'LIMIT', 0, 1000) }
end

-- Gives one hold up and queues its step execution again, ahead of what is new.
local function requeue(p, worker, field, value, now, kind, max_losses, retention)
  local run, seq = string.match(field, '^(%S+) (%d+)$')
  local attempt, call = string.match(value, '^(%d+) (%d+)$')
  redis.call('HDEL', p .. 'held:' .. worker, field)
  if not run or not attempt then return 0 end
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, seq, 'e' .. seq, 'meta')
  local s = parse_state(found[1])
  if not holds(s, attempt, worker, call) then return 0 end
  local what = damage(found[1], found[2], found[3])
  if what then
    fail_damaged(p, run, seq, worker, now, what)
    return 0
  end
  local _, step = parse_record(found[2])
  note(p, run, now, kind, seq, attempt, step, worker)
  if kind == 'lost' then s.losses = s.losses + 1 end
  if s.losses > max_losses then
    tell_followers(p, run, found[3], 'failed', seq, attempt, worker, found[2])
    fail_run(p, { run = run, seq = seq, attempt = attempt, step = step, worker = worker, now = now },
      'step "' .. step .. '" lost its worker ' .. s.losses .. ' times; it may be what kills them '
      .. '(memory, a crash in native code)', retention)
    return 0
  end
  tell_followers(p, run, found[3], 'waiting', seq, attempt, '-', found[2])
  queue_again(p, found[3], run, seq, s)
  return 1
end

-- Puts an entry elsewhere, and notes where. Nothing where its run has ended or it was a second entry for its step.
local function move_entry(p, old, fields)
  local run, number, is_step = fields[2], fields[4], fields[1] == 'run'
  local steps = p .. 'steps:' .. run
  local found = redis.call('HMGET', steps, is_step and number or 'q' .. number, 'meta')
  if not found[1] or not found[2] then return end
  if not is_step then
    if found[1] == old then redis.call('HSET', steps, 'q' .. number, append(p, 'r', queue_of(found[2]), 'fan', run, number)) end
    return
  end
  local s = parse_state(found[1])
  if s.letter == 'Q' and s.about == old then queue_again(p, found[2], run, number, s) end
end

-- Queues again the entries that were delivered to a reader but never begun.
local function requeue_delivered(p, name, entries)
  local stream, lane = p .. name, string.sub(name, 1, 1)
  for _, pending in ipairs(entries) do
    local entry = redis.call('XRANGE', stream, pending[1], pending[1])[1]
    redis.call('XACK', stream, GROUP, pending[1])
    if entry then
      redis.call('XDEL', stream, pending[1])
      if #entry[2] == 4 then move_entry(p, lane .. pending[1], entry[2]) end
    end
  end
  return #entries
end

-- One slice of taking back all that a worker has. True when nothing is left and the worker is forgotten.
local function sweep(p, worker, now, kind, limit, max_losses, retention)
  -- Not HSCAN: begun anew in each slice, it finds nothing once the first part of the table is empty.
  local held = redis.call('HRANDFIELD', p .. 'held:' .. worker, limit, 'WITHVALUES')
  local moved = 0
  for i = 1, #held, 2 do
    moved = moved + requeue(p, worker, held[i], held[i + 1], now, kind, max_losses, retention)
  end
  if redis.call('EXISTS', p .. 'held:' .. worker) == 1 then return false, moved end
  local queues = redis.call('HGET', p .. 'worker:' .. worker, 'queues') or ''
  for queue in string.gmatch(queues, '%S+') do
    for _, prefix in ipairs({ 'requeued:', 'queue:' }) do
      local stream = p .. prefix .. queue
      local pending = redis.pcall('XPENDING', stream, GROUP, '-', '+', limit, worker)
      if not pending.err then
        moved = moved + requeue_delivered(p, prefix .. queue, pending)
        if #pending >= limit then return false, moved end
        redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, worker)
      end
    end
  end
  for queue in string.gmatch(queues, '%S+') do redis.call('HSET', p .. 'departed', queue, now) end
  redis.call('ZREM', p .. 'leases', worker)
  redis.call('UNLINK', p .. 'worker:' .. worker)
  return true, moved
end

local function leave(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local over, moved = sweep(p, arg(), now, 'released', tonumber(arg()), math.huge, 0)
  return { over and 'ok' or 'more', moved }
end

-- release: gives back holds that the worker knows nothing of, because Redis came back without its last moments.
local function release(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local worker, fences, moved = arg(), take(arg), 0
  for i = 1, #fences, 2 do
    if redis.call('HGET', p .. 'held:' .. worker, fences[i]) == fences[i + 1] then
      moved = moved + requeue(p, worker, fences[i], fences[i + 1], now, 'released', math.huge, 0)
    end
  end
  return { moved }
end

local fire_deadline, fire_timeout

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

-- tick: take back what dead and silent workers held; fire what is due. Bounded by `limit`; the answer says if more is waiting.
local function tick(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local limit, max_losses, retention = tonumber(arg()), tonumber(arg()), tonumber(arg())
  local suspects, swept, moved, more = take(arg), {}, 0, 0
  local gone, listed = redis.call('ZRANGEBYSCORE', p .. 'leases', '-inf', now, 'LIMIT', 0, SWEEP), {}
  if #gone >= SWEEP then more = 1 end
  for _, worker in ipairs(gone) do listed[worker] = true end
  for i = 1, #suspects, 2 do
    -- The client id says which connection was seen closed: the worker may have a new one by now.
    local client = redis.call('HGET', p .. 'worker:' .. suspects[i], 'client')
    if client == suspects[i + 1] and not listed[suspects[i]] then gone[#gone + 1] = suspects[i] end
  end
  for _, worker in ipairs(gone) do
    local over, count = sweep(p, worker, now, 'lost', limit, max_losses, retention)
    moved = moved + count
    if over then swept[#swept + 1] = worker else more = 1 end
  end
  local due = redis.call('ZRANGEBYSCORE', p .. 'timers', '-inf', now, 'LIMIT', 0, limit)
  if #due > 0 then chunked('ZREM', p .. 'timers', due) end
  for _, timer in ipairs(due) do fire(p, timer, now, retention) end
  if #due >= limit then more = 1 end
  local head = redis.call('ZRANGE', p .. 'timers', 0, 0, 'WITHSCORES')
  local wait = head[2] and math.max(0, tonumber(head[2]) - now) or -1
  return { now, moved, #due, more, wait, swept }
end

-- Consumers that no worker answers to: a zombie's reader made them after the worker was swept.
local function drop_strangers(p, name, idle)
  for _, about in ipairs(redis.call('XINFO', 'CONSUMERS', p .. name, GROUP)) do
    local consumer = {}
    for i = 1, #about, 2 do consumer[about[i]] = about[i + 1] end
    if consumer.pending == 0 and consumer.idle >= idle and not redis.call('ZSCORE', p .. 'leases', consumer.name) then
      redis.call('XGROUP', 'DELCONSUMER', p .. name, GROUP, consumer.name)
    end
  end
end

-- orphans: queue again what was delivered and not begun for `idle` ms, whoever it was delivered to.
local function orphans(keys, argv)
  local p, arg = keys[1], cursor(argv)
  local name, idle, limit = arg(), arg(), tonumber(arg())
  local pending = redis.pcall('XPENDING', p .. name, GROUP, 'IDLE', idle, '-', '+', limit)
  if pending.err then return { 0, 0 } end
  local count = requeue_delivered(p, name, pending)
  if count == 0 then drop_strangers(p, name, tonumber(idle)) end
  return { count, count >= limit and 1 or 0 }
end
