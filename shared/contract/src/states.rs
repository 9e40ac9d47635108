//! Letters: of states, of the flags of records, and of the outcome of a slot's commit.

/// A letter and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    /// The letter.
    pub letter: char,
    /// What it says.
    pub means: &'static str,
    /// What comes with it; empty for nothing.
    pub about: &'static str,
}

const fn letter(letter: char, means: &'static str, about: &'static str) -> Letter {
    Letter { letter, means, about }
}

/// The states of a step execution, and what `<about>` of the state line is. One that has ended has no state.
pub const STATES: &[Letter] = &[
    letter('Q', "queued", "where: `q` for `queue` or `r` for `requeued`, and the entry's id"),
    letter('H', "held", "the worker, since when (ms), and the number of the call that took it"),
    letter('W', "waits for a timer", "when it is due (ms)"),
    letter('S', "suspended", "its waits: `<name>.<number>,...`, each with `~<filter>` if it has one"),
    letter('T', "waits for its turn", "`turn`"),
];

/// The flags of a record.
pub const FLAGS: &[Letter] = &[
    letter('i', "the event is the run's input", "no payload: it is read from `input:<id>`"),
    letter('c', "the step takes the context", "the event"),
    letter('j', "the event is what a fan-out joined", "where: `<group> <count>`"),
    letter('o', "the event came from outside of the run", "the event"),
    letter('t', "the event is a set of several", "the lengths of the parts, a line feed, and the parts"),
];

/// The outcome of the commit of the call that wrote a slot.
pub const SLOT_LETTERS: &[Letter] =
    &[letter('o', "it was accepted, or there was none", ""), letter('f', "it was fenced", "")];
