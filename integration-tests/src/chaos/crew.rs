//! The processes of the fleet, their connections to Redis, and the faults of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::effects;
use super::plan::{Fault, Kind, Plan};
use crate::fleet::{Process, Signal};
use crate::proxy::Proxy;

const WORKERS: usize = 4;
const COORDINATORS: usize = 2;

/// The programs under test: `env!("CARGO_BIN_EXE_test-worker")` and `env!("CARGO_BIN_EXE_test-stepfleet")`.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// The worker.
    pub worker: &'static str,
    /// The coordinator.
    pub stepfleet: &'static str,
}

/// How often each kind of fault happened.
pub(super) type Faults = BTreeMap<Kind, u32>;

/// All of them.
pub(super) struct Crew {
    programs: Programs,
    /// For logs, effects and clocks.
    folder: PathBuf,
    seats: Vec<Seat>,
    ending: Vec<(String, Process)>,
    started: usize,
    reliefs: Vec<(Instant, usize, Relief)>,
    pub(super) faults: Faults,
    /// When a worker fell silent for good or for long (ms since 1970), by its name, and whether it was killed.
    pub(super) silenced: Vec<(String, u64, bool)>,
    /// Actions that no process may take now.
    pub(super) troubles: Vec<String>,
}

/// A place in the fleet: its process changes.
struct Seat {
    name: String,
    process: Process,
    url: String,
    proxy: Option<Proxy>,
    clock: Option<PathBuf>,
    is_worker: bool,
    is_away: bool,
}

enum Relief {
    GoOn,
    Rejoin,
    HurryUp,
}

impl Crew {
    /// Starts them all. `cuts`: each has its own proxy to Redis, which can be cut.
    pub(super) async fn start(programs: Programs, folder: &Path, redis: &str, cuts: bool) -> Self {
        let mut this = Self {
            programs,
            folder: folder.to_owned(),
            seats: Vec::new(),
            ending: Vec::new(),
            started: 0,
            reliefs: Vec::new(),
            faults: Faults::new(),
            silenced: Vec::new(),
            troubles: Vec::new(),
        };
        for seat in 0..WORKERS + COORDINATORS {
            let proxy = if cuts { Some(Proxy::to(redis).await) } else { None };
            let url = proxy.as_ref().map_or(redis, |proxy| &proxy.url).to_owned();
            let clock = (seat == 0 && fake_clock().is_some()).then(|| folder.join("clock"));
            if let Some(clock) = &clock {
                std::fs::write(clock, "+0").expect("the clock's file");
            }
            let is_worker = seat < WORKERS;
            let (name, process) = this.launch(is_worker, &url, clock.as_deref());
            this.seats.push(Seat { name, process, url, proxy, clock, is_worker, is_away: false });
        }
        this
    }

