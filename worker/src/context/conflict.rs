//! A commit or a checkpoint that conflicts with others: its transactions run again, and the body runs again only if
//! that is not enough.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Core;
use crate::decisions::overlay::Changes;

/// How often others may change what one attempt has read before it fails.
pub(crate) const MAX_CONFLICTS: u32 = 1000;
/// The longest pause before a transaction runs again, in ms: if there are many, they must spread out.
const MOST_MS: u64 = 256;
/// The longest pause before a body runs again, in ms.
const MOST_FOR_BODY_MS: u64 = 10;

impl Core {
    /// The changes to write instead of those that were in conflict, for the `tries`th time. None if the body is
    /// to run again.
    pub(crate) async fn redo(&self, tries: u32) -> Option<Changes> {
        if self.conflicts() >= MAX_CONFLICTS || !self.overlay().may_be_redone() {
            return None;
        }
        // The body is not idle meanwhile.
        let _busy = self.reach.busy.enter();
        pause(tries, MOST_MS).await;
        let reach = &self.reach;
        let context = reach.persist(|_| reach.store.context(&reach.run)).await.ok()?;
        let changes = self.overlay().redo(context)?;
        self.conflicts.fetch_add(1, Ordering::Relaxed);
        Some(changes)
    }

    /// Before the body runs again.
    pub(crate) async fn calm_down(&self) {
        pause(self.conflicts(), MOST_FOR_BODY_MS).await;
    }
}

/// Many may retry at the same time: they must not meet again.
async fn pause(tries: u32, most_ms: u64) {
    let longest = longest_ms(tries, most_ms);
    if longest > 0 {
        tokio::time::sleep(Duration::from_millis(longest).mul_f64(rand::random())).await;
    }
}

/// Twice as long each time; none before the first.
fn longest_ms(tries: u32, most_ms: u64) -> u64 {
    match tries {
        0 | 1 => 0,
        tries => 1u64.checked_shl(tries - 1).map_or(most_ms, |ms| ms.min(most_ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!([0, 1, 2, 3, 9, 64, 1000].map(|tries| longest_ms(tries, 256)), [0, 0, 2, 4, 256, 256, 256]);
    }
}
