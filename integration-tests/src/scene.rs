//! One store, driven by hand: scenarios that must have the same outcome in memory and on a real Redis.

use std::sync::Arc;
use std::time::Duration;

use stepfleet_shared::names::Namespace;
use stepfleet_shared::store::memory::SavedStore;
use stepfleet_shared::store::{Audit, MemoryStore, RedisStore, Store};

use crate::redis::TestRedis;

/// When the clock of the memory store begins (ms since 1970).
pub const BEGINNING_MS: u64 = 1_000_000;

/// Some seconds: how long the scenario itself may take on Redis, whose clock keeps running.
const TAKES: Duration = Duration::from_secs(20);

/// Keys with times, which `pass` moves back: leases, timers, keys that expire, and pending entries of coordinators.
const PASS: &str = r"
local p, by = 'sf:{0}:', tonumber(ARGV[1])
local function earlier(due) return due == '0' and '@0' or string.format('@%d', due - by) end
for _, timer in ipairs(redis.call('ZRANGE', p .. 'timers', 0, -1)) do
  local moved, is_wait = string.gsub(timer, '^(wait %S+ %S+ %d+%.%d+)@(%d+)', function(wait, due) return wait .. earlier(due) end)
  if is_wait == 1 then
    redis.call('ZADD', p .. 'timers', redis.call('ZSCORE', p .. 'timers', timer), moved)
    redis.call('ZREM', p .. 'timers', timer)
  end
end
for _, key in ipairs(redis.call('KEYS', p .. 'run:*')) do
  if redis.call('HEXISTS', key, 'deadline') == 1 then redis.call('HINCRBY', key, 'deadline', -by) end
end
for _, name in ipairs({ 'leases', 'timers' }) do
  for _, member in ipairs(redis.call('ZRANGE', p .. name, 0, -1)) do redis.call('ZINCRBY', p .. name, -by, member) end
end
for _, key in ipairs(redis.call('KEYS', p .. '*')) do
  local left = redis.call('PTTL', key)
  if left > 0 then redis.call('PEXPIRE', key, left - by) end
end
for _, kind in ipairs({ 'steps:*', 'stopped:*' }) do
  for _, key in ipairs(redis.call('KEYS', p .. kind)) do
    local steps = redis.call('HGETALL', key)
    for i = 1, #steps, 2 do
      local state, due = string.match(steps[i + 1], '^(W %d+ %d+ %S+ )(%d+)$')
      if state then redis.call('HSET', key, steps[i], state .. string.format('%d', due - by)) end
      if string.sub(steps[i], 1, 1) == 'w' then redis.call('HSET', key, steps[i], (string.gsub(steps[i + 1], '@(%d+)', earlier))) end
    end
  end
end
if redis.call('EXISTS', p .. 'inbox') == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', p .. 'inbox')) do
    for _, given in ipairs(redis.call('XPENDING', p .. 'inbox', group[2], '-', '+', 1000)) do
      redis.call('XCLAIM', p .. 'inbox', group[2], given[2], 0, given[1], 'IDLE', given[3] + by, 'JUSTID')
    end
  end
end";

/// Names and values.
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A store to play a scenario on.
pub struct Scene {
    store: Arc<dyn Store>,
    stage: Stage,
}

enum Stage {
    Memory(MemoryStore),
    Redis(TestRedis),
}

/// Everything in a store, to restore it.
pub enum Saved {
    /// Of the memory store.
    Memory(Box<SavedStore>),
    /// The keys of Redis: name, time to live in ms (0 for ever), and the reply of `DUMP`.
    Redis(Vec<(Vec<u8>, i64, Vec<u8>)>),
}

/// Plays a scenario on the memory store, whose clock moves only when told to, and then on a new Redis.
pub async fn on_both(scenario: impl AsyncFn(&Scene)) {
    for scene in [Scene::in_memory(), Scene::on_redis().await] {
        eprintln!("--- on {}", if scene.redis().is_some() { "Redis" } else { "the memory store" });
        scenario(&scene).await;
        scene.assert_sound().await;
    }
}

impl Scene {
    fn in_memory() -> Self {
        let memory = MemoryStore::with_clock(Namespace::default(), BEGINNING_MS);
        Self { store: Arc::new(memory.clone()), stage: Stage::Memory(memory) }
    }

    async fn on_redis() -> Self {
        let redis = TestRedis::start().await;
        let store = RedisStore::new(&redis.url, Namespace::default()).expect("the test's own URL");
        Self { store: Arc::new(store), stage: Stage::Redis(redis) }
    }

