//! Start runs and wait for their results from Rust. Other languages do the same with plain Redis commands, as
//! `docs/protocol.md` shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

mod asked;
mod entity;
mod fork;
pub(crate) mod patience;
mod questions;
mod session;
mod start;
mod waiting;

use self::patience::patiently;
use self::waiting::Registered;
use crate::backoff::{Backoff, FOLLOWING};
use crate::codec::{self, Content};
use crate::error::{Error, Result};
use crate::export::Export;
use crate::follow::Follower;
use crate::listing::Runs;
use crate::partitions::{Home, Partitions};
use crate::published::Position;
use crate::request::{PlainRequest, RetryRequest, SendRequest, SignalRequest, StartRequest};
use crate::run::{Run, Status};
use crate::snapshot::Snapshot;
use crate::store::CallerStore;
use crate::{encryption, env};

use self::asked::look_until_there;
pub use self::asked::{Asked, Reception};
pub use self::entity::EntityHandle;
pub use self::fork::ForkRun;
pub use self::session::{SessionHandle, SessionStatus};
pub use self::start::StartRun;
pub use crate::step::OpenWait;
pub use crate::store::{Registration, RequestFate};

/// A caller of a fleet. Cheap to clone.
///
/// A call that Redis cannot answer (because it restarts, or another server takes over) is repeated for about two
/// seconds before it fails: reads change nothing, and each request has an id, so it is taken once.
///
/// ```no_run
/// # extern crate stepfleet_shared as stepfleet;
/// # async fn example() -> stepfleet::Result<()> {
/// let client = stepfleet::Client::connect("redis://127.0.0.1")?;
/// let run = client.start("research", &serde_json::json!({"topic": "otters"})).id("otters-1").enqueue().await?;
/// let report: serde_json::Value = run.result(std::time::Duration::from_secs(60)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    home: Home<dyn CallerStore>,
    registered: Arc<Registered>,
}

impl Client {
    /// A client for the namespace `sf`. It connects at its first call. Fails if the URL is not valid.
    pub fn connect(url: &str) -> Result<Self> {
        Self::connect_to(url, "sf")
    }

    /// A client for the fleet that the environment names: `STEPFLEET_REDIS`, or the file of `STEPFLEET_REDIS_FILE` (default
    /// [`env::DEFAULT_URL`], the Redis of `stepfleet dev`), and `STEPFLEET_NAMESPACE` (default `sf`), as workers and the command line read
    /// them. Connects at its first call; fails when the URL cannot be read.
    pub fn connect_from_env() -> Result<Self> {
        Self::connect_to(&env::redis()?, &env::namespace())
    }

    /// A client for another namespace. It need not exist yet: requests wait in the inbox of its first partition until a
    /// coordinator creates it.
    pub fn connect_to(url: &str, namespace: &str) -> Result<Self> {
        Ok(Self { home: Home::at(url, namespace)?, registered: Arc::default() })
    }

    /// A client on existing partitions, or on the one store of a namespace.
    #[doc(hidden)]
    pub fn with_store(partitions: impl Into<Partitions<dyn CallerStore>>) -> Self {
        Self { home: Home::from(partitions.into()), registered: Arc::default() }
    }

    /// The partitions of the namespace, for everything that a caller may do and this client has no method for. If the
    /// namespace does not exist yet, the first one alone.
    ///
    /// ```no_run
    /// # extern crate stepfleet_shared as stepfleet;
    /// # async fn example(client: stepfleet::Client) -> stepfleet::Result<()> {
    /// let workers = client.partitions().await?.first().workers().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// What only a worker or a coordinator may do is out of reach:
    ///
    /// ```compile_fail,E0599
    /// # extern crate stepfleet_shared as stepfleet;
    /// # async fn example(client: stepfleet::Client) -> stepfleet::Result<()> {
    /// let gone = client.partitions().await?.first().deregister("somebody-else").await?;
    /// # Ok(()) }
    /// ```
    #[doc(hidden)]
    pub async fn partitions(&self) -> Result<Partitions<dyn CallerStore>> {
        patiently(|| async { self.home.known().await }).await
    }

