//! Sessions, seen by their callers.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::patience::patiently;
use super::{Client, new_id};
use crate::error::Result;
use crate::partition::{id_in, partition_of};
use crate::store::SessionInfo;
use crate::{fields, names, snapshot};

impl Client {
    /// A handle to the session with this name, whether it exists or not. Its first run creates it:
    /// [`StartRun::session`](super::StartRun::session).
    ///
    /// ```no_run
    /// # extern crate stepfleet_shared as stepfleet;
    /// # async fn example(client: stepfleet::Client) -> stepfleet::Result<()> {
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Chat { messages: Vec<String> }
    /// client.start("chat", &"Hello").session("user-7").enqueue().await?;
    /// client.start("chat", &"Are you there?").session("user-7").enqueue().await?;
    /// let session = client.session("user-7");
    /// if let Some(status) = session.status().await? {
    ///     println!("{:?} runs, and {} wait for their turn", status.running, status.waiting.len());
    /// }
    /// let chat: Option<Chat> = session.state().await?;
    /// # Ok(()) }
    /// ```
    pub fn session(&self, name: impl Into<String>) -> SessionHandle {
        SessionHandle { client: self.clone(), name: name.into() }
    }

    /// A new id of a run, which is in the partition of this session.
    pub(super) async fn fitting_id(&self, session: Option<&str>) -> Result<String> {
        let Some(session) = session else { return Ok(new_id()) };
        let count = self.partitions().await?.count();
        let id = new_id();
        Ok(id_in(partition_of(session, count), count, &id).unwrap_or(id))
    }
}

/// One session, seen by its caller.
#[derive(Clone)]
pub struct SessionHandle {
    client: Client,
    name: String,
}

impl SessionHandle {
    /// The session's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The session's status; None if there is no session with this name (yet), or if it has expired. Fails if the
    /// name is not valid, or if a field of the state cannot be expressed in JSON.
    pub async fn status(&self) -> Result<Option<SessionStatus>> {
        let Some(SessionInfo { running, waiting, completed, expires_ms, context }) = self.read().await? else {
            return Ok(None);
        };
        let member = |(field, value): (String, Vec<u8>)| {
            let value = snapshot::to_json(&field, &value)?;
            Ok((field, value))
        };
        let context = context.into_iter().map(member).collect::<Result<_>>()?;
        Ok(Some(SessionStatus { name: self.name.clone(), running, waiting, completed, expires_ms, context }))
    }

    /// The state that the runs of the session share, as the last completed one has left it. Missing fields have the
    /// values of `T::default()`. None if there is no such session.
    pub async fn state<T: Serialize + DeserializeOwned + Default>(&self) -> Result<Option<T>> {
        let Some(found) = self.read().await? else { return Ok(None) };
        let mut context = fields::split(&T::default())?;
        context.extend(found.context);
        fields::join(&context).map(Some)
    }

    async fn read(&self) -> Result<Option<SessionInfo>> {
        names::check_id("session", &self.name)?;
        patiently(|| async { self.client.home.known().await?.of(&self.name).session(&self.name).await }).await
    }
}

/// The status of a session.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SessionStatus {
    /// Its name.
    pub name: String,
    /// The run whose turn it is.
    pub running: Option<String>,
    /// The runs that wait for their turn, in order.
    pub waiting: Vec<String>,
    /// How many of its runs have completed.
    pub completed: u64,
    /// When it will be forgotten (ms since 1970), if none of its runs is active.
    pub expires_ms: Option<u64>,
    /// The fields of the state that its runs share.
    pub context: Map<String, Value>,
}

impl SessionStatus {
    /// A session in which nothing has run. For tests: a client returns existing ones.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            running: None,
            waiting: Vec::new(),
            completed: 0,
            expires_ms: None,
            context: Map::new(),
        }
    }
}
