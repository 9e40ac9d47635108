//! Callers: each sends the requests of its job until they are accepted. A request that may be lost is sent again.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::cmd;
use stepfleet_shared::client::{Client, RequestFate};
use stepfleet_shared::names::Namespace;
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::store::{RedisStore, Store};
use tokio_util::sync::CancellationToken;

use super::checker::Promise;
use super::load::{Ask, Shape, Steering};
use super::workflows::Work;

const INBOX: &str = "sf:{0}:inbox";
/// Longer than any outage of a test.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a caller waits before it sends a request again that may have been forgotten.
const PATIENCE: Duration = Duration::from_secs(3);

/// A caller: cheap to clone.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) client: Client,
    /// Sends plain commands.
    pub(super) raw: Arc<RedisStore>,
    /// Reads on connections that nobody cuts.
    pub(super) store: Arc<dyn Store>,
    pub(super) promise: Promise,
    /// How many accepted runs were lost.
    pub(super) forgotten: Arc<AtomicU64>,
}

impl Caller {
    /// `url`: through the proxy that is cut. `direct`: without a proxy.
    pub(super) fn new(url: &str, direct: &str, promise: Promise) -> Self {
        let open = |url| RedisStore::new(url, Namespace::default()).expect("the test's own URL");
        Self {
            client: Client::connect(url).expect("the test's own URL"),
            raw: Arc::new(open(url)),
            store: Arc::new(open(direct)),
            promise,
            forgotten: Arc::default(),
        }
    }

