local transitions = {
  { 'start', start }, { 'defer', defer }, { 'reject', reject },
  { 'claim', claim }, { 'stage', stage }, { 'complete', complete }, { 'short', short }, { 'fail', fail },
  { 'register', register }, { 'heartbeat', heartbeat }, { 'deregister', deregister }, { 'release', release }, { 'tick', tick },
  { 'checkpoint', checkpoint }, { 'publish', publish }, { 'suspend', suspend }, { 'signal', signal }, { 'cancel', cancel }, { 'audit', audit },
  { 'collect', collect }, { 'send', send }, { 'waits', waits },
  { 'reserve', across.reserve }, { 'reserved', across.reserved }, { 'let_go', across.let_go }, { 'void', across.void },
  { 'alias', across.alias },
}
for i = 1, #transitions do redis.register_function('@PREFIX@' .. transitions[i][1], transitions[i][2]) end
