//! How steps fail.

use std::any::Any;
use std::fmt;

/// What a step returns.
pub type Outcome<T> = Result<T, Error>;

/// The longest error that is kept with a run, in bytes.
const MAX_MESSAGE: usize = 2000;
/// The longest cause that is kept, in bytes, and how many.
const MAX_CAUSE: usize = 500;
const MAX_CAUSES: usize = 16;

/// Why an attempt failed. Any error becomes one with `?`, and is retried as the step's policy says; one made from
/// [`Terminal`] is not.
///
/// Like `anyhow::Error` it does not implement `std::error::Error` itself.
pub struct Error {
    message: String,
    terminal: bool,
    overdue: bool,
    unreadable: bool,
    causes: Vec<String>,
    type_name: Option<&'static str>,
}

impl Error {
    /// An error that is retried.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self {
            message: bounded(message.to_string(), MAX_MESSAGE),
            terminal: false,
            overdue: false,
            unreadable: false,
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

    /// The time of a wait was over before its signal came: see [`WaitFor::timeout`](crate::context::WaitFor::timeout).
    pub fn is_overdue(&self) -> bool {
        self.overdue
    }

    /// The event came from outside, and is none that the step can read: it is set aside.
    pub(crate) fn unreadable(self) -> Self {
        Self { unreadable: true, ..self }
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// Its text, without line breaks.
    pub(crate) fn one_line(&self) -> String {
        self.message.replace(['\n', '\r'], " ")
    }

    /// No retry will help.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The errors beneath it, the nearest first: at most 16, each cut after 500 bytes. Their text is in that of this
    /// error too.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// The type of the error that `?` made it of, as [`std::any::type_name`] writes it; None where it was made of a text.
    pub fn type_name(&self) -> Option<&'static str> {
        self.type_name
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        // A value that breaks a limit or cannot be read will not get better.
        let terminal =
            (&error as &dyn Any).downcast_ref::<stepfleet::Error>().is_some_and(stepfleet::Error::is_invalid);
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
            unreadable: false,
            causes,
            type_name: Some(std::any::type_name::<E>()),
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

/// An error that no retry will help. `Err(Terminal("no such customer"))?` or `.map_err(Terminal)?`.
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
    fn terminal_is_kept_through_the_question_mark() {
        fn step() -> Outcome<()> {
            Err(Terminal("no such customer"))?
        }
        assert!(step().unwrap_err().is_terminal());
        let invalid = Error::from(stepfleet::Error::too_large("the event Big has ..."));
        assert!(invalid.is_terminal());
        assert!(!Error::from(stepfleet::Error::unavailable("gone")).is_terminal());
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
