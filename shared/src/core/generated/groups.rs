//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

use crate::core::args::{Args, Headed, Write};

/// Arguments that several have: `worker`, `call`, `again`.
#[derive(Clone, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) worker: &'a str,
    pub(crate) call: u64,
    pub(crate) again: bool,
}

impl Write for Caller<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.worker);
        args.number(self.call);
        args.flag(self.again);
    }
}

/// Arguments that several have: `run`, `seq`, `line`.
#[derive(Clone, Debug)]
pub(crate) struct Fence<'a> {
    pub(crate) run: &'a str,
    pub(crate) seq: u64,
    pub(crate) line: &'a str,
}

impl Write for Fence<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.run);
        args.number(self.seq);
        args.text(self.line);
    }
}

/// Arguments that several have: `set`, `unset`, `merges`, `expects`.
#[derive(Clone, Debug)]
pub(crate) struct Changes<'a> {
    pub(crate) set: Vec<(&'a str, &'a [u8])>,
    pub(crate) unset: Vec<&'a str>,
    pub(crate) merges: Vec<(&'a str, String, Headed<'a>)>,
    pub(crate) expects: Vec<(&'a str, &'a str)>,
}

impl Write for Changes<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.count(2 * self.set.len());
        for (field, value) in &self.set {
            args.text(field);
            args.bytes(value);
        }
        args.count(self.unset.len());
        for field in &self.unset {
            args.text(field);
        }
        args.count(3 * self.merges.len());
        for (field, form, operand) in &self.merges {
            args.text(field);
            args.text(form);
            args.headed(operand);
        }
        args.count(2 * self.expects.len());
        for (field, sha1) in &self.expects {
            args.text(field);
            args.text(sha1);
        }
    }
}

/// Arguments that several have: `group`, `step`.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) group: u64,
    pub(crate) step: &'a str,
}

impl Write for Place<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.number(self.group);
        args.text(self.step);
    }
}

/// Arguments that several have: `slot`, `next`, `after`.
#[derive(Clone, Debug)]
pub(crate) struct Slot<'a> {
    pub(crate) slot: u64,
    pub(crate) next: u64,
    pub(crate) after: &'a str,
}

impl Write for Slot<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.number(self.slot);
        args.number(self.next);
        args.text(self.after);
    }
}

/// Arguments that several have: `worker`, `call`, `slot`, `run`, `number`, `line`, `history`.
#[derive(Clone, Debug)]
pub(crate) struct Ending<'a> {
    pub(crate) worker: &'a str,
    pub(crate) call: u64,
    pub(crate) slot: u64,
    pub(crate) run: &'a str,
    pub(crate) number: u64,
    pub(crate) line: &'a str,
    pub(crate) history: String,
}

impl Write for Ending<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.worker);
        args.number(self.call);
        args.number(self.slot);
        args.text(self.run);
        args.number(self.number);
        args.text(self.line);
        args.text(&self.history);
    }
}
