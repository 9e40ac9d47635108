-- Made from shared/contract/src/: do not change it here, but there, and make it anew:
--   STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract

local LIMIT = {
  MAX_RESULT = 1048576, -- the result of a plain task
  MAX_REGISTRATION = 262144, -- a registration by a worker in another language
  MAX_ERROR = 2000, -- the error of a plain task; the rest is cut off
  VOID_MS = 86400000, -- how long no run is created under a void ticket
  MAX_EXECUTIONS = 1000000, -- step executions of a run
  MAX_ENTRIES = 100000, -- entries and waits in the journal of a step execution
  MAX_WAITS = 1000, -- open waits of one name in a run
  MAX_SENT = 1000, -- events that are kept for a run whose request is held
  REQUEST_MS = 86400000, -- how long the outcome of a request with an id is kept
  REPLY_MAX = 1000, -- receipts in a list, the newest
  REPLY_MS = 86400000, -- how long a list of receipts is kept after the last one
  REPLY_RESULT = 65536, -- the largest result in the receipt of the end; a larger one is read from the run
  REPLIES = 16, -- lists that get a receipt of the end of a run
  NAMED_SIGNALS = 20, -- names of unused signals that are recorded at the end of a run
  MAX_LINE = 1000, -- runs of a session that are under way: the one whose turn it is, and those that wait for theirs
  LINE_MS = 1000, -- how long a delayed run waits before it asks again for a place in its session's full line
  MAX_CALLS = 10000, -- calls of an entity whose results are known, the newest
  CALLS_BYTES = 4194304, -- their ids and results; that of the last call is kept however large it is
  CLEARED_MS = 86400000, -- how long what is known of a cleared entity is kept
  MAX_SIGNALS = 1000, -- kept signals of one name in a run
  HISTORY_MAX = 100000, -- records in a history, the newest
  MAX_LEFT = 100, -- records of a history about events that are left when the run completes
  MAX_EVENTS = 10000, -- entries in `events:<id>`, about, the newest
  MAX_REMEMBERED = 10000, -- places of published events, and 4 KiB blocks of streams, that are remembered for a step execution
  STREAM_BLOCK = 4096, -- what a stream's text is remembered in
  MAX_VALUE = 1048576, -- a list or map of the context after a merge
  MAX_DIGITS = 18, -- digits of a whole number of the context
  MAX_EXACT = 15, -- digits in the number of a group that Lua and workers read alike
  DAMAGED_RETENTION = 604800000, -- how long a run that failed because of damaged keys stays readable
  FAN_INLINE = 8, -- branches that are begun by the commit that opens a fan-out; the rest is staged
  FAN_BATCH = 64, -- staged branches that a claim queues when it takes the entry of their fan-out
  TURNS = 500, -- step executions waiting for a turn that one call examines
  CLOSE_SLICE = 1000, -- fields of the steps hash that one call goes through to discard void step executions
  READS = 3, -- reads of queues in one call
  TRIM_EVERY = 16, -- calls of a worker between two trims of a queue that is not empty
  CHUNK = 500, -- values in one Redis command
  SOON = 60000, -- a timer that is due later than this raises no alarm
  REAPED = 5, -- workers whose lease ran out and that one `reap` begins with
  AGAIN_SLICE = 2000, -- fields of the steps hash of a retried or resumed run that one call handles, about
  FORK_LOOKS = 2000, -- step executions, from the first on, that are examined to find the one that a fork begins with
  SLICE = 500, -- fields or holds that one call of `audit` examines
  OLDEST = 500, -- step executions, from the first on, that are examined to name what was active at a timeout
  NEWEST = 1500, -- the same, up to the last
  NAMED_BYTES = 16777216, -- events that are read for that
  NAMED_STEPS = 20, -- steps that are named then
}