    /// Prepares the start of a run; [`StartRun::enqueue`] sends it. The input becomes the start event.
    pub fn start<T: Serialize + ?Sized>(&self, workflow: &str, input: &T) -> StartRun {
        self.prepare(workflow, codec::encode_encrypted("the input", Content::Json, input))
    }

    /// Like [`Client::start`], with an input that is JSON text already.
    pub fn start_json(&self, workflow: &str, input: &str) -> StartRun {
        let input = input.as_bytes().to_vec();
        // Text that is not JSON is refused as it is.
        let is_json = codec::check_input(Content::Json, &input).is_ok();
        self.prepare(workflow, Ok(if is_json { encryption::written(Content::Json, input) } else { input }))
    }

    fn prepare(&self, workflow: &str, input: Result<Vec<u8>>) -> StartRun {
        let client = self.clone();
        StartRun { client, request: input.map(|input| StartRequest::new(workflow, input)), holds: false }
    }

    /// What the fleet serves, or has served: every version of every workflow that a worker has ever registered, by
    /// name and version, with its steps and the schemas of its input and result.
    pub async fn workflows(&self) -> Result<Vec<Registration>> {
        patiently(|| async { self.home.known().await?.registrations().await }).await
    }

    /// Lists runs: `client.runs().workflow("research").status(Status::Failed).list(20)`.
    pub fn runs(&self) -> Runs {
        Runs::of(self.home.clone())
    }

    /// A handle to the run with this id, whether it exists or not.
    pub fn run(&self, id: impl Into<String>) -> RunHandle {
        RunHandle { client: self.clone(), id: id.into(), workflow: None }
    }
}

/// One run, seen by its caller.
#[derive(Clone)]
pub struct RunHandle {
    client: Client,
    id: String,
    /// The workflow that its request names, if this handle was returned by a start.
    workflow: Option<String>,
}

impl RunHandle {
    /// The run's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The current run; None if no coordinator has taken it in yet, or if it does not exist.
    pub async fn status(&self) -> Result<Option<Run>> {
        patiently(|| async { self.client.home.known().await?.run(&self.id).await }).await
    }

    /// The state that the run's steps have committed so far; None if the run does not exist (yet).
    pub async fn snapshot(&self) -> Result<Option<Snapshot>> {
        patiently(|| async {
            let partitions = self.client.home.known().await?;
            let Some(run) = partitions.run(&self.id).await? else { return Ok(None) };
            let fields = partitions.of(&run.id).context(&run.id).await?;
            Snapshot::of(run, fields).map(Some)
        })
        .await
    }

    /// What the run's bodies have recorded, to be replayed against other code with `testing::replay` of the test kit.
    /// None if the run does not exist (yet). It contains the run's data.
    ///
    /// Recorded results are kept as long as they are needed: while a step has not ended, after it has failed, and, in
    /// a run of one step such as a durable function, as long as the run is readable. Other runs are exported without
    /// steps.
    pub async fn export(&self) -> Result<Option<Export>> {
        patiently(|| async {
            let partitions = self.client.home.known().await?;
            let Some(run) = partitions.run(&self.id).await? else { return Ok(None) };
            let journals = partitions.of(&run.id).journals(&run.id).await?;
            Ok(Some(Export::of(&run, journals)))
        })
        .await
    }

    /// Asks to cancel the run. It ends as `cancelled` as soon as a coordinator has taken the request; steps that are
    /// executing are dropped, and can commit nothing.
    ///
    /// Fails only when the request cannot be sent; [`Asked::taken`] returns its outcome. A run that has ended stays
    /// as it is.
    pub async fn cancel(&self) -> Result<Asked> {
        self.ask_plainly("cancel").await
    }

