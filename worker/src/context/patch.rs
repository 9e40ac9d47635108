//! `ctx.patched`: a change of a body's code that active runs survive.

use stepfleet_shared::names;

use super::Context;
use crate::error::Outcome;

impl<S> Context<S> {
    /// Whether a changed body takes the new path: true if it reaches this place for the first time, false if an
    /// earlier attempt, with the code from before the change, is already past it. The decision is recorded, so each
    /// later attempt takes the same path.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn charge() -> Outcome<()> { Ok(()) }
    /// # async fn body(ctx: &Context) -> Outcome<()> {
    /// if ctx.patched("check the address")? {
    ///     ctx.step("check", || async { Ok(()) }).await?;
    /// }
    /// ctx.step("charge", || charge()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The name (any text of up to 200 bytes: [`names::check_call`]) is that of the change. Make the call where the
    /// code was changed, between the calls that come before and after it, and remove the old path once no run is left
    /// that took it. A body that waits, and has made no other call since, takes the new path: put the change after
    /// the wait.
    ///
    /// It takes no separate round trip, and one of the entries that a step may record. Fails if the name is not
    /// valid, and if an entry of the journal cannot be read.
    pub fn patched(&self, name: &str) -> Outcome<bool> {
        names::check_call("change", name)?;
        self.core.journal().patched(&names::token(name))
    }
}
