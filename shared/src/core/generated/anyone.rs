//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

use super::words;
use crate::core::args::{Args, Transition, Write};

/// Shows what a run waits for, a slice at a time; changes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Waits<'a> {
    pub(crate) run: &'a str,
    pub(crate) cursor: &'a str,
}

impl Write for Waits<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.run);
        args.text(self.cursor);
    }
}

impl Transition for Waits<'_> {
    type Word = words::Wordless;
    const NAME: &'static str = "waits";
}

/// Shows questions that are open, of a run or of all, the oldest first; changes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Questions<'a> {
    pub(crate) run: &'a str,
    pub(crate) from: u64,
    pub(crate) count: u64,
}

impl Write for Questions<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.run);
        args.number(self.from);
        args.number(self.count);
    }
}

impl Transition for Questions<'_> {
    type Word = words::Wordless;
    const NAME: &'static str = "questions";
}
