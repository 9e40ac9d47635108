//! The token for reading metrics.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

const VALUE: &str = "STEPFLEET_METRICS_TOKEN";
const FILE: &str = "STEPFLEET_METRICS_TOKEN_FILE";

/// What must be given to read metrics: `Authorization: Bearer <token>`. It shows in no log line.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// This text, without white space around it.
    ///
    /// Fails if nothing is left, or if it cannot be in a header.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid(
                "it must be one word of printable ASCII characters, as `openssl rand -hex 32` prints it",
            ));
        }
        Ok(Self(text.into()))
    }

    /// The contents of this file. It is read once.
    pub fn from_file(path: &Path) -> Result<Self> {
        let of = |error: &dyn fmt::Display| Error::invalid(format!("the metrics token in {}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| of(&error))?;
        Self::new(&text).map_err(|error| of(&error))
    }

    /// As `STEPFLEET_METRICS_TOKEN` or the file that `STEPFLEET_METRICS_TOKEN_FILE` names has it; None where neither is set.
    pub fn from_env() -> Result<Option<Self>> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        match (var(VALUE), var(FILE)) {
            (Some(_), Some(_)) => Err(Error::invalid(format!("{VALUE} and {FILE} are both set; unset one of them"))),
            (Some(value), None) => {
                Self::new(&value).map(Some).map_err(|error| Error::invalid(format!("{VALUE}: {error}")))
            }
            (None, Some(file)) => Self::from_file(Path::new(&file)).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Whether this is the value of the header `Authorization` of one who has it. Takes as long for a wrong token as for the right one
    /// of the same length.
    pub(super) fn is_in(&self, header: Option<&[u8]>) -> bool {
        let Some((scheme, given)) = header.and_then(|header| header.split_at_checked(7)) else { return false };
        let differs = self.0.bytes().zip(given).fold(0, |differs, (own, given)| differs | (own ^ given));
        scheme.eq_ignore_ascii_case(b"bearer ") && given.len() == self.0.len() && differs == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_taken() {
        let token = Token::new(" open-sesame\n").unwrap();
        for given in ["Bearer open-sesame", "bearer open-sesame"] {
            assert!(token.is_in(Some(given.as_bytes())), "{given}");
        }
        for given in
            ["Bearer open-sesam", "Bearer open-sesame2", "Bearer ", "Bear", "open-sesame", "Basic  open-sesame"]
        {
            assert!(!token.is_in(Some(given.as_bytes())), "{given}");
        }
        assert!(!token.is_in(None));
        assert_eq!(format!("{token:?}"), "_");
    }

    #[test]
    fn what_is_no_token_is_told_without_showing_it() {
        for text in ["", " \n", "two words", "caf\u{e9}"] {
            let error = Token::new(text).unwrap_err().to_string();
            assert!(error.contains("one word") && !error.contains("caf"), "{error}");
        }
        let missing = Token::from_file(Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(missing.contains("/no/such/file"), "{missing}");
    }
}
