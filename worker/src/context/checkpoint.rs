//! `ctx.checkpoint`: commits what a long step has written so far.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use serde_bytes::ByteBuf;
use stepfleet_shared::step::{Bytes, Checkpoint, CommitStatus};

use super::{Call, Context, Core};
use crate::decisions::overlay::Changes;
use crate::error::{Error, Outcome};
use crate::replay::{Along, Before, Marked, remarked};

/// Why a body must stop.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// Others have changed what it had read: it runs again.
    Conflict,
    /// Its writes cannot be committed, and never will be.
    Refused(Error),
    /// The function begins again with this input.
    Again(Vec<u8>),
}

/// The commits of the state by one attempt, which are made one after the other.
#[derive(Debug, Default)]
pub(super) struct Saves {
    pub(super) made: u64,
    /// Requested, and perhaps not made: the future that requested it may have been dropped while waiting.
    pending: VecDeque<Arc<Save>>,
}

impl Saves {
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }
}

#[derive(Debug)]
struct Save {
    checkpoint: Checkpoint,
    along: Along,
}

/// The call that a commit of the state is known by.
#[derive(Clone, Copy, Debug)]
struct Mark {
    call: u64,
    /// It is that call; otherwise it comes before it.
    is_own: bool,
}

/// The name of a checkpoint among the calls of a body.
const NAME: &str = "checkpoint";

impl<S> Context<S> {
    /// Commits what the step has written to the state so far, while it goes on. A step that works through many
    /// documents can note its progress after each (or each ten); if its worker dies, or if it fails, the next attempt
    /// begins at the top and finds that progress in the state.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn index(document: &str) -> Outcome<()> { Ok(()) }
    /// # async fn body(ctx: &Context, documents: Vec<String>) -> Outcome<()> {
    /// let done: usize = ctx.state().get("done").await?.unwrap_or(0);
    /// for document in &documents[done..] {
    ///     index(document).await?;
    ///     ctx.state().incr("done", 1).await?;
    ///     ctx.checkpoint().await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// The next attempt begins with what a checkpoint before all recorded calls ([`Context::step`],
    /// [`Context::wait_for`], [`Context::collect`]) has committed, as in the example. A checkpoint after such calls
    /// is itself a call of the body, with the same rules for its order: the next attempt begins with the state as it
    /// was before them, gets the recorded results, and does not make the checkpoint twice.
    ///
    /// In a durable function, the state is committed automatically before each call of the body.
    ///
    /// Takes one round trip, or none if nothing was written. Other steps see what was committed. Events and the
    /// result are still those that the step returns in the end.
    ///
    /// If others have changed what a transaction ([`State::edit`](super::State::edit)) has read, the transaction runs
    /// again on the current value. If the body itself knows what has changed, nothing is committed, and the body runs
    /// again from its first line with the current state: the call does not return. Nor does it return if a merge is
    /// refused (the step fails), or if this attempt is no longer the current one.
    pub fn checkpoint(&self) -> impl Future<Output = Outcome<()>> + Send + use<'_, S> {
        let core = &*self.core;
        let number = core.journal().next_mark();
        let call = number.map(|call| Call::of_mark(core, call, NAME.to_owned(), Box::pin(core.checkpoint_at(call))));
        async move {
            match call {
                Some(call) => call.await,
                None => core.save(None).await,
            }
        }
    }
}

impl Core {
    async fn checkpoint_at(&self, call: u64) -> Outcome<()> {
        let known = self.journal().marked(call, NAME)?;
        match known {
            Marked::Made => self.saved_before(),
            Marked::Never => std::future::pending().await,
            Marked::New => self.save(Some(Mark { call, is_own: true })).await?,
        }
        Ok(())
    }

    /// Commits what the body has written before this call, if its function commits by itself.
    pub(super) async fn save_before(&self, call: u64) -> Outcome<()> {
        if !self.saves_state || self.overlay().is_unchanged() {
            return Ok(());
        }
        if self.journal().is_marked(call) {
            self.saved_before();
            return Ok(());
        }
        self.save(Some(Mark { call, is_own: false })).await
    }

    /// An earlier attempt has committed what the body has written.
    fn saved_before(&self) {
        self.overlay().take();
    }

