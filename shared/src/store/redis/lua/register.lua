local transitions = {
  { 'start', start }, { 'defer', defer }, { 'reject', reject },
  { 'claim', claim }, { 'stage', stage }, { 'complete', complete }, { 'short', short }, { 'fail', fail },
  { 'register', register }, { 'heartbeat', heartbeat }, { 'deregister', deregister }, { 'release', release }, { 'tick', tick },
  { 'checkpoint', checkpoint }, { 'publish', publish }, { 'suspend', suspend }, { 'signal', signal }, { 'cancel', cancel }, { 'audit', audit },
  { 'collect', collect }, { 'send', send }, { 'waits', waits },
  { 'reserve', reserve }, { 'reserved', reserved }, { 'let_go', let_go_key }, { 'void', void }, { 'alias', alias },
}
for i = 1, #transitions do redis.register_function('@PREFIX@' .. transitions[i][1], transitions[i][2]) end
