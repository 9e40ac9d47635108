-- How a commit or a checkpoint changes a run's context: it writes and removes fields, merges into them, and may require
-- that fields still have the values it read. Of a value, only the first byte or the digits of a number are read: see
-- shared/src/values.rs.

local settle_changes
do -- a chunk of Lua has at most 200 locals

local KINDS = { ['\4'] = 'list', ['\5'] = 'map' }

read_fields = function(key, names)
  local found = {}
  for from = 1, #names, LIMIT.CHUNK do
    local upto = math.min(from + LIMIT.CHUNK - 1, #names)
    for i, value in ipairs(redis.call('HMGET', key, unpack(names, from, upto))) do
      found[names[from + i - 1]] = value
    end
  end
  return found
end

-- Adds two integers given as text, in two halves of nine digits: Lua's numbers are exact to fifteen. Nil if the sum has
-- too many digits.
local function add(a, b)
  local high, low = 0, 0
  for _, number in ipairs({ a, b }) do
    local sign, digits = string.match(number, '^(%-?)(%d+)$')
    local one = sign == '-' and -1 or 1
    high = high + one * (tonumber(string.sub(digits, 1, -10)) or 0)
    low = low + one * tonumber(string.sub(digits, -9))
  end
  high, low = high + math.floor(low / 1e9), low % 1e9
  local sign = ''
  if high < 0 then
    sign, high, low = '-', -high, -low
    if low < 0 then high, low = high - 1, low + 1e9 end
  end
  if high >= 1e9 then return nil end
  if high == 0 then return sign .. string.format('%d', low) end
  return sign .. string.format('%d%09d', high, low)
end

-- The value of a field after a merge; or nil and why the merge is impossible.
local function merged(value, form, operand)
  if form == '+' then
    local digits = string.match(value or '0', '^%-?(%d+)$')
    if not digits or #digits > LIMIT.MAX_DIGITS then return nil, 'number' end
    local sum = add(value or '0', operand)
    if not sum then return nil, 'digits' end
    return sum
  end
  value = value or form
  if string.sub(value, 1, 1) ~= form then return nil, KINDS[form] or 'list' end
  if #value - 1 + #operand > LIMIT.MAX_VALUE then return nil, 'size' end
  return value .. operand
end

-- Moves merges to the fields to set. Returns nil if the changes can be applied, otherwise 'conflict', or 'refused' with
-- the field and what is wrong with it.
settle_changes = function(p, run, c)
  if #c.expects == 0 and #c.merges == 0 then return nil end
  local names = {}
  for i = 1, #c.expects, 2 do names[#names + 1] = c.expects[i] end
  for i = 1, #c.merges, 3 do names[#names + 1] = c.merges[i] end
  local found = read_fields(key_of.context(p, run), names)
  for i = 1, #c.expects, 2 do
    local value = found[c.expects[i]]
    if (value and redis.sha1hex(value) or '') ~= c.expects[i + 1] then return 'conflict' end
  end
  for i = 1, #c.merges, 3 do
    local field, value, wrong = c.merges[i], nil, nil
    value, wrong = merged(found[field], c.merges[i + 1], c.merges[i + 2])
    if wrong then return 'refused', field, wrong end
    found[field] = value
    c.set[#c.set + 1] = field
    c.set[#c.set + 1] = value
  end
  return nil
end
end

-- Writes the changes. The field `context` of the steps hash is the context's version: its presence tells the audit that
-- the context had fields, unless `bare` says that this version has none.
local function write_context(p, run, c)
  local key, steps = key_of.context(p, run), key_of.steps(p, run)
  if #c.set == 0 and #c.unset == 0 then return end
  if #c.set > 0 then chunked('HSET', key, c.set) end
  local version = redis.call('HINCRBY', steps, 'context', 1)
  if #c.unset > 0 then
    chunked('HDEL', key, c.unset)
    if redis.call('EXISTS', key) == 0 then redis.call('HSET', steps, 'bare', version) end
  end
end
