-- Version 1 of the protocol for workers in other languages: plain tasks, with stable arguments and replies, unlike
-- those of the transitions. docs/protocol.md lists both.

local v1 = {}
do -- a chunk of Lua has at most 200 locals

local function refuse(why)
  return redis.error_reply('ERR stepfleet: ' .. why)
end

local function is_name(text)
  return #text <= 128 and string.match(text, '^[%w_%.%-]+$')
end

local function is_number(text)
  return #text <= 15 and string.match(text, '^%d+$')
end

-- Why the registration is invalid; nil if it is valid.
local function fault_of(workflow, version, json)
  if not is_name(workflow) then return 'the name of a workflow must be 1 to 128 letters, digits, _, - and .' end
  if not is_number(version) or tonumber(version) > 4294967295 then return 'the version of ' .. workflow .. ' is not a whole number' end
  if #json > LIMIT.MAX_REGISTRATION then return 'the registration of ' .. workflow .. ' has more than ' .. LIMIT.MAX_REGISTRATION .. ' bytes' end
  local is_fine, found = pcall(cjson.decode, json)
  local first = is_fine and type(found) == 'table' and type(found.start) == 'table' and found.start[1]
  if type(first) ~= 'table' or type(first.step) ~= 'string' or type(first.event) ~= 'string' then
    return 'the registration of ' .. workflow .. ' is not JSON that says where its start event goes'
  end
  if found.workflow ~= workflow or tostring(found.version) ~= version then
    return 'the registration of ' .. workflow .. ' belongs to another workflow or version'
  end
  return nil
end