    /// The store.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The store, for another task.
    pub fn shared(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// The Redis; none in memory.
    pub fn redis(&self) -> Option<&TestRedis> {
        match &self.stage {
            Stage::Redis(redis) => Some(redis),
            Stage::Memory(_) => None,
        }
    }

    /// Lets time pass, for everything that is due at some time.
    pub async fn pass(&self, by: Duration) {
        match &self.stage {
            Stage::Memory(memory) => memory.advance(by),
            Stage::Redis(redis) => {
                let mut connection = redis.connection().await;
                let by = u64::try_from(by.as_millis()).expect("no ages");
                let () =
                    redis::cmd("EVAL").arg(PASS).arg(0).arg(by).query_async(&mut connection).await.expect("its keys");
            }
        }
    }

    /// Lets time pass up to the last moment before something that is at least half a minute away.
    pub async fn pass_almost(&self, by: Duration) {
        self.pass(by.saturating_sub(self.moment())).await;
    }

    /// The last moment before something: one millisecond in memory. Redis' clock keeps running, so it is some seconds
    /// there.
    pub fn moment(&self) -> Duration {
        if self.redis().is_some() { TAKES } else { Duration::from_millis(1) }
    }

    /// Asserts that these times are the same: to the millisecond in memory; on Redis, give or take the time of the scenario.
    ///
    /// # Panics
    /// If they are not.
    #[track_caller]
    pub fn assert_time(&self, time: Option<Duration>, expected: Duration) {
        let is_so = match (time, &self.stage) {
            (Some(time), Stage::Redis(_)) => time.abs_diff(expected) <= TAKES,
            (time, _) => time == Some(expected),
        };
        assert!(is_so, "{time:?} instead of {expected:?}");
    }

    /// Looks for breaches in the store.
    ///
    /// # Panics
    /// If there are any.
    pub async fn assert_sound(&self) {
        if let Stage::Memory(memory) = &self.stage {
            assert_eq!(memory.breaches(), Vec::<String>::new());
        }
        let mut from = Some(0);
        while let Some(at) = from {
            let audit = Audit { repair: false, from: at, max_losses: 3, retention: Duration::from_secs(3600) };
            let audited = self.store.audit(&audit).await.expect("an answer");
            assert_eq!(audited.breaches, []);
            from = audited.next;
        }
    }

    /// The requests that were rejected, with their fields, oldest first.
    pub async fn rejected(&self) -> Vec<Fields> {
        match &self.stage {
            Stage::Memory(memory) => memory.rejected(),
            Stage::Redis(redis) => {
                let mut connection = redis.connection().await;
                let mut range = redis::cmd("XRANGE");
                range.arg("sf:{0}:rejected").arg("-").arg("+");
                let entries: Vec<(String, Fields)> = range.query_async(&mut connection).await.expect("the stream");
                entries.into_iter().map(|(_, fields)| fields).collect()
            }
        }
    }

    /// Saves everything in the store.
    pub async fn save(&self) -> Saved {
        let redis = match &self.stage {
            Stage::Memory(memory) => return Saved::Memory(Box::new(memory.save())),
            Stage::Redis(redis) => redis,
        };
        let mut connection = redis.connection().await;
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("its keys");
        let mut saved = Vec::new();
        for key in keys {
            let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.expect("a key");
            let dump = redis::cmd("DUMP").arg(&key).query_async(&mut connection).await.expect("a key");
            saved.push((key, left.max(0), dump));
        }
        Saved::Redis(saved)
    }

    /// Restores it, like a server that comes back without its latest writes.
    ///
    /// # Panics
    /// If another store was saved.
    pub async fn restore(&self, saved: &Saved) {
        match (&self.stage, saved) {
            (Stage::Memory(memory), Saved::Memory(saved)) => memory.restore(saved),
            (Stage::Redis(redis), Saved::Redis(saved)) => {
                let mut connection = redis.connection().await;
                let () = redis::cmd("FLUSHALL").query_async(&mut connection).await.expect("it forgets");
                for (key, left, dump) in saved {
                    let mut restore = redis::cmd("RESTORE");
                    restore.arg(key).arg(*left).arg(dump);
                    let () = restore.query_async(&mut connection).await.expect("what it gave itself");
                }
            }
            _ => panic!("this is of another store"),
        }
    }
}