    /// Which kinds of faults are impossible here, and why.
    pub(super) fn missing(&self) -> Option<&'static str> {
        self.seats[0].clock.is_none().then_some("no clock jumps: the program faketime is not installed")
    }

    pub(super) fn can_jump(&self) -> bool {
        self.seats[0].clock.is_some()
    }

    fn launch(&mut self, is_worker: bool, redis: &str, clock: Option<&Path>) -> (String, Process) {
        self.started += 1;
        let name = format!("{}{}", if is_worker { 'w' } else { 'c' }, self.started);
        let log = self.folder.join("effects");
        let log = log.to_str().expect("a path of text");
        let mut settings = vec![("STEPFLEET_REDIS", redis), ("RUST_LOG", "info"), ("STEPFLEET_PARTITIONS", "1")];
        if !is_worker {
            // The nemesis kills the workers, so no step may be blamed.
            let arguments = ["coordinator", "--max-losses", "100000", "--id", &name];
            let process = Process::start(Path::new(self.programs.stepfleet), &arguments, &settings);
            return (name, process);
        }
        settings.extend([
            (effects::VARIABLE, log),
            ("STEPFLEET_WORKER_NAME", &name),
            ("STEPFLEET_CONCURRENCY", "6"),
            ("STEPFLEET_DRAIN_SECONDS", "5"),
        ]);
        let library = fake_clock();
        if let (Some(clock), Some(library)) = (clock, &library) {
            settings.extend([
                ("LD_PRELOAD", library.as_str()),
                ("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("a path of text")),
                ("FAKETIME_CACHE_DURATION", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ]);
        }
        let process = Process::start(Path::new(self.programs.worker), &[], &settings);
        (name, process)
    }

    /// Carries out the plan until the time is over and each of these kinds has happened.
    pub(super) async fn torment(mut self, mut plan: Plan, kinds: Vec<Kind>, until: Instant) -> Self {
        loop {
            let fault = plan.next().expect("the plan has no end");
            self.wait_until(Instant::now() + fault.after).await;
            if Instant::now() >= until && kinds.iter().all(|kind| self.faults.contains_key(kind)) {
                break;
            }
            let victim = self.victim(&fault).await;
            self.strike(victim, &fault);
            *self.faults.entry(fault.kind).or_default() += 1;
        }
        while let Some(at) = self.next_relief() {
            self.wait_until(at).await;
        }
        self
    }

    fn next_relief(&self) -> Option<Instant> {
        self.reliefs.iter().map(|(at, ..)| *at).min()
    }

    /// Waits, and meanwhile ends the faults of processes whose time is over.
    async fn wait_until(&mut self, moment: Instant) {
        while let Some(next) = self.next_relief().filter(|next| *next <= moment) {
            tokio::time::sleep_until(next).await;
            let due = self.reliefs.iter().position(|(at, ..)| *at == next).expect("it was just there");
            let (_, seat, relief) = self.reliefs.swap_remove(due);
            let seat = &mut self.seats[seat];
            match relief {
                Relief::GoOn => seat.process.signal(Signal::CONT),
                Relief::Rejoin => seat.proxy.iter().for_each(|proxy| proxy.part(false)),
                Relief::HurryUp => seat.proxy.iter().for_each(|proxy| proxy.delay(Duration::ZERO)),
            }
            if !matches!(relief, Relief::HurryUp) {
                seat.is_away = false;
            }
        }
        tokio::time::sleep_until(moment).await;
    }

    /// One that is running. Half of the workers, and of the coordinators, always run.
    async fn victim(&mut self, fault: &Fault) -> usize {
        let hits = |seat: &Seat| match fault.kind {
            Kind::KillCoordinator | Kind::FreezeCoordinator => !seat.is_worker,
            Kind::JumpClock => seat.clock.is_some(),
            Kind::CutConnections | Kind::LoseRequests | Kind::LoseReplies | Kind::Delay => seat.proxy.is_some(),
            _ => seat.is_worker,
        };
        if fault.kind == Kind::JumpClock {
            return self.seats.iter().position(hits).expect("a worker with a clock of its own");
        }
        loop {
            let free: Vec<_> = (0..self.seats.len()).filter(|at| !self.seats[*at].is_away).collect();
            let victims: Vec<_> = free.iter().copied().filter(|at| hits(&self.seats[*at])).collect();
            if let Some(victim) = victims.get(fault.victim % victims.len().max(1)) {
                let is_worker = self.seats[*victim].is_worker;
                let peers = free.iter().filter(|at| self.seats[**at].is_worker == is_worker).count();
                if peers > if is_worker { WORKERS / 2 } else { COORDINATORS / 2 } {
                    return *victim;
                }
            }
            let next = self.next_relief().expect("somebody is away");
            self.wait_until(next).await;
        }
    }

    fn strike(&mut self, at: usize, fault: &Fault) {
        let between = |from: f64, to: f64| Duration::from_secs_f64(from + fault.extent * (to - from));
        match fault.kind {
            Kind::KillWorker | Kind::KillCoordinator => {
                self.silence(at, true);
                self.dies_by_itself(at);
                self.seats[at].process.kill();
                self.replace(at, false);
            }
            Kind::EndWorker => {
                if !self.dies_by_itself(at) {
                    self.seats[at].process.signal(Signal::TERM);
                }
                self.replace(at, true);
            }
            Kind::FreezeWorker => self.freeze(at, between(0.1, 2.0)),
            Kind::FreezeCoordinator => self.freeze(at, between(0.5, 4.0)),
            Kind::FreezeWorkerBeyondLease => {
                self.silence(at, false);
                self.freeze(at, between(5.5, 7.0));
            }
            Kind::Partition => {
                self.silence(at, false);
                self.away(at, between(5.5, 7.0), Relief::Rejoin);
                self.seats[at].proxy.iter().for_each(|proxy| proxy.part(true));
            }
            Kind::JumpClock => {
                let hours = if fault.extent < 0.5 { "+5h" } else { "-5h" };
                let clock = self.seats[at].clock.as_ref().expect("it has one");
                let is_now = std::fs::read_to_string(clock).expect("the clock's file");
                std::fs::write(clock, if is_now == hours { "+0" } else { hours }).expect("the clock's file");
            }
            Kind::Delay => {
                let proxy = self.seats[at].proxy.as_ref().expect("it has one");
                proxy.delay(between(0.01, 0.2));
                self.reliefs.push((Instant::now() + Duration::from_secs(2), at, Relief::HurryUp));
            }
            kind => {
                let proxy = self.seats[at].proxy.as_ref().expect("it has one");
                match kind {
                    Kind::CutConnections => proxy.cut(),
                    Kind::LoseRequests => proxy.lose_next_request(),
                    Kind::LoseReplies => proxy.lose_reply_after(i64::try_from(fault.victim % 4).expect("a few")),
                    other => unreachable!("{other:?} is no fault of processes"),
                }
            }
        }
    }

    fn silence(&mut self, at: usize, is_killed: bool) {
        let ms = SystemTime::UNIX_EPOCH.elapsed().expect("later than 1970").as_millis();
        self.silenced.push((self.seats[at].name.clone(), u64::try_from(ms).expect("no such age"), is_killed));
    }

    fn freeze(&mut self, at: usize, time: Duration) {
        self.seats[at].process.signal(Signal::STOP);
        self.away(at, time, Relief::GoOn);
    }

    fn away(&mut self, at: usize, time: Duration, relief: Relief) {
        self.seats[at].is_away = true;
        self.reliefs.push((Instant::now() + time, at, relief));
    }

    /// Whether the process has ended although nobody told it to.
    fn dies_by_itself(&mut self, at: usize) -> bool {
        let seat = &mut self.seats[at];
        let Some(status) = seat.process.has_ended() else { return false };
        self.troubles.push(format!("{} ended by itself: {status}; its log is in {}.log", seat.name, seat.name));
        true
    }

    fn replace(&mut self, at: usize, is_ending: bool) {
        let (is_worker, url, clock) =
            (self.seats[at].is_worker, self.seats[at].url.clone(), self.seats[at].clock.clone());
        let (name, process) = self.launch(is_worker, &url, clock.as_deref());
        let seat = &mut self.seats[at];
        let old = (std::mem::replace(&mut seat.name, name), std::mem::replace(&mut seat.process, process));
        if is_ending {
            self.ending.push(old);
        } else {
            self.keep_log(&old.0, &old.1);
        }
    }

    fn keep_log(&self, name: &str, process: &Process) {
        std::fs::write(self.folder.join(format!("{name}.log")), process.log()).expect("the folder of the evidence");
    }

    /// Waits for the processes that were told to end, and keeps all logs.
    pub(super) async fn settle(&mut self) {
        for at in 0..self.seats.len() {
            self.dies_by_itself(at);
        }
        for (name, mut process) in std::mem::take(&mut self.ending) {
            let status = process.ended().await;
            if !status.success() {
                self.troubles.push(format!("{name} was told to end, and ended with {status}"));
            }
            self.keep_log(&name, &process);
        }
        for seat in &self.seats {
            self.keep_log(&seat.name, &seat.process);
        }
    }
}

/// The library that fakes clocks, if it is installed.
fn fake_clock() -> Option<String> {
    let output = Command::new("faketime").args(["-f", "+0", "sh", "-c", "echo $LD_PRELOAD"]).output().ok()?;
    let library = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !library.is_empty()).then_some(library)
}
