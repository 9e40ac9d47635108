//! `ctx.stream`: text that is shown while it is being written.

use std::fmt;

use stepfleet_shared::names;

use super::{Context, Core};
use crate::error::{Error, Outcome};

impl<S> Context<S> {
    /// Begins a stream of text: an answer, token by token. Those who follow the run read it while the step is still
    /// running.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # struct Model;
    /// # impl Model { async fn next(&mut self) -> Outcome<Option<String>> { Ok(None) } }
    /// # async fn ask(question: &str) -> Outcome<Model> { Ok(Model) }
    /// #[durable]
    /// async fn chat(ctx: &Context, question: String) -> Outcome<String> {
    ///     ctx.step("answer", || async {
    ///         let mut model = ask(&question).await?;
    ///         let (mut out, mut text) = (ctx.stream("answer"), String::new());
    ///         while let Some(token) = model.next().await? {
    ///             out.push(&token).await?;
    ///             text += &token;
    ///         }
    ///         Ok(text)
    ///     })
    ///     .retries(3)
    ///     .await
    /// }
    /// # fn main() { let _ = chat::workflow(); }
    /// ```
    ///
    /// Streamed text is sent in the background: the first piece at once, and then up to 20 times a second, or as soon
    /// as there are 4 KiB. Before a call that has streamed is recorded, and before an attempt ends, the rest is sent,
    /// which takes one round trip.
    ///
    /// A stream has an id that stands for its place in the body, like an event of [`Context::publish`]. A body or a
    /// call that runs again, after an error, a wait or the death of its worker, streams at the same places. Text that
    /// is already there is not shown again; as soon as the text differs from what was shown, followers learn that the
    /// earlier text is void, and get the whole text of the new attempt. The work of a recorded call does not run
    /// again, and streams nothing again.
    ///
    /// A stream ends with [`Stream::finish`], when the call in which it began is recorded, or with the step.
    ///
    /// Its name is for people: any text of up to 200 bytes. Its text may have 1 MiB.
    pub fn stream(&self, name: &str) -> Stream<'_> {
        let core = &*self.core;
        let (call, number) = core.places().next();
        let key = names::check_call("stream", name)
            .map(|()| if core.replays { 0 } else { core.scribe.begin(&core.reach, call, number, name) });
        Stream { core, name: name.to_owned(), key: key.map_err(|mistake| Some(Error::from(mistake))) }
    }
}

/// A stream of text: see [`Context::stream`].
pub struct Stream<'a> {
    core: &'a Core,
    name: String,
    key: Result<u64, Option<Error>>,
}

impl Stream<'_> {
    /// Adds to the text. Returns at once, unless 64 KiB are unsent because Redis is slow or away.
    ///
    /// Fails with a terminal error if the stream would exceed 1 MiB, if its name is not valid, or if the store takes
    /// no more streams of this step: about 10,000 outside of recorded calls. If this attempt is no longer the current
    /// one, the step ends here: the call does not return.
    pub async fn push(&mut self, text: &str) -> Outcome<()> {
        let key = self.key()?;
        if self.core.replays {
            return Ok(());
        }
        self.core.scribe.push(key, text)?;
        self.core.until(|state| state.has_room(key)).await
    }

    /// Ends the stream once all of its text has been sent: followers then know that it is complete.
    ///
    /// Fails like [`Stream::push`].
    pub async fn finish(mut self) -> Outcome<()> {
        let key = self.key()?;
        self.core.scribe.hurry(|stream| stream.key == key, true);
        self.core.until(|state| state.is_settled(|stream| stream.key == key)).await
    }

    fn key(&mut self) -> Outcome<u64> {
        let over = || Error::terminal("this is not a valid name for a stream");
        self.key.as_mut().map(|key| *key).map_err(|error| error.take().unwrap_or_else(over))
    }
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).finish_non_exhaustive()
    }
}
