local transitions = {
  { 'start', start }, { 'defer', defer }, { 'reject', reject },
  { 'begin', begin }, { 'stage', stage }, { 'done', done }, { 'fail', fail },
  { 'register', register }, { 'beat', beat }, { 'leave', leave }, { 'release', release }, { 'tick', tick }, { 'orphans', orphans },
  { 'checkpoint', checkpoint }, { 'publish', publish }, { 'suspend', suspend }, { 'signal', signal }, { 'cancel', cancel }, { 'audit', audit },
  { 'collect', collect }, { 'send', send }, { 'waits', waits },
}
for i = 1, #transitions do redis.register_function('@PREFIX@' .. transitions[i][1], transitions[i][2]) end
