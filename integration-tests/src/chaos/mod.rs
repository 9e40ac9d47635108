//! A fleet under mixed load while a nemesis injects faults, and a checker that reads what is left.
//!
//! - `load`, `workflows`, `caller`: the requests, and who makes them.
//! - `plan`, `crew`, `servers`: the faults, and when they happen.
//! - `effects`, `gather`, `checker`, `report`: what is left, and whether it is correct.

mod caller;
pub mod checker;
mod crew;
pub mod effects;
mod gather;
pub mod load;
pub mod plan;
mod report;
mod servers;
pub mod workflows;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::caller::Caller;
use self::checker::{Promise, check};
use self::crew::Crew;
pub use self::crew::Programs;
use self::load::{Ask, Load};
use self::plan::{Kind, OF_CONNECTIONS, OF_MASTERS, OF_PROCESSES, OF_REDIS, Plan};
use self::servers::Servers;
use crate::proxy::Proxy;
use crate::redis::TestRedis;
use crate::sentinel::Sentinels;

/// How many jobs are under way at a time.
const AT_ONCE: usize = 24;
/// How long runs may take to end after the last fault. This is enough for a whole audit.
const SETTLES: Duration = Duration::from_secs(120);

/// The Redis of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// One Redis that loses nothing (`appendfsync always`).
    Lasting,
    /// One Redis that may come back without its last moments.
    Forgetful,
    /// A master and a replica that replace each other.
    Replicated,
}

/// A chaos test.
#[derive(Clone, Debug)]
pub struct Play {
    /// Its Redis.
    pub ground: Ground,
    /// How long faults happen.
    pub time: Duration,
    /// The seed of faults and load.
    pub seed: u64,
    /// The programs under test.
    pub programs: Programs,
    /// The folder of the evidence. It is removed if there is no violation.
    pub evidence: PathBuf,
    /// The command that repeats it.
    pub repeat: String,
}

impl Ground {
    fn promise(self) -> Promise {
        if self == Self::Lasting { Promise::NoLoss } else { Promise::Prefix }
    }

    async fn servers(self) -> Servers {
        match self {
            Self::Lasting => Servers::One(Box::new(TestRedis::process_with(&["--appendfsync", "always"]).await)),
            Self::Forgetful => Servers::One(Box::new(TestRedis::process().await)),
            Self::Replicated => {
                let sentinels = Sentinels::start().await;
                sentinels.hurry().await;
                Servers::Replicated(Box::new(sentinels))
            }
        }
    }

    fn of_servers(self) -> Vec<Kind> {
        match self {
            Self::Lasting => OF_REDIS.to_vec(),
            Self::Forgetful => [OF_REDIS, &[Kind::RewindRedis]].concat(),
            Self::Replicated => OF_MASTERS.to_vec(),
        }
    }
}

impl Play {
    /// Runs it, prints the report, and panics if there is a violation.
    pub async fn play(self) {
        let folder = self.evidence.join(format!("{:?}-{}", self.ground, self.seed).to_lowercase());
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for the evidence");
        println!(
            "chaos on {:?} for {:?} from seed {}; evidence in {}",
            self.ground,
            self.time,
            self.seed,
            folder.display()
        );
        let (report, is_right) = self.play_in(&folder).await;
        println!("{report}");
        assert!(is_right, "something is wrong: see above, and the evidence in {}", folder.display());
        std::fs::remove_dir_all(&folder).expect("the folder of the evidence");
    }

    async fn play_in(&self, folder: &Path) -> (String, bool) {
        let servers = self.ground.servers().await;
        let url = servers.url();
        // Behind Sentinels, every process finds the master itself.
        let cuts = self.ground != Ground::Replicated;
        let proxy = if cuts { Some(Proxy::to(&url).await) } else { None };
        let way = proxy.as_ref().map_or(&url, |proxy| &proxy.url);
        let caller = Caller::new(way, &url, self.ground.promise());
        let crew = Crew::start(self.programs, folder, &url, cuts).await;
        let missing = crew.missing();

        let mut kinds = OF_PROCESSES.to_vec();
        kinds.extend(cuts.then_some(OF_CONNECTIONS).into_iter().flatten());
        kinds.extend(crew.can_jump().then_some(Kind::JumpClock));
        let of_servers = self.ground.of_servers();
        let until = Instant::now() + self.time;
        let plans = (
            Plan::new(self.seed.wrapping_add(1), kinds.clone(), 300..1300),
            Plan::new(self.seed.wrapping_add(2), of_servers.clone(), 500..2500),
        );
        let (mut crew, (servers, of_redis), asked) = tokio::join!(
            crew.torment(plans.0, kinds, until),
            servers.torment(plans.1, of_servers, until),
            self.load(&caller, proxy.as_ref(), until)
        );
        self.all_end(&caller, &asked).await;
        crew.settle().await;

        let log = folder.join("effects");
        let evidence = gather::gather((&*caller.store, &caller.raw), self.ground.promise(), asked, &log).await;
        let violations = check(&evidence);
        crew.faults.extend(of_redis);
        let told = report::Told {
            title: format!("chaos on {:?} for {:?}, seed {}", self.ground, self.time, self.seed),
            faults: std::mem::take(&mut crew.faults),
            missing,
            silenced: std::mem::take(&mut crew.silenced),
            forgotten: caller.forgotten.load(std::sync::atomic::Ordering::Relaxed),
            fenced: fenced(folder),
            repeat: self.repeat.clone(),
        };
        let mut report = report::report(&evidence, &told, &violations);
        for trouble in &crew.troubles {
            report.push_str("\n  VIOLATION ");
            report.push_str(trouble);
        }
        report::leave(folder, &evidence, &report);
        drop(servers);
        (report, violations.is_empty() && crew.troubles.is_empty())
    }

    /// Callers run one job after another until the time is over. Returns all jobs.
    async fn load(&self, caller: &Caller, proxy: Option<&Proxy>, until: Instant) -> Vec<Ask> {
        let (mut load, mut asked) = (Load::new(self.seed), Vec::new());
        let (mut under_way, stop) = (FuturesUnordered::new(), CancellationToken::new());
        let mut jobs = 0_usize;
        while Instant::now() < until {
            while under_way.len() < AT_ONCE {
                let job = load.next().expect("the load has no end");
                asked.extend(job.iter().cloned());
                under_way.push(tokio::spawn(caller.clone().play(job, stop.clone())));
                jobs += 1;
                if let (Some(proxy), true) = (proxy, jobs.is_multiple_of(5)) {
                    // Callers lose replies and requests too.
                    if jobs.is_multiple_of(2) { proxy.lose_next_reply() } else { proxy.lose_next_request() }
                }
            }
            tokio::select! {
                Some(played) = under_way.next() => played.expect("a caller that does not give up"),
                () = tokio::time::sleep_until(until) => {}
            }
        }
        stop.cancel();
        while let Some(played) = under_way.next().await {
            played.expect("a caller that does not give up");
        }
        asked
    }

    /// Waits until all runs have ended, for at most `SETTLES`.
    async fn all_end(&self, caller: &Caller, asked: &[Ask]) {
        let until = Instant::now() + SETTLES;
        let mut open: FuturesUnordered<_> = asked.iter().map(|ask| caller.ends(ask)).collect();
        while let Ok(Some(_)) = tokio::time::timeout_at(until, open.next()).await {}
    }
}

/// How often workers were told that their commit came too late.
fn fenced(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).expect("the folder of the evidence");
    let logs = files.filter_map(Result::ok).filter(|file| file.path().extension().is_some_and(|end| end == "log"));
    let texts = logs.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.contains("the commit was rejected")).count()).sum()
}
