//! A shell that a test types into: it keeps its folder and its variables from line to line, as somebody's terminal does.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fleet::Process;
use crate::look_for;

/// A command may compile a whole program, on a machine that is busy with other tests.
const LONGEST: Duration = Duration::from_secs(600);

/// A terminal. What was started in it ends with the value.
pub struct Terminal {
    shell: Process,
    typed: usize,
}

impl Terminal {
    /// Opens a terminal in this folder, where these variables are set.
    pub fn open(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("sh");
        shell.current_dir(folder).stdin(Stdio::piped()).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        Self { shell: Process::leading(&mut shell, settings), typed: 0 }
    }

    /// The group of all processes that were started here.
    pub fn group(&self) -> u32 {
        self.shell.id()
    }

    /// Types a line, and waits until its command has ended; what it printed, on whichever stream.
    ///
    /// # Panics
    /// When the command fails, or has not ended within ten minutes.
    pub async fn type_in(&mut self, line: &str) -> String {
        let (before, mark) = (self.log().len(), format!("[end of line {}: ", self.typed));
        self.begin(line);
        self.shell.write(&format!("echo \"{mark}$?]\"\n"));
        let ended = async || {
            let log = self.log().split_off(before);
            let ended = log.split_once(&mark).and_then(|(printed, rest)| Some((printed, rest.split_once(']')?.0)));
            ended.map(|(printed, code)| (printed.to_owned(), code.to_owned())).ok_or(log)
        };
        let (printed, code) =
            look_for(LONGEST, ended, |log| format!(" for the end of {line}, which printed:\n{log}")).await;
        assert_eq!(code, "0", "{line}\n{printed}");
        printed
    }

    /// Types a line whose command goes on until the terminal is closed.
    pub fn begin(&mut self, line: &str) {
        self.typed += 1;
        self.shell.write(&format!("{line}\n"));
    }

    /// All that was printed so far.
    pub fn log(&self) -> String {
        self.shell.log()
    }
}