-- The keys, by their kind.
local key_of = {}
function key_of.inbox(p) return p .. 'inbox' end
function key_of.rejected(p) return p .. 'rejected' end
function key_of.deferred(p) return p .. 'deferred' end
function key_of.key(p, workflow, key) return p .. 'key:' .. workflow .. ':' .. key end
function key_of.alias(p, id) return p .. 'alias:' .. id end
function key_of.request(p, id, request) return p .. 'request:' .. id .. ':' .. request end
function key_of.reply(p, name) return p .. 'reply:' .. name end
function key_of.sent(p, id) return p .. 'sent:' .. id end
function key_of.reserved(p, workflow, key) return p .. 'reserved:' .. workflow .. ':' .. key end
function key_of.void(p, id, ticket) return p .. 'void:' .. id .. ':' .. ticket end
function key_of.taken(p, entry) return p .. 'taken:' .. entry end
function key_of.barrier(p) return p .. 'barrier' end
function key_of.functions(p) return p .. 'functions' end
function key_of.runs(p) return p .. 'runs' end
function key_of.run(p, id) return p .. 'run:' .. id end
function key_of.input(p, id) return p .. 'input:' .. id end
function key_of.begun(p, id) return p .. 'begun:' .. id end
function key_of.context(p, id) return p .. 'context:' .. id end
function key_of.history(p, id) return p .. 'history:' .. id end
function key_of.events(p, id) return p .. 'events:' .. id end
function key_of.steps(p, id) return p .. 'steps:' .. id end
function key_of.stopped(p, id) return p .. 'stopped:' .. id end
function key_of.joined(p, id, group, step) return p .. 'joined:' .. id .. ':' .. group .. ':' .. step end
function key_of.fan(p, id, group) return p .. 'fan:' .. id .. ':' .. group end
function key_of.journal(p, id, seq) return p .. 'journal:' .. id .. ':' .. seq end
function key_of.signals(p, id, name) return p .. 'signals:' .. id .. ':' .. name end
function key_of.published(p, id, seq) return p .. 'published:' .. id .. ':' .. seq end
function key_of.questions(p) return p .. 'questions' end
function key_of.asked(p, id) return p .. 'asked:' .. id end
function key_of.session(p, name) return p .. 'session:' .. name end
function key_of.line(p, name) return p .. 'line:' .. name end
function key_of.entity(p, kind, key) return p .. 'entity:' .. kind .. ':' .. key end
function key_of.results(p, kind, key) return p .. 'results:' .. kind .. ':' .. key end
function key_of.calls(p, kind, key) return p .. 'calls:' .. kind .. ':' .. key end
function key_of.shared(p, name) return p .. 'shared:' .. name end
function key_of.children(p, id) return p .. 'children:' .. id end
function key_of.undo(p, id) return p .. 'undo:' .. id end
function key_of.turns(p, id, step) return p .. 'turns:' .. id .. ':' .. step end
function key_of.extra(p, id) return p .. 'extra:' .. id end
function key_of.queue(p, queue) return p .. 'queue:' .. queue end
function key_of.requeued(p, queue) return p .. 'requeued:' .. queue end
function key_of.queues(p) return p .. 'queues' end
function key_of.ready(p) return p .. 'ready' end
function key_of.urgent(p) return p .. 'urgent' end
function key_of.alone(p, queue) return p .. 'alone:' .. queue end
function key_of.lonely(p) return p .. 'lonely' end
function key_of.drain(p) return p .. 'drain' end
function key_of.serves(p, class) return p .. 'serves:' .. class end
function key_of.classes(p, queue) return p .. 'classes:' .. queue end
function key_of.idle(p, class) return p .. 'idle:' .. class end
function key_of.wake(p, worker) return p .. 'wake:' .. worker end
function key_of.timers(p) return p .. 'timers' end
function key_of.leases(p) return p .. 'leases' end
function key_of.clients(p) return p .. 'clients' end
function key_of.held(p, worker) return p .. 'held:' .. worker end
function key_of.worker(p, id) return p .. 'worker:' .. id end
function key_of.workflows(p) return p .. 'workflows' end
function key_of.departed(p) return p .. 'departed' end
function key_of.cancelled(p) return p .. 'cancelled' end
function key_of.counters(p) return p .. 'counters' end
function key_of.ended(p, id) return p .. 'ended:' .. id end
function key_of.alarm(p) return p .. 'alarm' end

-- The arguments of each transition, by their names.
local read = {}

-- A list stands as its length and its values. Answers these, and the place of what follows.
local function take_list(argv, at)
  local values, length = {}, tonumber(argv[at])
  for i = 1, length do values[i] = argv[at + i] end
  return values, at + length + 1
end

function read.start(argv)
  local heads, at = take_list(argv, 11)
  local followed = argv[at] == '1'
  local from = argv[at + 1]
  local fields, at = take_list(argv, at + 2)
  return {
    run = argv[1], workflow = argv[2], version = argv[3], content = argv[4], input = argv[5], key = argv[6],
    key_ttl = tonumber(argv[7]), delay = tonumber(argv[8]), entry = argv[9], timeout = tonumber(argv[10]),
    heads = heads, followed = followed, from = from, fields = fields, ticket = argv[at],
    session = argv[at + 1], parent = argv[at + 2], reply = argv[at + 3], durability = argv[at + 4],
  }
end

function read.reserve(argv)
  return {
    workflow = argv[1], key = argv[2], run = argv[3], ticket = argv[4], place = argv[5],
    ttl = tonumber(argv[6]),
  }
end

function read.reserved(argv)
  return {
    workflow = argv[1], key = argv[2],
  }
end

function read.let_go(argv)
  return {
    workflow = argv[1], key = argv[2], run = argv[3], ticket = argv[4],
  }
end

function read.void(argv)
  return {
    run = argv[1], ticket = argv[2],
  }
