-- start: creates a run and queues its start events, unless its id or idempotency key is known.

local redirect_signals

-- An entry of another partition's inbox is named `<id>@<partition>`. It cannot be removed here: this records for an
-- hour that it was processed, and the caller removes it there.
local across = {} -- a chunk of Lua has at most 200 locals
function across.taken_name(p, entry)
  return string.find(entry, '@', 1, true) and key_of.taken(p, entry)
end

local function leave_inbox(p, entry)
  local taken = across.taken_name(p, entry)
  if taken then
    redis.call('SET', taken, 1, 'PX', 3600000)
  elseif entry ~= '' then
    redis.call('XACK', key_of.inbox(p), 'coordinators', entry)
    redis.call('XDEL', key_of.inbox(p), entry)
  end
end

-- Whether an earlier try has processed the inbox entry.
local function is_gone(p, entry)
  local taken = across.taken_name(p, entry)
  if taken then return redis.call('EXISTS', taken) == 1 end
  return entry ~= '' and #redis.call('XRANGE', key_of.inbox(p), entry, entry) == 0
end

-- Whether the request repeats one with the same id for the same run, as the request names it, even if that is an alias.
-- A repeated request leaves the inbox without effect, and the requester gets a receipt with the outcome of the first.
function across.is_repeated(p, a)
  local fate = a.request ~= '' and redis.call('GET', key_of.request(p, a.asked, a.request))
  if fate ~= 'taken' and fate ~= 'kept' then return false end
  if a.reply ~= '' then receipts.push(p, a.reply, fate, a.asked, 'entry', a.entry, 'request', a.request) end
  leave_inbox(p, a.entry)
  return true
end

-- Settles a request as `taken`, or `kept` for later, with a receipt. If the request created a `run`, the receipt
-- reports that instead.
function across.settle_request(p, a, fate, run, is_repeated)
  if a.request ~= '' then redis.call('SET', key_of.request(p, a.asked, a.request), fate, 'PX', LIMIT.REQUEST_MS) end
  if a.reply ~= '' and run then
    receipts.started(p, run, { a.reply }, a.entry, a.request, is_repeated)
  elseif a.reply ~= '' then
    receipts.push(p, a.reply, fate, a.asked, 'entry', a.entry, 'request', a.request)
  end
  leave_inbox(p, a.entry)
end

-- Special items among what was sent to a run whose request is deferred: that it starts paused; and, after the second
-- prefix, its parent.
local HELD_PAUSED, HELD_CHILD = 'paused', 'child '