    /// Runs a job: returns when its runs have ended, or when it is time to stop.
    pub(super) async fn play(self, job: Vec<Ask>, stop: CancellationToken) {
        for ask in &job {
            self.start(ask).await;
            if job.len() > 1 {
                // The order of a session is that in which its runs are accepted, also when it is time to stop: of two
                // coordinators, the one with the later request may be faster.
                self.is_there(ask).await;
            }
        }
        let steered = futures_util::future::join_all(job.iter().map(|ask| self.steer(ask)));
        steered.await;
        for ask in &job {
            tokio::select! {
                _ = self.ends(ask) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Waits until a run has ended, and sends forgotten requests again.
    pub(super) async fn ends(&self, ask: &Ask) -> Run {
        let mut asked = Instant::now();
        loop {
            if let Ok(Some(run)) = self.store.run(&ask.id).await
                && ask.is_over(run.status)
            {
                return run;
            }
            if self.promise == Promise::Prefix && asked.elapsed() > PATIENCE {
                self.ask_again(ask).await;
                asked = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a run is accepted. If it never is, the checker says so.
    async fn is_there(&self, ask: &Ask) {
        let (until, mut asked) = (Instant::now() + LIMIT, Instant::now());
        while !matches!(self.store.run(&ask.id).await, Ok(Some(_))) && Instant::now() < until {
            if self.promise == Promise::Prefix && asked.elapsed() > PATIENCE {
                self.start(ask).await;
                asked = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn start(&self, ask: &Ask) {
        if ask.is_raw {
            return self.start_plainly(ask).await;
        }
        let prepare = || {
            let start = self.client.start(ask.shape.workflow(), &ask.work).id(&ask.id).hold();
            let start = if ask.delay_ms > 0 { start.delay(Duration::from_millis(ask.delay_ms)) } else { start };
            if let Some(session) = &ask.session { start.session(session) } else { start }
        };
        insist(&ask.id, || prepare().enqueue()).await;
    }

    async fn start_plainly(&self, ask: &Ask) {
        let input = serde_json::to_string(&ask.work).expect("JSON");
        let mut add = cmd("XADD");
        add.arg(INBOX).arg("*").arg("op").arg("start").arg("workflow").arg(ask.shape.workflow());
        add.arg("id").arg(&ask.id).arg("input").arg(input);
        if ask.delay_ms > 0 {
            add.arg("delay").arg(ask.delay_ms);
        }
        if let Some(session) = &ask.session {
            add.arg("session").arg(session);
        }
        insist(&ask.id, || self.raw.command(&add)).await;
    }

    /// A request about a run, which is taken once however often it is sent.
    async fn request(&self, ask: &Ask, request: &str, fields: &[&str]) {
        let mut add = cmd("XADD");
        add.arg(INBOX).arg("*").arg("run").arg(&ask.id).arg("request").arg(request);
        for field in fields {
            add.arg(*field);
        }
        insist(&ask.id, || self.raw.command(&add)).await;
    }

    async fn signal(&self, ask: &Ask, request: &str, word: &str) {
        let value = serde_json::to_string(word).expect("JSON");
        self.request(ask, request, &["op", "signal", "name", "word", "input", &value]).await;
    }

    async fn steer(&self, ask: &Ask) {
        let signals = ask.words.iter().enumerate().map(|(n, (after, word))| async move {
            tokio::time::sleep(Duration::from_millis(*after)).await;
            self.signal(ask, &format!("word-{n}.0"), word).await;
        });
        futures_util::future::join_all(signals).await;
        if ask.shape == Shape::Mends {
            self.mend(ask).await;
        }
        match ask.steering {
            Steering::None => {}
            Steering::Cancel(after) => {
                tokio::time::sleep(Duration::from_millis(after)).await;
                if ask.is_raw {
                    self.request(ask, "cancel.0", &["op", "cancel"]).await;
                } else {
                    let run = self.client.run(&ask.id);
                    insist(&ask.id, || run.cancel()).await;
                }
            }
            Steering::Pause(after, lasts) => {
                tokio::time::sleep(Duration::from_millis(after)).await;
                self.request(ask, "pause.0", &["op", "pause"]).await;
                // Two coordinators might take them in the other order. A forgotten pause needs no resume.
                let until = Instant::now() + PATIENCE;
                while self.fate(ask, "pause.0").await.is_none()
                    && (self.promise == Promise::NoLoss || Instant::now() < until)
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                tokio::time::sleep(Duration::from_millis(lasts)).await;
                self.request(ask, "resume.0", &["op", "resume"]).await;
            }
        }
    }

    /// Waits until the run has failed, and retries it with another event.
    async fn mend(&self, ask: &Ask) {
        let until = Instant::now() + PATIENCE;
        // If the retry may be forgotten, a later look at the run sends it again.
        while self.promise == Promise::NoLoss || Instant::now() < until {
            if self.store.run(&ask.id).await.is_ok_and(|run| run.is_some_and(|run| run.status == Status::Failed)) {
                return self.retry(ask, "retry.0").await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn retry(&self, ask: &Ask, request: &str) {
        let work = serde_json::to_string(&Work { n: 0, ..ask.work }).expect("JSON");
        self.request(ask, request, &["op", "retry", "input", &work]).await;
    }

    async fn fate(&self, ask: &Ask, request: &str) -> Option<RequestFate> {
        insist(&ask.id, || self.store.request_fate(&ask.id, request)).await
    }

    /// As a caller does after a failover: sends each request without an outcome again, with the same id.
    async fn ask_again(&self, ask: &Ask) {
        let Ok(run) = self.store.run(&ask.id).await else { return };
        let Some(run) = run else {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
            return self.start(ask).await;
        };
        for (n, (_, word)) in ask.words.iter().enumerate() {
            if let Some(request) = self.open_request(ask, &format!("word-{n}"), false).await {
                self.signal(ask, &request, word).await;
            }
        }
        if matches!(ask.steering, Steering::Cancel(_))
            && let Some(request) = self.open_request(ask, "cancel", true).await
        {
            self.request(ask, &request, &["op", "cancel"]).await;
        }
        if ask.shape == Shape::Mends
            && run.status == Status::Failed
            && let Some(request) = self.open_request(ask, "retry", true).await
        {
            self.retry(ask, &request).await;
        }
        if run.status == Status::Paused
            && let Some(request) = self.open_request(ask, "resume", true).await
        {
            self.request(ask, &request, &["op", "resume"]).await;
        }
    }

    /// The id with which a request is to be sent again: the same one, unless it was rejected because the run did not exist at
    /// that time. None if it was taken, unless it may be repeated.
    async fn open_request(&self, ask: &Ask, name: &str, may_repeat: bool) -> Option<String> {
        for n in 0.. {
            let request = format!("{name}.{n}");
            match self.fate(ask, &request).await {
                None => return Some(request),
                Some(RequestFate::Rejected(_)) => {}
                Some(_) if may_repeat => {}
                Some(_) => return None,
            }
        }
        None
    }
}

/// Makes a call again and again, as long as it fails.
async fn insist<T, E: Display, F: Future<Output = Result<T, E>>>(what: &str, mut call: impl FnMut() -> F) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < until, "{what}: not accepted within {LIMIT:?}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