end

function read.alias(argv)
  return {
    run = argv[1], known = argv[2], entry = argv[3], ttl = tonumber(argv[4]),
  }
end

function read.defer(argv)
  return {
    run = argv[1], request = argv[2], entry = argv[3], limit = tonumber(argv[4]), workflow = argv[5],
    key = argv[6], key_ttl = tonumber(argv[7]), parent = argv[8], reply = argv[9],
  }
end

function read.reject(argv)
  local fields = take_list(argv, 11)
  return {
    entry = argv[1], deferred = argv[2], run = argv[3], asked = argv[4], request = argv[5], reason = argv[6],
    limit = tonumber(argv[7]), retention = tonumber(argv[8]), parent = argv[9], reply = argv[10],
    fields = fields,
  }
end

function read.claim(argv)
  local slots, at = take_list(argv, 5)
  return {
    worker = argv[1], call = argv[2], again = argv[3] == '1', after = argv[4], slots = slots,
    alone = argv[at] == '1',
  }
end

function read.checkpoint(argv)
  local set, at = take_list(argv, 5)
  local unset, at = take_list(argv, at)
  local merges, at = take_list(argv, at)
  local expects, at = take_list(argv, at)
  local entries, at = take_list(argv, at)
  local gone, at = take_list(argv, at)
  local unreadable, at = take_list(argv, at)
  local waits, at = take_list(argv, at)
  return {
    run = argv[1], seq = argv[2], line = argv[3], mark = argv[4], set = set, unset = unset, merges = merges,
    expects = expects, entries = entries, gone = gone, unreadable = unreadable, waits = waits, upon = argv[at],
  }
end

function read.collect(argv)
  return {
    run = argv[1], seq = argv[2], line = argv[3], group = argv[4], step = argv[5], number = argv[6],
    buffer = argv[7], count = tonumber(argv[8]), payload = argv[9], upon = argv[10],
  }
end

function read.publish(argv)
  return {
    worker = argv[1], run = argv[2], seq = argv[3], attempt = argv[4], line = argv[5], place = argv[6],
    step = argv[7], event = argv[8], content = argv[9], data = argv[10], digest = argv[11],
  }
end

function read.stream(argv)
  local done = take_list(argv, 12)
  return {
    worker = argv[1], run = argv[2], seq = argv[3], attempt = argv[4], line = argv[5], place = argv[6],
    step = argv[7], stream = argv[8], at = tonumber(argv[9]), text = argv[10], last = argv[11] == '1',
    done = done,
  }
end

function read.stage(argv)
  local records = take_list(argv, 5)
  return {
    run = argv[1], seq = argv[2], line = argv[3], offset = tonumber(argv[4]), records = records,
  }
end

function read.complete(argv)
  local set, at = take_list(argv, 12)
  local unset, at = take_list(argv, at)
  local merges, at = take_list(argv, at)
  local expects, at = take_list(argv, at)
  local joins, at = take_list(argv, at)
  local parts, at = take_list(argv, at)
  local emits, at = take_list(argv, at)
  local fan = argv[at] == '1'
  local heads, at = take_list(argv, at + 1)
  local staged = tonumber(argv[at])
  local consumed = argv[at + 1]
  local journal = argv[at + 2]
  local rests = argv[at + 3] == '1'
  local stop, at = take_list(argv, at + 4)
  local retention = tonumber(argv[at])
  local caught, at = take_list(argv, at + 1)
  return {
    worker = argv[1], call = argv[2], again = argv[3] == '1', slot = argv[4], next = argv[5], after = argv[6],
    run = argv[7], seq = argv[8], line = argv[9], group = argv[10], step = argv[11], set = set, unset = unset,
    merges = merges, expects = expects, joins = joins, parts = parts, emits = emits, fan = fan, heads = heads,
    staged = staged, consumed = consumed, journal = journal, rests = rests, stop = stop, retention = retention,
    caught = caught, unreadable = argv[at] == '1', emitted = argv[at + 1], upon = argv[at + 2],
  }
end

function read.fail(argv)
  local forget, at = take_list(argv, 16)
  return {
    worker = argv[1], call = argv[2], again = argv[3] == '1', slot = argv[4], next = argv[5], after = argv[6],
    run = argv[7], seq = argv[8], line = argv[9], group = argv[10], step = argv[11], mode = argv[12],
    delay = tonumber(argv[13]), reason = argv[14], retention = tonumber(argv[15]), forget = forget,
    upon = argv[at],
  }
end

function read.suspend(argv)
  local waits, at = take_list(argv, 12)
  return {
    worker = argv[1], call = argv[2], again = argv[3] == '1', slot = argv[4], next = argv[5], after = argv[6],
    run = argv[7], seq = argv[8], line = argv[9], group = argv[10], step = argv[11], waits = waits,
    keeps = argv[at] == '1', upon = argv[at + 1],
  }