-- Ends the deferral of a request. What was sent to its run meanwhile goes through the inbox again. Returns whether it
-- was deferred, whether to start it paused (left to the caller if it `starts`), and who waits for it.
function across.hold_no_more(p, run, starts)
  if redis.call('HDEL', key_of.deferred(p), run) == 0 then return false, false, nil end
  local key, is_paused, parent = key_of.sent(p, run), false, nil
  for _, kept in ipairs(redis.call('LRANGE', key, 0, -1)) do
    local fields
    if kept == HELD_PAUSED then
      is_paused = true
      fields = not starts and { 'op', 'pause', 'run', run }
    elseif string.sub(kept, 1, #HELD_CHILD) == HELD_CHILD then
      parent = string.sub(kept, #HELD_CHILD + 1)
    else
      local stop = string.find(kept, '\n', 1, true)
      local event, step, content = string.match(string.sub(kept, 1, stop - 1), '^(%S+) (%S*) (%S+)$')
      fields = { 'op', 'send', 'run', run, 'event', event, 'content', content, 'input', string.sub(kept, stop + 1) }
      if step ~= '' then fields[#fields + 1], fields[#fields + 2] = 'step', step end
    end
    if fields then redis.call('XADD', key_of.inbox(p), '*', unpack(fields)) end
  end
  redis.call('UNLINK', key)
  return true, is_paused, parent
end

-- The run that a request with this id or idempotency key repeats. If the request is new, nil and the status of a
-- rejected one that it may replace. It is also new if the key has outlived its run.
local function known_run(p, run, workflow, key, key_ttl)
  local known = key ~= '' and redis.call('GET', key_of.key(p, workflow, key))
  local standing = known and redis.call('HGET', key_of.run(p, known), 'status')
  if standing and standing ~= 'rejected' then
    -- The caller only knows its own id; the alias leads it to the run.
    if known ~= run then
      redis.call('SET', key_of.alias(p, run), known, 'PX', key_ttl)
      redirect_signals(p, run, known)
    end
    return known
  end
  local status = redis.call('HGET', key_of.run(p, run), 'status')
  if status and status ~= 'rejected' then return run end
  return nil, status
end

local start
do

-- The run whose context a new run starts with; nil if no run has that id, or it was rejected.
local function source_of(p, from)
  local status = redis.call('HGET', key_of.run(p, from), 'status')
  if not status then
    from = redis.call('GET', key_of.alias(p, from))
    status = from and redis.call('HGET', key_of.run(p, from), 'status')
  end
  return status and status ~= 'rejected' and from
end

-- Writes the initial context: that of the key `source`, if given, overridden by these fields.
local function begin_context(p, run, source, fields)
  local context = key_of.context(p, run)
  redis.call('UNLINK', context)
  if source then redis.call('COPY', source, context) end
  chunked('HSET', context, fields)
  -- Forks need the initial context, and the run will change its own.
  if redis.call('COPY', context, key_of.begun(p, run), 'REPLACE') == 1 then redis.call('HSET', key_of.steps(p, run), 'context', 1) end
end

sessions.begin_context = begin_context

start = function(p, a)
  local now, run, workflow, key, delay, entry, from = now_ms(), a.run, a.workflow, a.key, a.delay, a.entry, a.from
  local session = a.session ~= '' and a.session
  local taken = across.taken_name(p, entry)
  if taken and redis.call('EXISTS', taken) == 1 then return { 'exists', run } end
  -- A held request may have been repeated: all of its lists get receipts.
  local lists = entry == '' and receipts.lists(p, run) or a.reply ~= '' and not is_gone(p, entry) and { a.reply } or {}

  local known, status = known_run(p, run, workflow, key, a.key_ttl)
  if not known and a.ticket ~= '' and redis.call('EXISTS', key_of.void(p, run, a.ticket)) == 1 then return { 'void', run } end
  local source = not known and from ~= '' and source_of(p, from)
  if not known and from ~= '' and not source then return { 'no source', from } end
  if not known and session and sessions.is_full(p, session) then return { 'full', session } end
  leave_inbox(p, entry)
  -- A deferred request has already left the inbox.
  local was_held, is_paused = true, false
  if entry == '' then was_held, is_paused = across.hold_no_more(p, run, not known) end
  if not was_held then lists = {} end
  if known then
    receipts.started(p, known, lists, entry, '', true)
    return { 'exists', known }
  end
  if status then
    forget(p, run, true)
    redis.call('ZREM', key_of.timers(p), 'expire ' .. run)
  end
  if key ~= '' then redis.call('SET', key_of.key(p, workflow, key), run, 'PX', a.key_ttl) end
  redis.call('HSET', key_of.run(p, run), 'status', is_paused and 'paused' or 'queued', 'workflow', workflow, 'version', a.version,
    'content', a.content, 'created', now)
  local is_durable = a.durability ~= 'none'
  if is_durable then redis.call('HSET', key_of.run(p, run), 'durability', a.durability) end
  redis.call('SET', key_of.input(p, run), a.input)
  local meta = workflow .. ' ' .. a.version .. ' ' .. a.content .. (is_durable and ' ' .. a.durability or '') .. (a.followed and ' follow' or '')
  if source or #a.fields > 0 then begin_context(p, run, source and key_of.context(p, source), a.fields) end
  local about = { 'meta', meta, 'last', #a.heads, 'n0', #a.heads }
  -- If an earlier run with this id left its history, the start is appended to it.
  if redis.call('RPUSHX', key_of.history(p, run), start_record(now, meta)) == 0 then
    about[#about + 1], about[#about + 2] = 'born', now
  end
  if is_paused then about[#about + 1], about[#about + 2] = 'paused', now end
  if session then about[#about + 1], about[#about + 2] = 'paused', sessions.held_back(is_paused and now) end
  if a.parent ~= '' then
    about[#about + 1], about[#about + 2] = 'parent', a.parent
    redis.call('HSET', key_of.run(p, run), 'parent', string.match(a.parent, '^%S+'))
  end
  redis.call('ZADD', key_of.runs(p), now, run)
  if a.timeout >= 0 and session then
    -- The timeout begins with the run's turn.
    redis.call('HSET', key_of.run(p, run), 'timeout', a.timeout)
  elseif a.timeout >= 0 then
    local due = now + delay + a.timeout
    redis.call('HSET', key_of.run(p, run), 'timeout', a.timeout, 'deadline', due)
    about[#about + 1], about[#about + 2] = 'limited', 1
    set_timer(p, now, due, 'timeout ' .. run)
  end
  create(p, run, meta, 1, a.heads, nil, about, delay > 0 and { now = now, due = now + delay } or session and sessions.HELD)
  if is_paused then note(p, run, now, 'paused', 0, 0, '-', '-') end
  receipts.started(p, run, lists, entry, '', false)
  if session then sessions.join(p, run, session, now, delay) end
  return { 'started', run }
end
end

-- defer: keeps a request for a workflow that no worker serves yet.
local function defer(p, a)
  local now, run, list = now_ms(), a.run, a.reply ~= '' and not is_gone(p, a.entry) and a.reply
  local known = known_run(p, run, a.workflow, a.key, a.key_ttl)
  if known then
    if list then receipts.started(p, known, { list }, a.entry, '', true) end
    leave_inbox(p, a.entry)
    return { 'exists', now }
  end
  local waiting = redis.call('HEXISTS', key_of.deferred(p), run) == 1
  if not waiting and redis.call('HLEN', key_of.deferred(p)) >= a.limit then return { 'full', now } end
  redis.call('HSETNX', key_of.deferred(p), run, now .. ' ' .. a.request)
  if not waiting and a.parent ~= '' then redis.call('RPUSH', key_of.sent(p, run), HELD_CHILD .. a.parent) end
  if list then
    receipts.push(p, list, 'kept', run, 'entry', a.entry)
    receipts.follow(p, run, list)
  end
  leave_inbox(p, a.entry)
  return { 'deferred', now }
end

-- reject: keeps a rejected request with the reason, and shows it as a run if it names an id.
local function reject(p, a)
  local now, run, retention = now_ms(), a.run, a.retention
  local lists = a.reply ~= '' and not is_gone(p, a.entry) and { a.reply } or {}
  leave_inbox(p, a.entry)
  if a.deferred ~= '' then
    lists = receipts.lists(p, a.deferred)
    -- If several coordinators reject a deferred request, only the first does so.
    if not across.hold_no_more(p, a.deferred) then return { 'gone', run } end
    for _, list in ipairs(lists) do redis.call('SREM', key_of.extra(p, a.deferred), key_of.reply(p, list)) end
  end
  for _, list in ipairs(lists) do
    receipts.push(p, list, 'rejected', a.asked ~= '' and a.asked or run, 'entry', a.entry, 'request', a.request, 'reason', a.reason)
  end
  if a.request ~= '' then
    redis.call('SET', key_of.request(p, a.asked, a.request), 'rejected ' .. a.reason, 'PX', LIMIT.REQUEST_MS, 'NX')
  end
  if a.parent ~= '' then kin.tell_parent(p, run, a.parent, 'rejected', a.reason) end
  if a.limit > 0 then
    redis.call('XADD', key_of.rejected(p), 'MAXLEN', '~', a.limit, '*', 'reason', a.reason, 'entry', a.entry, unpack(a.fields))
  end
  -- A deferred request with the same id keeps the id.
  local taken = run == '' or redis.call('EXISTS', key_of.run(p, run), key_of.alias(p, run)) > 0
  if not taken and redis.call('HEXISTS', key_of.deferred(p), run) == 0 then
    redis.call('HSET', key_of.run(p, run), 'status', 'rejected', 'error', a.reason, 'created', now, 'finished', now,
      'expires', now + retention)
    redis.call('ZADD', key_of.runs(p), now, run)
    set_timer(p, now, now + retention, 'expire ' .. run)
    redis.call('PUBLISH', key_of.ended(p, run), 'rejected')
  end
  -- Nobody will take the signals that were kept for the held request.
  if a.deferred ~= '' and redis.call('HGET', key_of.run(p, run), 'status') == 'rejected' then
    local _, signals = extra_of(p, run)
    if signals then
      tell_kept(p, run, now, signals)
      unlink(signals)
      redis.call('UNLINK', key_of.extra(p, run))
    end
  end
  return { 'rejected', run }
end
