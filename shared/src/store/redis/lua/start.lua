-- start: create a run unless its id or its idempotency key is known; queue its start events.

local redirect_signals

-- An entry of another partition's inbox is called `<id>@<partition>`. It cannot be taken off here: that it was dealt with is noted,
-- for an hour, and whoever called takes it off there.
local across = {} -- a chunk of Lua has at most 200 locals
function across.taken_name(p, entry)
  return string.find(entry, '@', 1, true) and p .. 'taken:' .. entry
end

local function leave_inbox(p, entry)
  local taken = across.taken_name(p, entry)
  if taken then
    redis.call('SET', taken, 1, 'PX', 3600000)
  elseif entry ~= '' then
    redis.call('XACK', p .. 'inbox', 'coordinators', entry)
    redis.call('XDEL', p .. 'inbox', entry)
  end
end

local function key_name(p, workflow, key)
  return p .. 'key:' .. workflow .. ':' .. key
end

-- See `void` in across.lua.
function across.void_name(p, run, ticket)
  return p .. 'void:' .. run .. ':' .. ticket
end

-- The run that a request with this id or idempotency key repeats; nil, and the status of a rejected one that may be
-- replaced, where it is new. A key may outlive its run: then it is new too.
local function known_run(p, run, workflow, key, key_ttl)
  local known = key ~= '' and redis.call('GET', key_name(p, workflow, key))
  local standing = known and redis.call('HGET', p .. 'run:' .. known, 'status')
  if standing and standing ~= 'rejected' then
    -- The caller knows only the id that it would have got: lead it to the run.
    if known ~= run then
      redis.call('SET', p .. 'alias:' .. run, known, 'PX', key_ttl)
      redirect_signals(p, run, known)
    end
    return known
  end
  local status = redis.call('HGET', p .. 'run:' .. run, 'status')
  if status and status ~= 'rejected' then return run end
  return nil, status
end

local start
do

-- The run that another run's context begins with; nothing where there is none of that id, or it was rejected.
local function source_of(p, from)
  local status = redis.call('HGET', p .. 'run:' .. from, 'status')
  if not status then
    from = redis.call('GET', p .. 'alias:' .. from)
    status = from and redis.call('HGET', p .. 'run:' .. from, 'status')
  end
  return status and status ~= 'rejected' and from
end

-- What the context begins with.
local function begin_context(p, run, source, fields)
  local context = p .. 'context:' .. run
  redis.call('UNLINK', context)
  if source then redis.call('COPY', p .. 'context:' .. source, context) end
  chunked('HSET', context, fields)
  if redis.call('EXISTS', context) == 1 then redis.call('HSET', p .. 'steps:' .. run, 'context', 1) end
end

start = function(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local run, workflow, version, content, input = arg(), arg(), arg(), arg(), arg()
  local key, key_ttl, delay, entry, timeout = arg(), arg(), tonumber(arg()), arg(), tonumber(arg())
  local heads, followed, from, fields = take_list(arg), arg() == '1', arg(), take_list(arg)
  local ticket, taken = arg(), across.taken_name(p, entry)
  if taken and redis.call('EXISTS', taken) == 1 then return { 'exists', run } end

  local known, status = known_run(p, run, workflow, key, key_ttl)
  if not known and ticket ~= '' and redis.call('EXISTS', across.void_name(p, run, ticket)) == 1 then return { 'void', run } end
  local source = not known and from ~= '' and source_of(p, from)
  if not known and from ~= '' and not source then return { 'no source', from } end
  leave_inbox(p, entry)
  -- One that was deferred has left the inbox before.
  if entry == '' then redis.call('HDEL', p .. 'deferred', run) end
  if known then return { 'exists', known } end
  if status then
    forget(p, run)
    redis.call('ZREM', p .. 'timers', 'expire ' .. run)
  end
  if key ~= '' then redis.call('SET', key_name(p, workflow, key), run, 'PX', key_ttl) end
  redis.call('HSET', p .. 'run:' .. run, 'status', 'queued', 'workflow', workflow, 'version', version,
    'content', content, 'created', now)
  redis.call('SET', p .. 'input:' .. run, input)
  local meta = workflow .. ' ' .. version .. ' ' .. content .. (followed and ' follow' or '')
  if source or #fields > 0 then begin_context(p, run, source, fields) end
  local about = { 'meta', meta, 'last', #heads, 'n0', #heads, 'born', now }
  -- A run that is created a second time shows that.
  redis.call('RPUSHX', p .. 'history:' .. run, start_record(now, meta))
  redis.call('ZADD', p .. 'runs', now, run)
  if timeout >= 0 then
    local due = now + delay + timeout
    redis.call('HSET', p .. 'run:' .. run, 'timeout', timeout, 'deadline', due)
    about[#about + 1], about[#about + 2] = 'timed', 1
    set_timer(p, now, due, 'timeout ' .. run)
  end
  if delay > 0 then
    redis.call('HSET', p .. 'steps:' .. run, unpack(about))
    for seq, head in ipairs(heads) do
      take_turn(p, run, seq, head)
      redis.call('HSET', p .. 'steps:' .. run, seq, state_line('W', NEW, now + delay), 'e' .. seq, head)
      tell_followers(p, run, meta, 'waiting', seq, 0, '-')
      set_timer(p, now, now + delay, 'step ' .. run .. ' ' .. seq .. ' 0')
    end
  else
    create(p, run, meta, 1, heads, nil, about)
  end
  return { 'started', run }
end
end

-- defer: keep a request for a workflow that nobody serves yet.
local function defer(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local run, request, entry, limit = arg(), arg(), arg(), tonumber(arg())
  local workflow, key, key_ttl = arg(), arg(), arg()
  if known_run(p, run, workflow, key, key_ttl) then
    leave_inbox(p, entry)
    return { 'exists', now }
  end
  local waiting = redis.call('HEXISTS', p .. 'deferred', run) == 1
  if not waiting and redis.call('HLEN', p .. 'deferred') >= limit then return { 'full', now } end
  redis.call('HSETNX', p .. 'deferred', run, now .. ' ' .. request)
  leave_inbox(p, entry)
  return { 'deferred', now }
end

-- reject: keep what could not be taken, with the reason; show it as a run when an id was given.
local function reject(keys, argv)
  local p, arg, now = keys[1], cursor(argv), now_ms()
  local entry, deferred, run, reason, limit, retention = arg(), arg(), arg(), arg(), arg(), tonumber(arg())
  local fields = take_list(arg)
  leave_inbox(p, entry)
  -- Of several coordinators that judge a deferred request, one rejects it.
  if deferred ~= '' and redis.call('HDEL', p .. 'deferred', deferred) == 0 then return { 'gone', run } end
  if limit ~= '0' then
    redis.call('XADD', p .. 'rejected', 'MAXLEN', '~', limit, '*', 'reason', reason, 'entry', entry, unpack(fields))
  end
  -- A good request that waits under the same id keeps it.
  local taken = run == '' or redis.call('EXISTS', p .. 'run:' .. run, p .. 'alias:' .. run) > 0
  if not taken and redis.call('HEXISTS', p .. 'deferred', run) == 0 then
    redis.call('HSET', p .. 'run:' .. run, 'status', 'rejected', 'error', reason, 'created', now, 'finished', now,
      'expires', now + retention)
    redis.call('ZADD', p .. 'runs', now, run)
    set_timer(p, now, now + retention, 'expire ' .. run)
    redis.call('PUBLISH', p .. 'ended:' .. run, 'rejected')
  end
  return { 'rejected', run }
end
