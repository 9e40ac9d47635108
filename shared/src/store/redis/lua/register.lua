-- Registers the functions. Transitions take named arguments; the short ways and the functions for workers in other
-- languages take positional ones.
local transitions = {
  { 'start', start }, { 'defer', defer }, { 'reject', reject },
  { 'claim', claim }, { 'stage', stage }, { 'complete', complete }, { 'fail', fail },
  { 'register', register }, { 'heartbeat', heartbeat }, { 'deregister', deregister }, { 'release', release }, { 'reap', reap }, { 'fire', fire },
  { 'checkpoint', checkpoint }, { 'publish', publish }, { 'stream', stream }, { 'suspend', suspend }, { 'signal', signal }, { 'cancel', cancel }, { 'child_ended', kin.child_ended }, { 'answer', answer }, { 'retry', retry }, { 'pause', pause }, { 'resume', resume }, { 'forkable', forkable }, { 'fork', fork }, { 'entity', entity }, { 'audit', audit },
  { 'collect', collect }, { 'send', send }, { 'defer_send', defer_send }, { 'waits', waits }, { 'questions', questions },
  { 'reserve', across.reserve }, { 'reserved', across.reserved }, { 'let_go', across.let_go }, { 'void', across.void },
  { 'alias', across.alias },
}
local plain = {
  { 'short', short },
  { 'v1_register', v1.register }, { 'v1_heartbeat', v1.heartbeat }, { 'v1_deregister', v1.deregister },
  { 'v1_claim', v1.claim }, { 'v1_complete', v1.complete }, { 'v1_fail', v1.fail },
}
-- Read-only functions: callers need no write permission.
local looks, no_writes = { waits = true, questions = true }, {}
no_writes[1] = 'no-writes'
for i = 1, #transitions do
  local name, transition = transitions[i][1], transitions[i][2]
  local arguments = read[name]
  redis.register_function({
    function_name = '@PREFIX@' .. name, flags = looks[name] and no_writes or {},
    callback = function(keys, argv) return transition(keys[1], arguments(argv)) end,
  })
end
for i = 1, #plain do redis.register_function('@PREFIX@' .. plain[i][1], plain[i][2]) end
