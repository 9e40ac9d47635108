//! What a run publishes, as its followers read it.

pub use stepfleet_shared::published::*;

use crate::event::Event;

/// Reads what a run has published as events of their own types.
///
/// ```no_run
/// use stepfleet::prelude::*;
///
/// #[event]
/// struct Progress { percent: u8 }
///
/// async fn watch(client: stepfleet::Client) -> stepfleet::Result<()> {
///     let mut follower = client.run("otters-1").follow();
///     while let Some(published) = follower.next().await? {
///         if let Some(progress) = published.event::<Progress>()? {
///             println!("{} %", progress.percent);
///         }
///     }
///     Ok(())
/// }
/// ```
pub trait PublishedEvent {
    /// The event, if it has this type's name; None if it is something else. Fails if it cannot be read:
    /// its type has changed since it was published.
    fn event<E: Event>(&self) -> stepfleet_shared::Result<Option<E>>;
}

impl PublishedEvent for Published {
    fn event<E: Event>(&self) -> stepfleet_shared::Result<Option<E>> {
        if self.name() == Some(E::NAME) { E::from_published(self) } else { Ok(None) }
    }
}
