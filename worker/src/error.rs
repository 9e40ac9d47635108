//! How steps fail.

use std::any::Any;
use std::fmt;

/// What a step returns.
pub type Outcome<T> = Result<T, Error>;

/// The longest error that is kept with a run, in bytes.
const MAX_MESSAGE: usize = 2000;

/// Why an attempt failed. Any error becomes one with `?`, and is retried as the step's policy says; one made from
/// [`Terminal`] is not.
///
/// Like `anyhow::Error` it does not implement `std::error::Error` itself.
pub struct Error {
    message: String,
    terminal: bool,
}

impl Error {
    /// An error that is retried.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self { message: bounded(message.to_string()), terminal: false }
    }

    /// An error that no retry will help: the run fails.
    pub fn terminal(message: impl fmt::Display) -> Self {
        Self { message: bounded(message.to_string()), terminal: true }
    }

    /// No retry will help.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        // A value that breaks a limit or cannot be read will not get better.
        let terminal =
            (&error as &dyn Any).downcast_ref::<stepfleet::Error>().is_some_and(stepfleet::Error::is_invalid);
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            // Many errors repeat their cause in their own message.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = inner.source();
        }
        Self { message: bounded(message), terminal }
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

fn bounded(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let whole = message.len();
        let cut = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
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

    #[test]
    fn ten_megabytes_of_error_are_cut_at_a_character() {
        let error = Error::msg("ä".repeat(5_000_000));
        assert!(error.to_string().len() < 2_100, "{}", error.to_string().len());
        assert!(error.to_string().ends_with("(10000000 bytes)"));
    }
}
