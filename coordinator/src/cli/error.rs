//! Why a command failed, in a sentence that helps.

use std::process::ExitCode;

use stepfleet_shared::server::without_secrets;

pub(super) type CliResult = Result<ExitCode, CliError>;

/// A sentence for people.
#[derive(Debug)]
pub(super) struct CliError {
    message: String,
    /// Nothing was answered.
    unreachable: bool,
}

impl CliError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), unreachable: false }
    }

    pub(super) fn sentence(&self, url: &str) -> String {
        if !self.unreachable {
            return self.message.clone();
        }
        format!(
            "{} (at {}). Is it running, and is the address right? Give it with --redis or STEPFLEET_REDIS; \
             `stepfleet dev` starts a Redis for development.",
            self.message,
            without_secrets(url)
        )
    }
}

impl From<stepfleet_shared::Error> for CliError {
    fn from(error: stepfleet_shared::Error) -> Self {
        Self { unreachable: error.is_unreachable(), message: error.sentence() }
    }
}

impl From<stepfleet_shared::admission::Refused> for CliError {
    fn from(refused: stepfleet_shared::admission::Refused) -> Self {
        match refused {
            stepfleet_shared::admission::Refused::Store(error) => error.into(),
            stepfleet_shared::admission::Refused::Unfit(refusal) => refusal.into(),
        }
    }
}

impl From<stepfleet_shared::server::Refusal> for CliError {
    fn from(refusal: stepfleet_shared::server::Refusal) -> Self {
        Self::new(refusal.to_string())
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}
