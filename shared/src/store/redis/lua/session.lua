-- Sessions: their runs execute one after another and share a context. `line:<name>` has the live runs, starting with
-- the one whose turn it is; `session:<name>` names that run, and `shared:<name>` has the context. A run that waits for
-- its turn is held back like a paused one: the field `paused` of its steps hash is `line`, or `line <since>` if it is
-- paused too.

do

local IN_LINE = 'line'
sessions.IN_LINE = IN_LINE
-- As `later` of `create`: the step execution is queued when the run gets its turn.
sessions.HELD = {}

function sessions.is_in_line(held)
  return held and string.sub(held, 1, #IN_LINE) == IN_LINE
end

-- The field `paused` of a run that waits for its turn, and has been paused since `since`, if given.
function sessions.held_back(since)
  return since and IN_LINE .. ' ' .. since or IN_LINE
end

function sessions.is_full(p, name)
  return redis.call('LLEN', key_of.line(p, name)) >= LIMIT.MAX_LINE
end

function sessions.why_full(name)
  return 'too many runs of session ' .. name .. ' wait for their turn'
end

-- Gives the turn to this run.
function sessions.take(p, run, name)
  local key = key_of.session(p, name)
  redis.call('HSET', key, 'running', run)
  if redis.call('HDEL', key, 'expires') == 1 then redis.call('ZREM', key_of.timers(p), 'session ' .. name) end
end

-- Gives the session's context to a run, unless it was retried and has its own.
local function take_context(p, run, name)
  local key = key_of.run(p, run)
  if redis.call('HSETNX', key, 'based', redis.call('HGET', key_of.session(p, name), 'version') or 0) == 0 then return end
  sessions.begin_context(p, run, key_of.shared(p, name), redis.call('HGETALL', key_of.context(p, run)))
end

local function begin_turn(p, run, name, now)
  local key, steps = key_of.run(p, run), key_of.steps(p, run)
  sessions.take(p, run, name)
  take_context(p, run, name)
  local since = string.match(redis.call('HGET', steps, 'paused') or '', ' (%d+)$')
  if since then redis.call('HSET', steps, 'paused', since) else redis.call('HDEL', steps, 'paused') end
  local timeout = tonumber(redis.call('HGET', key, 'timeout') or '')
  if timeout then
    redis.call('HSET', key, 'deadline', now + timeout)
    redis.call('HSET', steps, 'limited', 1)
    set_timer(p, now, now + timeout, 'timeout ' .. run)
  end
  if not since then fire_again(p, run, '0', 0, now) end
end

-- Keeps a session without live runs until `expires`.
function sessions.rest(p, name, now, expires)
  redis.call('HSET', key_of.session(p, name), 'expires', expires)
  set_timer(p, now, expires, 'session ' .. name)
end

-- Gives the turn to the first run in the line.
function sessions.go_on(p, name, now, expires)
  local line = key_of.line(p, name)
  local run = redis.call('LINDEX', line, 0)
  while run do
    local found = redis.call('HMGET', key_of.steps(p, run), 'meta', 'paused')
    if found[1] and not sessions.is_in_line(found[2]) then return sessions.take(p, run, name) end
    if found[1] then
      note(p, run, now, 'turn', 0, 0, '-', '-', name)
      return begin_turn(p, run, name, now)
    end
    redis.call('LPOP', line)
    run = redis.call('LINDEX', line, 0)
  end
  sessions.rest(p, name, now, expires)
end

-- Appends the run to the line. If the line was empty, its turn begins.
local function enter(p, run, name, now)
  local line = key_of.line(p, name)
  local before = redis.call('LINDEX', line, -1) or redis.call('HGET', key_of.session(p, name), 'running')
  redis.call('RPUSH', line, run)
  if not before then return begin_turn(p, run, name, now) end
  note(p, run, now, 'in-line', 0, 0, '-', '-', name .. ' ' .. before)
end

-- Enters a new or retried run, which is held back, into the line, once its delay is over.
function sessions.join(p, run, name, now, delay)
  redis.call('HSET', key_of.run(p, run), 'session', name)
  redis.call('SADD', key_of.extra(p, run), key_of.session(p, name))
  if delay == 0 then return enter(p, run, name, now) end
  set_timer(p, now, now + delay, 'line ' .. run)
end

function sessions.fire_line(p, run, now)
  local name = redis.call('HGET', key_of.run(p, run), 'session')
  if not name or not sessions.is_in_line(redis.call('HGET', key_of.steps(p, run), 'paused')) then return end
  if redis.call('LPOS', key_of.line(p, name), run) then return end
  if sessions.is_full(p, name) then return set_timer(p, now, now + LIMIT.LINE_MS, 'line ' .. run) end
  enter(p, run, name, now)
end

-- All fields of a hash, by name.
local function fields_of(key)
  local all, found = redis.call('HGETALL', key), {}
  for i = 1, #all, 2 do found[all[i]] = all[i + 1] end
  return found
end

-- Copies the context of a completed run to the session. If others completed since it began (because it was retried),
-- copies only its changes.
local function share_context(p, run, name)
  local key, shared, own = key_of.session(p, name), key_of.shared(p, name), key_of.context(p, run)
  if redis.call('HGET', key_of.run(p, run), 'based') == (redis.call('HGET', key, 'version') or '0') then
    redis.call('UNLINK', shared)
    redis.call('COPY', own, shared)
  else
    local before, after, set, unset = fields_of(key_of.begun(p, run)), fields_of(own), {}, {}
    for field, value in pairs(after) do
      if before[field] ~= value then set[#set + 1], set[#set + 2] = field, value end
    end
    for field in pairs(before) do
      if not after[field] then unset[#unset + 1] = field end
    end
    chunked('HSET', shared, set)
    chunked('HDEL', shared, unset)
  end
  redis.call('HINCRBY', key, 'version', 1)
end

-- Removes a run that has ended from the line, and gives the turn to the next one. `finish` calls this last.
function sessions.leave(p, run, name, now, status, retention)
  local key, line = key_of.session(p, name), key_of.line(p, name)
  local is_first = redis.call('LINDEX', line, 0) == run or redis.call('HGET', key, 'running') == run
  redis.call('LREM', line, 0, run)
  redis.call('ZREM', key_of.timers(p), 'line ' .. run)
  if not is_first then return end
  if status == 'completed' then share_context(p, run, name) end
  redis.call('HDEL', key, 'running')
  sessions.go_on(p, name, now, now + retention)
end

function sessions.expire(p, name)
  if redis.call('HEXISTS', key_of.session(p, name), 'running') == 1 or redis.call('EXISTS', key_of.line(p, name)) == 1 then return end
  redis.call('UNLINK', key_of.session(p, name), key_of.shared(p, name))
end
end
