//! What can be wrong with a body or its journal, numbered so that people can look it up.

use stepfleet_shared::journal::Entry;
use stepfleet_shared::names;

use crate::error::Error;

/// A fault of a body or of its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It makes another call than an earlier attempt recorded.
    OtherCall { number: u64, recorded: String, now: String },
    /// It drops a call whose result an earlier attempt received.
    Dropped { number: u64, name: String },
    /// It does not reach the call whose result an earlier attempt received next.
    NotAwaited { number: u64 },
    /// Its journal contradicts itself.
    Contradiction,
    /// An entry of its journal cannot be read.
    Unreadable { number: u64 },
    /// It ends, or comes no further, before a call that is recorded. Only the test kit looks for it.
    Unmade { number: u64, recorded: String, how: String },
}

impl Fault {
    /// Its number in docs/durable-functions.md.
    pub(super) fn code(&self) -> u16 {
        match self {
            Self::OtherCall { .. } => 1,
            Self::Dropped { .. } => 2,
            Self::NotAwaited { .. } => 3,
            Self::Contradiction => 4,
            Self::Unreadable { .. } => 5,
            Self::Unmade { .. } => 6,
        }
    }

    fn what(&self) -> String {
        match self {
            Self::OtherCall { number, recorded, now } => {
                format!("call #{number} was {recorded}, and the code now asks for {now}")
            }
            Self::Dropped { number, name } => {
                format!("the body drops call #{number}, {name}, and an earlier attempt was given its result")
            }
            Self::NotAwaited { number } => {
                format!("the body does not await call #{number}, whose result an earlier attempt was given next")
            }
            Self::Contradiction => "the journal contradicts itself about the order of its calls".to_owned(),
            Self::Unmade { number, recorded, how } => {
                format!("call #{number} was {recorded}, and the code now {how}")
            }
            Self::Unreadable { number } => format!(
                "entry {number} of the journal cannot be read: a newer version of Stepfleet wrote it, or something else did"
            ),
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::OtherCall { .. } | Self::Dropped { .. } | Self::NotAwaited { .. } | Self::Unmade { .. } => {
                "A body must make the same calls in the same order each time. If its code was changed, deploy the old \
                 code again, serve the change under a new version, or put it behind ctx.patched; then retry the run. \
                 If it was not, put what varies, such as the time or a random number, into ctx.step"
            }
            Self::Contradiction | Self::Unreadable { .. } => "Deploy the version that recorded it, and retry the run",
        }
    }

    /// The error that the step ends with. A body that diverges may have raced with something that is not recorded, so
    /// another attempt may succeed; code that makes another call never will.
    pub(super) fn error(&self, about: &str) -> Error {
        let text = format!("{about}: {} (replay error {}). {}", self.what(), self.code(), self.advice());
        match self {
            Self::OtherCall { .. } | Self::Unreadable { .. } | Self::Unmade { .. } => Error::terminal(text),
            Self::Dropped { .. } | Self::NotAwaited { .. } | Self::Contradiction => Error::msg(text),
        }
    }
}

/// A description of an entry for errors.
pub(super) fn described(entry: &Entry<'_>) -> String {
    let quoted = |name: &str| format!("`{}`", names::text(name));
    match entry {
        Entry::Value { name, .. }
        | Entry::Failed { name, .. }
        | Entry::GivenUp { name, .. }
        | Entry::Tried { name, .. } => quoted(name),
        Entry::Signal { name, .. } | Entry::Overdue { name } => format!("the wait for {}", quoted(name)),
        Entry::LetGo { name, .. } => format!("{}, which the body had let go of", quoted(name)),
        Entry::Collected { .. } => "an event for a buffer".to_owned(),
        Entry::Mark { .. } => "a checkpoint".to_owned(),
        Entry::Patch { name } => format!("the change {}", quoted(name)),
        Entry::Order { .. } => "an order".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_each_by_its_number() {
        let page = include_str!("../../../docs/durable-functions.md");
        let other = Fault::OtherCall { number: 3, recorded: "`charge`".into(), now: "`refund`".into() };
        let faults = [
            other.clone(),
            Fault::Dropped { number: 1, name: "`a`".into() },
            Fault::NotAwaited { number: 1 },
            Fault::Contradiction,
            Fault::Unreadable { number: 1 },
            Fault::Unmade { number: 1, recorded: "`a`".into(), how: "returns before it".into() },
        ];
        for (place, fault) in faults.iter().enumerate() {
            assert_eq!(usize::from(fault.code()), place + 1);
            assert!(page.contains(&format!("\n| {} | ", fault.code())), "{fault:?}");
        }
        let text = other.error("step s").to_string();
        assert!(
            text.starts_with("step s: call #3 was `charge`, and the code now asks for `refund` (replay error 1). "),
            "{text}"
        );
    }
}