    /// Prepares a run that continues from a point of this one, which may be active or have ended in any way;
    /// [`ForkRun::enqueue`] sends the request. This run stays as it is.
    ///
    /// A run of one step, such as a durable function, can be forked at any of its recorded calls ([`ForkRun::call`]):
    /// the fork has its input, the state that it began with, and what was recorded before that call. In any other
    /// run, the fork begins with a step execution that has not ended or that failed ([`ForkRun::seq`]), with the
    /// current state; or it begins as the run did.
    ///
    /// ```no_run
    /// # extern crate stepfleet_shared as stepfleet;
    /// # async fn example(run: stepfleet::client::RunHandle) -> stepfleet::Result<()> {
    /// let limit = std::time::Duration::from_secs(10);
    /// let (fork, asked) = run.fork().call(3).enqueue().await?;
    /// asked.taken(limit).await?;
    /// let result: serde_json::Value = fork.result(limit).await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn fork(&self) -> ForkRun {
        ForkRun::of(self.clone())
    }

    /// Asks to pause the run: nothing new of it begins until [`RunHandle::resume`]. A step that is executing goes on
    /// and commits; what follows it is held back. Signals and deadlines still take effect, and what they set off is
    /// held back too. The run's timeout keeps running.
    ///
    /// Fails only when the request cannot be sent; [`Asked::taken`] returns its outcome. A paused run stays paused;
    /// one that has ended cannot be paused.
    pub async fn pause(&self) -> Result<Asked> {
        self.ask_plainly("pause").await
    }

    /// Asks to resume a paused run. Changes nothing if it is not paused; refused if it has ended.
    ///
    /// Fails only when the request cannot be sent; [`Asked::taken`] returns its outcome.
    pub async fn resume(&self) -> Result<Asked> {
        self.ask_plainly("resume").await
    }

    async fn ask_plainly(&self, operation: &str) -> Result<Asked> {
        let request = new_id();
        let plain = PlainRequest { run: self.id.clone(), request: Some(request.clone()) };
        plain.check()?;
        self.ask(request, &plain.fields(operation)).await
    }

    /// Asks to retry a failed run from the step that failed. That step begins anew, with all its retries; what other
    /// steps have committed stays, and recorded results are reused. The run's timeout starts again.
    ///
    /// Fails only when the request cannot be sent; [`Asked::taken`] says whether the run goes on, and if not, why: it
    /// is active, or it ended in another way. [`RunHandle::wait`] sees the old end until the request is taken.
    pub async fn retry(&self) -> Result<Asked> {
        self.retry_as(None).await
    }

    /// Like [`RunHandle::retry`], with another event for the step that failed; if that step takes the run's input,
    /// another input. Rejected if that step works on several events (a join or a set), and if no step failed (a
    /// timeout).
    pub async fn retry_with<T: Serialize + ?Sized>(&self, event: &T) -> Result<Asked> {
        self.retry_as(Some(codec::encode_encrypted("the event", Content::Json, event)?)).await
    }

    async fn retry_as(&self, input: Option<Vec<u8>>) -> Result<Asked> {
        let request = new_id();
        let retry =
            RetryRequest { run: self.id.clone(), content: Content::Json, input, request: Some(request.clone()) };
        retry.check()?;
        self.ask(request, &retry.fields()).await
    }

    /// Sends the run a signal: the step that waits for this name gets the value. If none waits yet, the signal is
    /// kept.
    ///
    /// Fails only when the request cannot be sent; [`Asked::taken`] returns its outcome.
    pub async fn signal<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<Asked> {
        let input = codec::encode_as("the signal's value", Content::Json, value)?;
        self.signal_json(name, input).await
    }

    /// Like [`RunHandle::signal`], with a value that is JSON text already.
    pub async fn signal_json(&self, name: &str, value: impl Into<Vec<u8>>) -> Result<Asked> {
        let (run, request) = (self.id.clone(), new_id());
        let (content, input) = (Content::Json, value.into());
        let signal = SignalRequest { run, name: name.into(), content, input, request: Some(request.clone()) };
        signal.check()?;
        self.ask(request, &signal.fields()).await
    }

    /// What the run waits for now: the names of the signals, their filters, and their deadlines. Empty if it waits
    /// for none, has ended, or does not exist.
    pub async fn waits(&self) -> Result<Vec<OpenWait>> {
        patiently(|| async { self.client.home.known().await?.of(&self.id).waits(&self.id).await }).await
    }

    /// Its id makes it safe to repeat.
    async fn ask(&self, request: String, fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Asked> {
        patiently(|| async { self.client.home.known().await?.of(&self.id).enqueue(fields).await }).await?;
        Ok(Asked { client: self.client.clone(), run: self.id.clone(), request })
    }

    /// Follows what the run publishes, from the beginning to its end. Reads only when [`Follower::next`] is called.
    ///
    /// ```no_run
    /// # extern crate stepfleet_shared as stepfleet;
    /// # async fn example(run: stepfleet::client::RunHandle) -> stepfleet::Result<()> {
    /// let mut follower = run.follow();
    /// while let Some(published) = follower.next().await? {
    ///     println!("{}: {published:?}", published.position);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn follow(&self) -> Follower {
        self.follow_from(Position::BEGINNING)
    }

    /// Like [`RunHandle::follow`], from after a position: that of the last entry that you have processed.
    pub fn follow_from(&self, after: Position) -> Follower {
        Follower::new(self.client.home.clone(), self.id.clone(), after)
    }

    /// Sends the run an event from outside, for every step that takes it; the value is the event's JSON. It acts as
    /// if a step outside of any fan-out had returned it.
    ///
    /// Fails only when the request cannot be sent. An event that cannot be taken (because the run has ended, or no
    /// step takes it) goes to the rejected requests, and [`Asked::taken`] says so.
    pub async fn send<T: Serialize + ?Sized>(&self, event: &str, value: &T) -> Result<Asked> {
        self.send_to(None, event, value).await
    }

    /// Like [`RunHandle::send`], for one of the steps that take it.
    pub async fn send_to<T: Serialize + ?Sized>(&self, step: Option<&str>, event: &str, value: &T) -> Result<Asked> {
        let input = codec::encode_encrypted(&format!("the event {event}"), Content::Json, value)?;
        let (run, event, step) = (self.id.clone(), event.to_owned(), step.map(str::to_owned));
        let request = new_id();
        let send = SendRequest { run, event, step, content: Content::Json, input, request: Some(request.clone()) };
        send.check()?;
        self.ask(request, &send.fields()).await
    }

    /// Waits until a coordinator has accepted the run's request, for at most `limit`, and returns the run. A run of a session then
    /// has its place in the line: requests that are sent from now on come after it.
    ///
    /// Fails with [`Error::is_invalid`] and the reason if the request was rejected, or an earlier one with the same id and this one
    /// is still on its way. Fails with [`Error::is_timeout`] when the limit is over; the error says what the request waits for.
    pub async fn accepted(&self, limit: Duration) -> Result<Run> {
        match look_until_there(limit, || self.status()).await? {
            Some(run) if run.status == Status::Rejected => Err(Error::invalid(
                run.error.unwrap_or_else(|| format!("the request for run {} was rejected", self.id)),
            )),
            Some(run) => Ok(run),
            None => Err(self.timed_out(limit, Ok(None)).await),
        }
    }

    /// Waits until the run has ended, for at most `limit`, and returns the run, however it ended.
    ///
    /// Keeps waiting while Redis is away. Fails with [`Error::is_timeout`] when the limit is over; the error says
    /// whether the run goes on, waits for a worker that serves its workflow, or does not exist.
    pub async fn wait(&self, limit: Duration) -> Result<Run> {
        let (until, mut backoff) = (Instant::now() + limit, Backoff::new(FOLLOWING));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let seen = async { self.client.home.known().await?.run(&self.id).await };
            match seen.await {
                Ok(Some(run)) if run.status.is_over() => return Ok(run),
                Err(error) if !error.is_unavailable() => return Err(error),
                seen if left.is_zero() => return Err(self.timed_out(limit, seen).await),
                Ok(run) => {
                    let id = run.map_or_else(|| self.id.clone(), |run| run.id);
                    // A message may be lost with its connection: look again after a while at the latest.
                    let limit = left.min(Duration::from_secs(2));
                    if let Ok(partitions) = self.client.partitions().await {
                        let _ = partitions.of(&id).wait_ended(&id, limit).await;
                    }
                }
                Err(_) => tokio::time::sleep(left.min(backoff.pause())).await,
            }
        }
    }

    /// Why the end was not seen.
    async fn timed_out(&self, limit: Duration, seen: Result<Option<Run>>) -> Error {
        let id = &self.id;
        let waits = Box::pin(self.waits_for()).await.ok().flatten();
        Error::timeout(match (seen, waits) {
            (Err(error), _) => format!("the end of run {id} was not seen within {limit:?}: {error}"),
            (Ok(Some(_)), Some(waits)) => format!("run {id} has not ended within {limit:?}: it waits for {waits}"),
            (Ok(Some(run)), None) => format!("run {id} has not ended within {limit:?}; its status is {}", run.status),
            (Ok(None), Some(waits)) => format!("run {id} has not started within {limit:?}: it waits for {waits}"),
            (Ok(None), None) => format!(
                "there is no run {id}: it was never started, has expired, or no coordinator has taken its request in within {limit:?}"
            ),
        })
    }

    /// Waits for the result, for at most `limit`. Fails with [`Error::is_run_failed`] when the run ended without one.
    pub async fn result<T: DeserializeOwned>(&self, limit: Duration) -> Result<T> {
        let run = self.wait(limit).await?;
        match (run.status, run.result) {
            (Status::Completed, Some(result)) => match run.content {
                Content::Json => codec::decode_json("the result", &result),
                Content::MessagePack => codec::decode_messagepack("the result", &result),
            },
            (status, _) => {
                let reason = run.error.unwrap_or_else(|| "no reason was recorded".into());
                Err(Error::run_failed(format!("run {} ended as {status}: {reason}", self.id)))
            }
        }
    }
}