-- Arguments: worker, lease, slots, host, pid; then for each workflow it serves: workflow, version, registration.
v1.register = function(keys, argv)
  if #argv < 8 or #argv % 3 ~= 2 then return refuse('register takes 5 arguments, plus 3 for each workflow') end
  local worker, lease, slots, host, pid = unpack(argv, 1, 5)
  if not is_name(worker) then return refuse('the id of a worker must be 1 to 128 letters, digits, _, - and .') end
  if not is_number(lease) or not is_number(slots) or not is_number(pid) then return refuse('lease, slots and pid must be whole numbers') end
  local queues, served = {}, {}
  for i = 6, #argv, 3 do
    local fault = fault_of(argv[i], argv[i + 1], argv[i + 2])
    if fault then return refuse(fault) end
    queues[#queues + 1] = argv[i] .. ':' .. argv[i + 1]
    served[#served + 1] = queues[#queues]
    served[#served + 1] = argv[i + 2]
  end
  table.sort(queues, comes_before)
  local class = 'v1-' .. redis.sha1hex(table.concat(queues, ' '))
  return register(keys[1], {
    worker = worker, lease = tonumber(lease), class = class, about = { 'host', host, 'pid', pid, 'concurrency', slots },
    queues = queues, served = served,
  })[1]
end

-- Arguments: worker, lease, client id of the calling connection.
v1.heartbeat = function(keys, argv)
  if #argv ~= 3 then return refuse('heartbeat takes 3 arguments') end
  if not is_number(argv[2]) or not is_number(argv[3]) then return refuse('lease and client id must be whole numbers') end
  return heartbeat(keys[1], { worker = argv[1], lease = tonumber(argv[2]), client = argv[3], since = '+inf', idle = true })[1]
end

-- Argument: worker.
v1.deregister = function(keys, argv)
  if #argv ~= 1 then return refuse('deregister takes 1 argument') end
  return deregister(keys[1], { worker = argv[1], limit = 200 })[1]
end

-- Appends a task to the reply. Its content is `-` if it is no plain task, since its step takes more than the run's
-- input.
local function add_task(out, item)
  local slot, run, number, line, record, meta, input = item[1], item[2], item[3], item[4], item[5], item[7], item[8]
  local _, step, flags = parse_record(record)
  local workflow, version, content = string.match(meta, '^(%S+) (%S+) (%S+)')
  local state = parse_state(line)
  if not workflow or not flags or string.sub(flags, 1, 1) ~= 'i' then content, input = '-', '' end
  local task = { slot, run, number, line, state.attempt, state.failures, workflow or '-', version or '-', step or '-', content, input }
  for _, value in ipairs(task) do out[#out + 1] = tostring(value) end
end

-- Whether the worker holds a step execution to execute alone, and so may get nothing else.
local function works_alone(p, worker)
  for _, value in ipairs(redis.call('HVALS', key_of.held(p, worker))) do
    local _, _, run, number = parse_slot(value)
    if run and run ~= '' then
      local state = parse_state(redis.call('HGET', key_of.steps(p, run), number))
      if state.letter == 'H' and state.about == worker and is_suspect(state) then return true end
    end
  end
  return false
end

-- Arguments: worker, call, again; then the free slots. A worker that names all its slots executes nothing.
v1.claim = function(keys, argv)
  if #argv < 4 then return refuse('claim takes 3 arguments, plus one for each slot') end
  for i = 2, #argv do
    if not is_number(argv[i]) then return refuse('call, again and slots must be whole numbers') end
  end
  local p, slots = keys[1], {}
  for i = 4, #argv do slots[#slots + 1] = argv[i] end
  local alone = redis.call('HGET', key_of.worker(p, argv[1]), 'concurrency') == tostring(#slots)
  if argv[3] == '0' and not alone and works_alone(p, argv[1]) then return { 'ok' } end
  local found = claim(p, {
    worker = argv[1], call = argv[2], again = argv[3] == '1', after = '', slots = slots, alone = alone,
  })
  local out = { found[1] }
  for _, item in ipairs(found[2]) do add_task(out, item) end
  return out
end

-- Parses the first arguments of complete and fail: worker, call, again, slot, run, number, line. Adds them to `given`,
-- the other arguments of the transition. The slot is free afterwards.
local function of_hold(p, argv, given)
  given.worker, given.call, given.again, given.slot = argv[1], argv[2], argv[3] == '1', argv[4]
  given.next, given.after = '0', ''
  given.run, given.seq, given.line = argv[5], argv[6], argv[7]
  local group, step = parse_record(redis.call('HGET', key_of.steps(p, given.run), 'e' .. given.seq) or '')
  given.group, given.step = group or '0', step or '-'
  return given
end

-- Arguments: those of `of_hold`; then name of the stop event, result, retention.
v1.complete = function(keys, argv)
  if #argv ~= 10 then return refuse('complete takes 10 arguments') end
  local event, result, retention = argv[8], argv[9], argv[10]
  if not is_number(retention) then return refuse('the retention must be a whole number') end
  if #result > LIMIT.MAX_RESULT then return refuse('the result has ' .. #result .. ' bytes; at most ' .. LIMIT.MAX_RESULT .. ' are allowed') end
  return complete(keys[1], of_hold(keys[1], argv, {
    set = {}, unset = {}, merges = {}, expects = {}, joins = {}, parts = {}, emits = {}, fan = false, heads = {}, staged = 0,
    consumed = '', journal = '', rests = false, stop = { result }, retention = tonumber(retention), caught = {}, unreadable = false,
    emitted = event, upon = nil,
  }))[1]
end

-- Shortens an error to one line, without splitting a character.
local function short_error(text)
  text = string.gsub(text, '[\r\n]+', ' ')
  if #text <= LIMIT.MAX_ERROR then return text end
  local last = LIMIT.MAX_ERROR
  while last > 0 and string.find(string.sub(text, last + 1, last + 1), '^[\128-\191]') do last = last - 1 end
  return string.sub(text, 1, last)
end

-- Arguments: those of `of_hold`; then delay or -1, error, retention.
v1.fail = function(keys, argv)
  if #argv ~= 10 then return refuse('fail takes 10 arguments') end
  local delay, text, retention = argv[8], short_error(argv[9]), argv[10]
  if not is_number(retention) or delay ~= '-1' and not is_number(delay) then return refuse('delay and retention must be whole numbers') end
  local mode = delay == '-1' and 'fail' or 'retry'
  return fail(keys[1], of_hold(keys[1], argv, {
    mode = mode, delay = mode == 'retry' and tonumber(delay) or 0, reason = text, retention = tonumber(retention),
    forget = {}, upon = nil,
  }))[1]
end

end
