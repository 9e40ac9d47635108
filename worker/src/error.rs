//! How steps fail.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use stepfleet_shared::codec;

/// What a step returns.
pub type Outcome<T> = Result<T, Error>;

/// The longest error that is kept with a run, in bytes.
const MAX_MESSAGE: usize = 2000;
/// The longest cause that is kept, in bytes, and how many.
const MAX_CAUSE: usize = 500;
const MAX_CAUSES: usize = 16;

/// Why an attempt failed. Any error becomes one with `?`, and is retried according to the step's policy; one made
/// from [`Terminal`] is not retried.
///
/// Like `anyhow::Error` it does not implement `std::error::Error` itself.
#[derive(Serialize, Deserialize)]
pub struct Error {
    message: String,
    terminal: bool,
    overdue: bool,
    #[serde(skip)]
    mark: Option<Mark>,
    causes: Vec<String>,
    type_name: Option<Cow<'static, str>>,
}

/// What the worker does with an error, whatever the retry policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// An event from outside cannot be read: it is set aside.
    Unreadable,
    /// A recorded call ended with it, and ends with it in each attempt.
    GivenUp,
}

impl Error {
    /// An error that is retried.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self {
            message: bounded(message.to_string(), MAX_MESSAGE),
            terminal: false,
            overdue: false,
            mark: None,
            causes: Vec::new(),
            type_name: None,
        }
    }

    /// An error that no retry will help: the run fails.
    pub fn terminal(message: impl fmt::Display) -> Self {
        Self { terminal: true, ..Self::msg(message) }
    }

    /// The time of a wait was over: no retry will help.
    pub(crate) fn overdue(message: impl fmt::Display) -> Self {
        Self { overdue: true, ..Self::terminal(message) }
    }

    /// Whether a wait's time was over before its signal came: see
    /// [`WaitFor::timeout`](crate::context::WaitFor::timeout).
    pub fn is_overdue(&self) -> bool {
        self.overdue
    }

    /// The event came from outside, and the step cannot read it: it is set aside.
    pub(crate) fn unreadable(self) -> Self {
        Self { mark: Some(Mark::Unreadable), ..self }
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        self.mark == Some(Mark::Unreadable)
    }

    /// It is recorded: a replay of the call returns the same error.
    pub(crate) fn given_up(self) -> Self {
        Self { mark: Some(Mark::GivenUp), ..self }
    }

    /// Whether a recorded call ended with this error. It does so again in each attempt, so another attempt would not
    /// help.
    pub fn is_given_up(&self) -> bool {
        self.mark == Some(Mark::GivenUp)
    }

    /// For a journal.
    pub(crate) fn write(&self) -> Vec<u8> {
        // Texts of bounded length can be written.
        codec::encode("an error", self).unwrap_or_default()
    }

    /// Reads what [`Error::write`] wrote.
    pub(crate) fn read(bytes: &[u8]) -> Outcome<Self> {
        Ok(codec::decode("the recorded error of a call", bytes)?)
    }

    /// Its text, without line breaks.
    pub(crate) fn one_line(&self) -> String {
        self.message.replace(['\n', '\r'], " ")
    }

    /// Whether no retry will help.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The causes of this error, the nearest first: at most 16, each cut after 500 bytes. Their text is also part of
    /// this error's text.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// The type of the error that `?` made it from, as [`std::any::type_name`] writes it; None if it was made from a
    /// text.
    pub fn type_name(&self) -> Option<&str> {
        self.type_name.as_deref()
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        // A value that breaks a limit or cannot be read will not get better.
        let terminal = (&error as &dyn Any)
            .downcast_ref::<stepfleet_shared::Error>()
            .is_some_and(stepfleet_shared::Error::is_invalid);
        let mut message = error.to_string();
        let (mut cause, mut causes) = (error.source(), Vec::new());
        while let Some(inner) = cause {
            let text = inner.to_string();
            if causes.len() < MAX_CAUSES {
                causes.push(bounded(text.clone(), MAX_CAUSE));
            }
            // Many errors repeat their cause in their own message.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = inner.source();
        }
        Self {
            message: bounded(message, MAX_MESSAGE),
            terminal,
            overdue: false,
            mark: None,
            causes,
            type_name: Some(Cow::Borrowed(std::any::type_name::<E>())),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.terminal { "terminal: " } else { "" }, self.message)
    }
}

/// An error that no retry can help. Use it as `Err(Terminal("no such customer"))?` or `.map_err(Terminal)?`.
#[derive(Debug)]
pub struct Terminal<T>(pub T);

impl<T: fmt::Display> From<Terminal<T>> for Error {
    fn from(error: Terminal<T>) -> Self {
        Self::terminal(error.0)
    }
}

fn bounded(mut message: String, most: usize) -> String {
    if message.len() > most {
        let whole = message.len();
        let cut = (0..=most).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
        message.truncate(cut);
        message = format!("{message}... ({whole} bytes)");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot fetch")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_keeps_its_causes_and_is_retried() {
        let error = Error::from(Outer(std::io::Error::other("no route")));
        assert_eq!(error.to_string(), "cannot fetch: no route");
        assert_eq!(error.causes(), ["no route"]);
        assert!(error.type_name().is_some_and(|name| name.ends_with("::Outer")), "{:?}", error.type_name());
        assert_eq!(Error::msg("x").type_name(), None);
        assert!(!error.is_terminal());
    }

    #[test]
    fn an_error_that_is_recorded_is_the_same_error_when_it_is_read() {
        let error = Error { terminal: true, ..Error::from(Outer(std::io::Error::other("no route"))) };
        for error in [error, Error::overdue("late"), Error::msg("a\nb")] {
            let again = Error::read(&error.write()).unwrap();
            assert_eq!((again.to_string(), again.causes()), (error.to_string(), error.causes()));
            assert_eq!((again.is_terminal(), again.is_overdue()), (error.is_terminal(), error.is_overdue()));
            assert_eq!(again.type_name(), error.type_name());
        }
        assert!(Error::read(b"?").unwrap_err().is_terminal());
    }

    #[test]
    fn terminal_is_kept_through_the_question_mark() {
        fn step() -> Outcome<()> {
            Err(Terminal("no such customer"))?
        }
        assert!(step().unwrap_err().is_terminal());
        let invalid = Error::from(stepfleet_shared::Error::too_large("the event Big has ..."));
        assert!(invalid.is_terminal());
        assert!(!Error::from(stepfleet_shared::Error::unavailable("gone")).is_terminal());
    }

    #[derive(Debug, thiserror::Error)]
    #[error("level {0} {1}")]
    struct Deep(u32, String, #[source] Option<Box<Deep>>);

    #[test]
    fn a_chain_of_any_length_is_cut() {
        let deep = (0..100).fold(None, |inner, n| Some(Box::new(Deep(n, "x".repeat(1000), inner))));
        let error = Error::from(*deep.unwrap());
        assert_eq!(error.causes().len(), 16);
        assert!(error.causes()[0].starts_with("level 98 xxx") && error.causes().iter().all(|c| c.len() < 600));
    }

    #[test]
    fn ten_megabytes_of_error_are_cut_at_a_character() {
        let error = Error::msg("ä".repeat(5_000_000));
        assert!(error.to_string().len() < 2_100, "{}", error.to_string().len());
        assert!(error.to_string().ends_with("(10000000 bytes)"));
    }
}
