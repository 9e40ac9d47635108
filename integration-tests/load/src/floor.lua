#!lua name=sfload
-- The reads and writes of one step commit, and nothing else.
redis.register_function('sfload_step', function(keys, argv)
  local run, queue, history = keys[1], keys[2], keys[3]
  local held = redis.call('HMGET', run, 'state', 'entry', 'context')
  local entry = redis.call('XADD', queue, '*', 'event', argv[1])
  redis.call('HSET', run, 'state', argv[2], 'entry', entry)
  redis.call('XADD', history, '*', 'record', argv[3])
  local last = held[2] or '0-1'
  redis.call('XACK', queue, 'workers', last)
  redis.call('XDEL', queue, last)
  return entry
end)
