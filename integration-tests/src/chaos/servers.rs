//! The faults of Redis: of one server, or of a master with its replica and Sentinels.

use std::time::Duration;

use redis::cmd;
use tokio::time::{Instant, sleep};

use super::crew::Faults;
use super::plan::{Fault, Kind, Plan};
use crate::fleet::Signal;
use crate::redis::TestRedis;
use crate::sentinel::Sentinels;

/// The Redis of a fleet.
pub(super) enum Servers {
    /// One server.
    One(Box<TestRedis>),
    /// A master, its replica and Sentinels.
    Replicated(Box<Sentinels>),
}

impl Servers {
    pub(super) fn url(&self) -> String {
        match self {
            Self::One(redis) => redis.url.clone(),
            Self::Replicated(sentinels) => sentinels.url(),
        }
    }

    /// Carries out the plan until the time is over and each of these kinds has happened.
    pub(super) async fn torment(mut self, plan: Plan, kinds: Vec<Kind>, until: Instant) -> (Self, Faults) {
        let mut faults = Faults::new();
        for fault in plan {
            sleep(fault.after).await;
            if Instant::now() >= until && kinds.iter().all(|kind| faults.contains_key(kind)) {
                break;
            }
            match &mut self {
                Self::One(redis) => strike(redis, &fault).await,
                Self::Replicated(sentinels) => strike_masters(sentinels, &fault).await,
            }
            *faults.entry(fault.kind).or_default() += 1;
        }
        (self, faults)
    }
}

async fn strike(redis: &mut TestRedis, fault: &Fault) {
    let lasts = Duration::from_secs_f64(0.1 + fault.extent);
    match fault.kind {
        Kind::KillRedis => {
            redis.kill();
            sleep(lasts / 2).await;
            redis.start_again().await;
        }
        Kind::RestartRedis => {
            redis.end();
            redis.start_again().await;
        }
        Kind::RewindRedis => {
            let files = redis.copy_files();
            sleep(lasts / 2).await;
            redis.kill();
            redis.start_again_from(files).await;
        }
        Kind::FreezeRedis => {
            redis.signal(Signal::STOP);
            sleep(2 * lasts).await;
            redis.signal(Signal::CONT);
        }
        Kind::PauseClients => {
            let mut connection = redis.connection().await;
            let ms = u64::try_from(lasts.as_millis()).expect("a moment");
            let () =
                cmd("CLIENT").arg("PAUSE").arg(ms).arg("ALL").query_async(&mut connection).await.expect("it pauses");
            sleep(lasts).await;
        }
        Kind::KillClients => {
            let mut connection = redis.connection().await;
            let list: String = cmd("CLIENT").arg("LIST").query_async(&mut connection).await.expect("its clients");
            for line in list.lines().filter(|line| line.contains("name=stepfleet-")) {
                let id = line.split(' ').next().unwrap_or_default().trim_start_matches("id=");
                let _: u32 =
                    cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut connection).await.expect("it kills");
            }
        }
        Kind::FlushFunctions => flush(redis).await,
        other => unreachable!("{other:?} is no fault of one server"),
    }
}

async fn flush(redis: &TestRedis) {
    let mut connection = redis.connection().await;
    let () = cmd("FUNCTION").arg("FLUSH").query_async(&mut connection).await.expect("it forgets its functions");
}

async fn strike_masters(sentinels: &mut Sentinels, fault: &Fault) {
    let master = loop {
        match sentinels.master().await {
            Some(master) => break master,
            None => sleep(Duration::from_millis(50)).await,
        }
    };
    match fault.kind {
        Kind::FlushFunctions => return flush(&sentinels.servers[master]).await,
        Kind::FailOver => {
            while !sentinels.begin_failover().await {
                sleep(Duration::from_millis(100)).await;
            }
            sentinels.wait_for_master(1 - master).await;
        }
        Kind::KillMaster => {
            sentinels.servers[master].kill();
            sentinels.wait_for_master(1 - master).await;
            sentinels.servers[master].start_again().await;
        }
        Kind::FreezeMaster => {
            sentinels.servers[master].signal(Signal::STOP);
            sentinels.wait_for_master(1 - master).await;
            sentinels.servers[master].signal(Signal::CONT);
        }
        other => unreachable!("{other:?} is no fault of a master"),
    }
    sentinels.wait_until_whole().await;
}
