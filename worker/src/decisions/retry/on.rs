//! Which errors are retried.

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Which errors are retried, as data that can be shown and compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RetryOn {
    /// All of them.
    #[default]
    Any,
    /// Those that `?` made of an error of this type: see [`RetryOn::of`].
    Type(String),
    /// Those whose text contains this: the whole text, with causes, as the run shows it.
    Message(String),
    /// Those that have a cause, at any depth, whose text contains this.
    Cause(String),
    /// Those that one of these matches.
    AnyOf(Vec<RetryOn>),
    /// Those that each of these matches.
    AllOf(Vec<RetryOn>),
    /// Those that this does not match.
    Not(Box<RetryOn>),
}

impl RetryOn {
    /// Errors that `?` made of an `E`. Its causes are not looked at; generic types match with their parameters.
    pub fn of<E: 'static>() -> Self {
        Self::Type(std::any::type_name::<E>().to_owned())
    }

    /// Errors whose text contains this.
    pub fn message(part: impl Into<String>) -> Self {
        Self::Message(part.into())
    }

    /// Errors with a cause whose text contains this.
    pub fn cause(part: impl Into<String>) -> Self {
        Self::Cause(part.into())
    }

    /// Errors that one of the two matches.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::AnyOf(mut all) => {
                all.push(other);
                Self::AnyOf(all)
            }
            first => Self::AnyOf(vec![first, other]),
        }
    }

    /// Errors that both match.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::AllOf(mut all) => {
                all.push(other);
                Self::AllOf(all)
            }
            first => Self::AllOf(vec![first, other]),
        }
    }

    /// All errors but these.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "`!` on conditions would read worse")]
    pub fn not(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Whether this is one of the errors.
    pub fn matches(&self, error: &Error) -> bool {
        match self {
            Self::Any => true,
            Self::Type(name) => error.type_name() == Some(name),
            Self::Message(part) => error.to_string().contains(part.as_str()),
            Self::Cause(part) => error.causes().iter().any(|cause| cause.contains(part.as_str())),
            Self::AnyOf(some) => some.iter().any(|on| on.matches(error)),
            Self::AllOf(all) => all.iter().all(|on| on.matches(error)),
            Self::Not(on) => !on.matches(error),
        }
    }
}
