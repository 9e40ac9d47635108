//! `ctx.checkpoint`: what a long step has come to so far, committed while it goes on.

use futures_util::future::BoxFuture;
use stepfleet::step::{Checkpoint, CommitStatus};

use super::{Along, Context, Core};
use crate::decisions::overlay::Changes;
use crate::error::{Error, Outcome};

/// Why a body is to run no further.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// Others have changed what it had read: it runs again.
    Conflict,
    /// What it has come to cannot be committed, and never will be.
    Refused(Error),
}

/// The checkpoints of one attempt, which are made one after the other.
#[derive(Debug, Default)]
pub(super) struct Saves {
    pub(super) made: u64,
    /// Asked for, and not known to be made: whoever asked may have been dropped while waiting.
    pending: Option<(Checkpoint, Along)>,
}

impl<S> Context<S> {
    /// Commits what the step has written to the state so far, while it goes on. A step that works through many documents
    /// can note after each (or each ten) how far it has come; where its worker dies, or it fails, the next attempt begins
    /// at the top and finds in the state what was noted.
    ///
    /// ```
    /// # use stepfleet_worker::prelude::*;
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
    /// A recorded call ([`Context::step`], [`Context::wait_for`], [`Context::collect`]) that comes after a checkpoint which
    /// itself comes after one fails the step with a terminal error. Calls are told apart by how many came before, and a body
    /// that begins again with the state of a checkpoint may come by another number.
    ///
    /// Takes one round trip, and none where nothing was written. Other steps see what was committed. Events and results
    /// are still those that the step returns in the end.
    ///
    /// Where a transaction ([`State::edit`](super::State::edit)) has read what others have changed since, it is made again
    /// on that. Where the body knows what has changed, nothing is committed, and the body runs again from its start with
    /// the state as it is by then: the call does not return. Nor does it where a merge is refused (the step fails), or where this attempt is no longer the current one.
    pub async fn checkpoint(&self) -> Outcome<()> {
        let core = &self.core;
        let mut saves = core.saves.lock().await;
        if let Err(interrupt) = core.save(&mut saves).await {
            core.interrupt(interrupt);
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

impl Core {
    /// Makes the checkpoints that were asked for before, and then one of what was written since.
    async fn save(&self, saves: &mut Saves) -> Result<(), Interrupt> {
        self.finish_save(saves).await?;
        if self.overlay().is_unchanged() {
            return Ok(());
        }
        self.journal().seal();
        saves.made += 1;
        let along = self.journal().along_if_any();
        let changes = self.overlay().take();
        let checkpoint = Checkpoint {
            mark: Some(saves.made),
            set: changes.set,
            unset: changes.unset,
            merges: changes.merges,
            expects: changes.expects,
            ..along.checkpoint()
        };
        saves.pending = Some((checkpoint, along));
        self.finish_save(saves).await
    }

    async fn finish_save(&self, saves: &mut Saves) -> Result<(), Interrupt> {
        let mut tries = 0;
        while let Some((checkpoint, along)) = &mut saves.pending {
            let result = match self.send_checkpoint(checkpoint).await {
                Ok(CommitStatus::Fenced) => self.give_up().await,
                Ok(CommitStatus::Committed | CommitStatus::Unstaged) => {
                    self.journal().was_recorded(along);
                    Ok(())
                }
                Ok(CommitStatus::Conflict) => {
                    tries += 1;
                    if let Some(changes) = self.redo(tries).await {
                        let Changes { set, unset, merges, expects } = changes;
                        *checkpoint = Checkpoint { set, unset, merges, expects, ..std::mem::take(checkpoint) };
                        continue;
                    }
                    Err(Interrupt::Conflict)
                }
                Err(refused) => {
                    Err(Interrupt::Refused(Error::terminal(format!("the checkpoint cannot be committed: {refused}"))))
                }
            };
            saves.pending = None;
            return result;
        }
        Ok(())
    }

    async fn send_checkpoint(&self, checkpoint: &Checkpoint) -> Outcome<CommitStatus> {
        let reach = &self.reach;
        let send = |_| -> BoxFuture<'_, _> {
            Box::pin(async move { reach.store.checkpoint(&reach.worker, &reach.fence, checkpoint).await })
        };
        Ok(reach.persist(send).await?.outcome)
    }

    /// To be asked before the attempt is committed: a checkpoint that the body has let go of may have been made or not.
    pub(crate) async fn settle_saves(&self) -> Result<(), Interrupt> {
        let mut saves = self.saves.lock().await;
        self.finish_save(&mut saves).await
    }

    fn interrupt(&self, interrupt: Interrupt) {
        *self.interrupt.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(interrupt);
    }

    /// Is the body to run no further?
    pub(crate) fn take_interrupt(&self) -> Option<Interrupt> {
        self.interrupt.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}