/// Rises with time, to the millisecond, and has 62 random bits.
fn new_id() -> String {
    let since_1970 = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let ms = u64::try_from(since_1970.as_millis()).unwrap_or_default();
    format!("{}{}", in_base_36(ms, 9), in_base_36(rand::random(), 12))
}

/// The last few digits of a number.
fn in_base_36(mut number: u64, digits: usize) -> String {
    let mut text = vec![b'0'; digits];
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names;

    #[test]
    fn ids_that_are_made_are_good_and_differ() {
        let ids: std::collections::BTreeSet<String> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 21 && names::check_id("run id", id).is_ok()), "{ids:?}");
    }

    /// A call may be awaited on any thread.
    #[test]
    fn calls_can_be_sent_to_other_threads() {
        fn is_send<T: Send>(_: T) {}
        let client = Client::connect("redis://localhost").unwrap();
        let (run, limit) = (client.run("r"), Duration::ZERO);
        is_send(client.start("w", &1).enqueue());
        is_send((client.workflows(), client.runs().list(1), client.partitions()));
        is_send((run.status(), run.snapshot(), run.waits(), run.wait(limit), run.result::<u8>(limit)));
        is_send((run.signal("s", &1), run.send("E", &1), run.cancel()));
        is_send((run.retry(), run.retry_with(&1)));
        let asked = Asked { client, run: "r".into(), request: "q".into() };
        is_send((asked.fate(), asked.taken(limit)));
    }

    #[test]
    fn ids_rise_with_time() {
        assert_eq!(in_base_36(0, 3), "000");
        assert_eq!(in_base_36(36 * 36 - 1, 3), "0zz");
        assert!(in_base_36(1_700_000_000_000, 9) < in_base_36(1_700_000_000_001, 9));
        assert!(in_base_36(9_000_000_000_000, 9) > in_base_36(1_700_000_000_001, 9));
    }
}