end

function read.signal(argv)
  return {
    asked = argv[1], name = argv[2], attributes = argv[3], payload = argv[4], entry = argv[5],
    request = argv[6], reply = argv[7],
  }
end

function read.send(argv)
  local list = take_list(argv, 5)
  return {
    asked = argv[1], entry = argv[2], request = argv[3], reply = argv[4], list = list,
  }
end

function read.defer_send(argv)
  return {
    asked = argv[1], entry = argv[2], request = argv[3], reply = argv[4], event = argv[5], step = argv[6],
    content = argv[7], input = argv[8],
  }
end

function read.child_ended(argv)
  return {
    parent = argv[1], wait = argv[2], child = argv[3], status = argv[4], payload = argv[5], entry = argv[6],
  }
end

function read.cancel(argv)
  return {
    asked = argv[1], entry = argv[2], request = argv[3], reply = argv[4], retention = tonumber(argv[5]),
  }
end

function read.retry(argv)
  local event = take_list(argv, 5)
  return {
    asked = argv[1], entry = argv[2], request = argv[3], reply = argv[4], event = event,
  }
end

function read.answer(argv)
  return {
    asked = argv[1], question = argv[2], name = argv[3], payload = argv[4], by = argv[5], entry = argv[6],
    request = argv[7], reply = argv[8],
  }
end

function read.pause(argv)
  return {
    asked = argv[1], entry = argv[2], request = argv[3], reply = argv[4],
  }
end

function read.resume(argv)
  return {
    asked = argv[1], entry = argv[2], request = argv[3], reply = argv[4],
  }
end

function read.forkable(argv)
  return {
    asked = argv[1], seq = argv[2],
  }
end

function read.fork(argv)
  local records, at = take_list(argv, 10)
  local event, at = take_list(argv, at)
  local entries = take_list(argv, at)
  return {
    asked = argv[1], entry = argv[2], request = argv[3], reply = argv[4], fork = argv[5], point = argv[6],
    seq = argv[7], call = argv[8], timeout = tonumber(argv[9]), records = records, event = event,
    entries = entries,
  }
end

function read.entity(argv)
  local value, at = take_list(argv, 5)
  return {
    kind = argv[1], key = argv[2], call = argv[3], expected = argv[4], value = value, clears = argv[at] == '1',
    result = argv[at + 1], expires = tonumber(argv[at + 2]),
  }
end

function read.register(argv)
  local about, at = take_list(argv, 4)
  local queues, at = take_list(argv, at)
  local served = take_list(argv, at)
  return {
    worker = argv[1], lease = tonumber(argv[2]), class = argv[3], about = about, queues = queues,
    served = served,
  }
end

function read.heartbeat(argv)
  return {
    worker = argv[1], lease = tonumber(argv[2]), client = argv[3], since = argv[4], idle = argv[5] == '1',
  }
end

function read.release(argv)
  local fences = take_list(argv, 2)
  return {
    worker = argv[1], fences = fences,
  }
end

function read.deregister(argv)
  return {
    worker = argv[1], limit = tonumber(argv[2]),
  }
end

function read.reap(argv)
  local suspects = take_list(argv, 4)
  return {
    limit = tonumber(argv[1]), max_losses = tonumber(argv[2]), retention = tonumber(argv[3]),
    suspects = suspects,
  }
end

function read.fire(argv)
  return {
    limit = tonumber(argv[1]), retention = tonumber(argv[2]),
  }
end

function read.audit(argv)
  return {
    fix = argv[1] == '1', max_losses = tonumber(argv[2]), retention = tonumber(argv[3]), kind = argv[4],
    name = argv[5], cursor_at = argv[6],
  }
end

function read.waits(argv)
  return {
    run = argv[1], cursor = argv[2],
  }
end

function read.questions(argv)
  return {
    run = argv[1], from = tonumber(argv[2]), count = tonumber(argv[3]),
  }
end

-- Where the arguments of each short way are; `fields` is where fields of the context begin.
local place_of = {
  hand_over = {
    worker = 1, call = 2, slot = 3, run = 4, number = 5, line = 6, history = 7, record = 8, version = 9,
    fields = 10,
  },
  end_branch = {
    worker = 1, call = 2, slot = 3, run = 4, number = 5, line = 6, history = 7, after = 8, group = 9,
    join = 10, event = 11, fields = 12,
  },
  end_run = {
    worker = 1, call = 2, slot = 3, run = 4, number = 5, line = 6, history = 7, after = 8, completed = 9,
    result = 10, retention = 11, fields = 12,
  },
  record = {
    run = 1, number = 2, line = 3, upon = 4, call = 5, entry = 6,
  },
  start_run = {
    run = 1, workflow = 2, version = 3, content = 4, input = 5, entry = 6, record = 7,
  },
}
