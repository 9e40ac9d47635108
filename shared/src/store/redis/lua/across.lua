-- The parts of operations that involve two partitions: see store/across.rs, and "Partitions" in docs/architecture.md.

do

-- Returns run, ticket, place. The latter two are stored in a key of their own, as `<ticket> <place>`.
local function read_reservation(p, workflow, key)
  local run = redis.call('GET', key_of.key(p, workflow, key))
  local about = run and redis.call('GET', key_of.reserved(p, workflow, key)) or ''
  local ticket, place = string.match(about, '^(%S+) (%S*)$')
  return run, ticket or '', place or ''
end

function across.reserve(p, a)
  local holder, held_by, from = read_reservation(p, a.workflow, a.key)
  if holder then return { holder, held_by, from } end
  redis.call('SET', key_of.key(p, a.workflow, a.key), a.run, 'PX', a.ttl)
  redis.call('SET', key_of.reserved(p, a.workflow, a.key), a.ticket .. ' ' .. a.place, 'PX', a.ttl)
  return { a.run, a.ticket, a.place }
end

function across.reserved(p, a)
  local run, ticket, place = read_reservation(p, a.workflow, a.key)
  return { run or '', ticket, place }
end

function across.let_go(p, a)
  local holder, held_by = read_reservation(p, a.workflow, a.key)
  if holder ~= a.run or held_by ~= a.ticket then return { 'other' } end
  redis.call('UNLINK', key_of.key(p, a.workflow, a.key), key_of.reserved(p, a.workflow, a.key))
  return { 'ok' }
end

function across.void(p, a)
  local run = a.run
  local status = redis.call('HGET', key_of.run(p, run), 'status')
  if status and status ~= 'rejected' then return { 'exists' } end
  if redis.call('HEXISTS', key_of.deferred(p), run) == 1 then return { 'deferred' } end
  redis.call('SET', key_of.void(p, run, a.ticket), 1, 'PX', LIMIT.VOID_MS)
  return { 'void' }
end

-- Converts a kept payload to what a signal's sender passes: content type and input.
local function content_of(payload)
  return string.byte(payload) == 1 and 'msgpack' or 'json', string.sub(payload, 2)
end

function across.alias(p, a)
  local run, known = a.run, a.known
  local status = redis.call('HGET', key_of.run(p, run), 'status')
  if not status or status == 'rejected' then
    for _, key in ipairs(extra_of(p, run)) do
      local name = string.match(key, ':([^:]+)$')
      local _, payload = take_signal(p, run, name, '')
      while payload do
        local content, input = content_of(payload)
        redis.call('XADD', key_of.inbox(p), '*', 'op', 'signal', 'run', known, 'name', name, 'content', content, 'input', input)
        _, payload = take_signal(p, run, name, '')
      end
      redis.call('UNLINK', key)
    end
    redis.call('UNLINK', key_of.extra(p, run))
  end
  redis.call('SET', key_of.alias(p, run), known, 'PX', a.ttl)
  across.hold_no_more(p, run)
  leave_inbox(p, a.entry)
  return { 'ok' }
end
end
