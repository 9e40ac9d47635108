local transitions = {
  { 'start', start }, { 'defer', defer }, { 'reject', reject },
  { 'claim', claim }, { 'stage', stage }, { 'complete', complete }, { 'short', short }, { 'fail', fail },
  { 'register', register }, { 'heartbeat', heartbeat }, { 'deregister', deregister }, { 'release', release }, { 'tick', tick },
  { 'checkpoint', checkpoint }, { 'publish', publish }, { 'suspend', suspend }, { 'signal', signal }, { 'cancel', cancel }, { 'audit', audit },
  { 'collect', collect }, { 'send', send }, { 'waits', waits },
  { 'reserve', across.reserve }, { 'reserved', across.reserved }, { 'let_go', across.let_go }, { 'void', across.void },
  { 'alias', across.alias },
  { 'v1_register', v1.register }, { 'v1_heartbeat', v1.heartbeat }, { 'v1_deregister', v1.deregister },
  { 'v1_claim', v1.claim }, { 'v1_complete', v1.complete }, { 'v1_fail', v1.fail },
}
for i = 1, #transitions do redis.register_function('@PREFIX@' .. transitions[i][1], transitions[i][2]) end
