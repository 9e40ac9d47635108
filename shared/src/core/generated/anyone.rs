//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

use super::words;
use crate::core::args::{Args, Transition, Write};

/// Changes the value of an entity, unless it has changed since it was read or the call was made before.
#[derive(Clone, Debug)]
pub(crate) struct Entity<'a> {
    pub(crate) kind: &'a str,
    pub(crate) key: &'a str,
    pub(crate) call: &'a str,
    pub(crate) expected: u64,
    pub(crate) value: Vec<&'a [u8]>,
    pub(crate) clears: bool,
    pub(crate) result: &'a [u8],
    pub(crate) expires: i64,
}

impl Write for Entity<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.kind);
        args.text(self.key);
        args.text(self.call);
        args.number(self.expected);
        args.count(self.value.len());
        for value in &self.value {
            args.bytes(value);
        }
        args.flag(self.clears);
        args.bytes(self.result);
        args.ms(self.expires);
    }
}

impl Transition for Entity<'_> {
    type Word = words::Entity;
    const NAME: &'static str = "entity";
}

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
    const LOOKS: bool = true;
}

/// Shows the open questions of a run or of all runs, the oldest first; changes nothing.
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
    const LOOKS: bool = true;
}
