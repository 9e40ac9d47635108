-- pause: no step execution of a run begins while the field `paused` of its steps hash is set. Claims drop its queue
-- entries, successors are not handed over, and timers and signals take effect but resume no step. resume: requeues what
-- was held back, as a retry does.

local pause, resume
do -- a chunk of Lua has at most 200 locals

pause = function(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  if across.is_repeated(p, a) then return { 'repeated' } end
  local stands, run = standing(p, a.asked)
  local now, steps = now_ms(), key_of.steps(p, run)
  -- The run has lost its steps, and only an audit can end it.
  if stands == 'live' and redis.call('HEXISTS', steps, 'meta') == 0 then stands = 'over' end
  if stands == 'over' or stands == 'unknown' then return { stands } end
  across.settle_request(p, a, 'taken')
  if stands == 'waiting' then
    local sent = key_of.sent(p, run)
    if redis.call('LPOS', sent, HELD_PAUSED) then return { 'already' } end
    redis.call('RPUSH', sent, HELD_PAUSED)
    return { 'paused' }
  end
  local held = redis.call('HGET', steps, 'paused')
  if held and held ~= sessions.IN_LINE then return { 'already' } end
  redis.call('HSET', steps, 'paused', held and sessions.held_back(now) or now)
  redis.call('HSET', key_of.run(p, run), 'status', 'paused')
  note(p, run, now, 'paused', 0, 0, '-', '-')
  return { 'paused' }
end

resume = function(p, a)
  if is_gone(p, a.entry) then return { 'gone' } end
  if across.is_repeated(p, a) then return { 'repeated' } end
  local stands, run = standing(p, a.asked)
  if stands == 'over' or stands == 'unknown' then return { stands } end
  across.settle_request(p, a, 'taken')
  if stands == 'waiting' then return { redis.call('LREM', key_of.sent(p, run), 0, HELD_PAUSED) > 0 and 'resumed' or 'already' } end
  local now, key, steps = now_ms(), key_of.run(p, run), key_of.steps(p, run)
  local held = redis.call('HGET', steps, 'paused')
  if not held or held == sessions.IN_LINE then return { 'already' } end
  local in_line = sessions.is_in_line(held)
  if in_line then redis.call('HSET', steps, 'paused', sessions.IN_LINE) else redis.call('HDEL', steps, 'paused') end
  redis.call('HSET', key, 'status', redis.call('HEXISTS', key, 'started') == 1 and 'running' or 'queued')
  note(p, run, now, 'resumed', 0, 0, '-', '-')
  if in_line then return { 'resumed' } end
  -- `since` 0: all holds were claimed before the pause, and stay.
  fire_again(p, run, '0', 0, now)
  return { 'resumed' }
end
end
