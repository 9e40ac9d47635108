-- entity: changes a value that outlives runs. The caller has read the value with its version and computed the new one:
-- the change applies only if the version is unchanged. A call that was made before returns its earlier result.

local entity
do -- a chunk of Lua has at most 200 locals

-- Forgets the oldest calls while there are too many.
local function trim(calls, results, bytes)
  local length = redis.call('LLEN', calls)
  while length > 1 and (length > LIMIT.MAX_CALLS or bytes > LIMIT.CALLS_BYTES) do
    local oldest = redis.call('LPOP', calls)
    bytes, length = bytes - #oldest - redis.call('HSTRLEN', results, oldest), length - 1
    redis.call('HDEL', results, oldest)
  end
  return bytes
end

entity = function(p, a)
  local key, results, calls = key_of.entity(p, a.kind, a.key), key_of.results(p, a.kind, a.key), key_of.calls(p, a.kind, a.key)
  local known = redis.call('HGET', results, a.call)
  if known then return { 'done', known } end
  local found = redis.call('HMGET', key, 'version', 'value', 'bytes')
  local version = found[1] or '0'
  if version ~= a.expected then return { 'changed', version, { found[2] or nil } } end
  if a.value[1] then
    redis.call('HSET', key, 'value', a.value[1])
  elseif a.clears then
    redis.call('HDEL', key, 'value')
  end
  if a.value[1] or a.clears then version = version + 1 .. '' end
  redis.call('HSET', results, a.call, a.result)
  redis.call('RPUSH', calls, a.call)
  redis.call('HSET', key, 'version', version, 'bytes', trim(calls, results, (tonumber(found[3] or '') or 0) + #a.call + #a.result))
  local expires = a.clears and LIMIT.CLEARED_MS or a.expires
  for _, one in ipairs({ key, results, calls }) do
    if expires >= 0 then redis.call('PEXPIRE', one, expires) else redis.call('PERSIST', one) end
  end
  return { 'ok', version }
end
end