    /// Makes what was asked for before, and then a commit of what was written since. What that is, is settled when this is polled first.
    async fn save(&self, mark: Option<Mark>) -> Outcome<()> {
        self.ask_to_save(mark);
        if let Err(interrupt) = self.settle_saves().await {
            self.interrupt(interrupt);
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    fn ask_to_save(&self, mark: Option<Mark>) {
        let changes = {
            let mut overlay = self.overlay();
            if overlay.is_unchanged() {
                return;
            }
            overlay.take()
        };
        let mut journal = self.journal();
        let (entry, along) = match mark {
            None => (None, journal.along_if_any()),
            Some(Mark { call, is_own }) => {
                let (number, entry, along) = journal.mark(call, is_own, NAME, &before(&changes));
                (Some((number, entry)), along)
            }
        };
        let upon = journal.upon();
        let mut saves = self.saves();
        saves.made += 1;
        let mut checkpoint = Checkpoint { mark: Some(saves.made), upon, ..along.checkpoint() };
        checkpoint.entries.splice(0..0, entry);
        saves.pending.push_back(Arc::new(Save { checkpoint: with(checkpoint, changes), along }));
    }

    /// Makes the requested commits. Also called before the attempt is committed: a commit that the body has dropped may
    /// have been made or not.
    pub(crate) async fn settle_saves(&self) -> Result<(), Interrupt> {
        let _turn = self.saving.lock().await;
        let mut tries = 0;
        loop {
            let Some(save) = self.saves().pending.front().cloned() else { return Ok(()) };
            let result = match self.send_save(&save.checkpoint).await {
                Ok(CommitStatus::Fenced | CommitStatus::Forgotten) => self.give_up().await,
                Ok(CommitStatus::Committed | CommitStatus::Unstaged) => {
                    self.saves().pending.pop_front();
                    let mut journal = self.journal();
                    save.checkpoint.mark.into_iter().for_each(|mark| journal.was_marked(mark));
                    save.checkpoint.entries.iter().for_each(|(number, entry)| journal.keep(*number, entry.clone()));
                    journal.was_recorded(&save.along);
                    journal.has_gone_on();
                    tries = 0;
                    continue;
                }
                Ok(CommitStatus::Conflict) => {
                    tries += 1;
                    if self.redo_save(&save, tries).await {
                        continue;
                    }
                    Err(Interrupt::Conflict)
                }
                Err(refused) => {
                    Err(Interrupt::Refused(Error::terminal(format!("the state cannot be committed: {refused}"))))
                }
            };
            self.saves().pending.clear();
            return result;
        }
    }

    /// Repeats the body's writes on top of those of others. False if the body must run again.
    async fn redo_save(&self, save: &Save, tries: u32) -> bool {
        // Later writes were based on these.
        if self.saves().pending.len() > 1 {
            return false;
        }
        let Some(changes) = self.redo(tries).await else { return false };
        let mut checkpoint = save.checkpoint.clone();
        if let Some((_, entry)) = checkpoint.entries.first_mut() {
            *entry = remarked(entry, &before(&changes));
        }
        let save = Save { checkpoint: with(checkpoint, changes), along: save.along.clone() };
        if let Some(first) = self.saves().pending.front_mut() {
            *first = Arc::new(save);
        }
        true
    }

    async fn send_save(&self, checkpoint: &Checkpoint) -> Outcome<CommitStatus> {
        let reach = &self.reach;
        let send = |_| -> BoxFuture<'_, _> {
            Box::pin(async move { reach.store.checkpoint(&reach.worker, &reach.hold.fence(), checkpoint).await })
        };
        if self.replays {
            return Ok(CommitStatus::Committed);
        }
        Ok(reach.record(send).await?.outcome)
    }

    pub(super) fn saves(&self) -> MutexGuard<'_, Saves> {
        self.saves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn interrupt(&self, interrupt: Interrupt) {
        *self.interrupt.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(interrupt);
    }

    /// Whether the body must stop.
    pub(crate) fn take_interrupt(&self) -> Option<Interrupt> {
        self.interrupt.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

fn with(checkpoint: Checkpoint, changes: Changes) -> Checkpoint {
    let Changes { set, unset, merges, expects, .. } = changes;
    Checkpoint { set, unset, merges, expects, ..checkpoint }
}

fn before(changes: &Changes) -> Before {
    let bytes = |value: &Bytes| ByteBuf::from(value.to_vec());
    changes.before.iter().map(|(field, value)| (field.clone(), value.as_ref().map(bytes))).collect()
}
