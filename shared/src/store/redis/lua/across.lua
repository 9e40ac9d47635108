-- What concerns two partitions, piece by piece: see store/across.rs, and "Partitions" in docs/architecture.md.

do

local VOID_MS = 86400000 -- a day: longer than any coordinator is late

-- How the reservation of a key is kept beside the key itself: `<ticket> <place>`.
local function reservation_name(p, workflow, key)
  return p .. 'reserved:' .. workflow .. ':' .. key
end

-- Run, ticket, place.
local function read_reservation(p, workflow, key)
  local run = redis.call('GET', key_name(p, workflow, key))
  local about = run and redis.call('GET', reservation_name(p, workflow, key)) or ''
  local ticket, place = string.match(about, '^(%S+) (%S*)$')
  return run, ticket or '', place or ''
end

function across.reserve(keys, argv)
  local p, arg = keys[1], cursor(argv)
  local workflow, key, run, ticket, place, ttl = arg(), arg(), arg(), arg(), arg(), arg()
  local holder, held_by, from = read_reservation(p, workflow, key)
  if holder then return { holder, held_by, from } end
  redis.call('SET', key_name(p, workflow, key), run, 'PX', ttl)
  redis.call('SET', reservation_name(p, workflow, key), ticket .. ' ' .. place, 'PX', ttl)
  return { run, ticket, place }
end

function across.reserved(keys, argv)
  local p, arg = keys[1], cursor(argv)
  local workflow, key = arg(), arg()
  local run, ticket, place = read_reservation(p, workflow, key)
  return { run or '', ticket, place }
end

function across.let_go(keys, argv)
  local p, arg = keys[1], cursor(argv)
  local workflow, key, run, ticket = arg(), arg(), arg(), arg()
  local holder, held_by = read_reservation(p, workflow, key)
  if holder ~= run or held_by ~= ticket then return { 'other' } end
  redis.call('UNLINK', key_name(p, workflow, key), reservation_name(p, workflow, key))
  return { 'ok' }
end

function across.void(keys, argv)
  local p, arg = keys[1], cursor(argv)
  local run, ticket = arg(), arg()
  local status = redis.call('HGET', p .. 'run:' .. run, 'status')
  if status and status ~= 'rejected' then return { 'exists' } end
  if redis.call('HEXISTS', p .. 'deferred', run) == 1 then return { 'deferred' } end
  redis.call('SET', across.void_name(p, run, ticket), 1, 'PX', VOID_MS)
  return { 'void' }
end

-- What is kept of a signal, as its sender would write it.
local function content_of(payload)
  return string.byte(payload) == 1 and 'msgpack' or 'json', string.sub(payload, 2)
end

function across.alias(keys, argv)
  local p, arg = keys[1], cursor(argv)
  local run, known, entry, ttl = arg(), arg(), arg(), arg()
  local is_run = redis.call('EXISTS', p .. 'run:' .. run) == 1
  if not is_run then
    for _, key in ipairs(extra_of(p, run)) do
      local name = string.match(key, ':([^:]+)$')
      local _, payload = take_signal(p, run, name, '')
      while payload do
        local content, input = content_of(payload)
        redis.call('XADD', p .. 'inbox', '*', 'op', 'signal', 'run', known, 'name', name, 'content', content, 'input', input)
        _, payload = take_signal(p, run, name, '')
      end
      redis.call('UNLINK', key)
    end
    redis.call('UNLINK', p .. 'extra:' .. run)
  end
  redis.call('SET', p .. 'alias:' .. run, known, 'PX', ttl)
  redis.call('HDEL', p .. 'deferred', run)
  leave_inbox(p, entry)
  return { 'ok' }
end
end
