//! Text that more than one side reads.

/// A form that a text has.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// What has this form; for timers and entries of a journal how it begins.
    pub name: &'static str,
    /// The form.
    pub form: &'static str,
    /// What it says.
    pub says: &'static str,
}

const fn format(name: &'static str, form: &'static str, says: &'static str) -> Format {
    Format { name, form, says }
}

/// Forms of values and entries.
pub const FORMATS: &[Format] = &[
    format(
        "state line",
        "<letter> <attempt> <failures> <losses> <about>",
        "`failures` counts attempts that ended with an error, `losses` counts those since the last attempt that ended well whose worker was lost and held nothing else, and the number after a `+` those whose worker held others too",
    ),
    format("fence", "H <attempt> <failures> <losses> <worker> <since ms> <call>", "the state line of a hold"),
    format(
        "record",
        "<group> <step> <flags>[=<limit>][+<recoveries>] <event>\\n<payload>",
        "flags are letters, or `-` for none; `limit` is how many executions of the step may be under way, `recoveries` how many failures on the way to the event were caught",
    ),
    format(
        "slot",
        "<call> <letter>[ <run> <seq> <attempt>]",
        "the call that wrote it, the outcome of its commit, and the hold",
    ),
    format("entry of a queue", "<run> <seq>", "the field and its value: a step execution that is queued"),
    format("entry of a queue", "<run> f<group>", "a fan-out whose next staged branches are to be begun"),
    format("wait", "<seq>.<number>@<deadline ms, 0 for none>[~<filter>]", "an open wait in `w<name>`"),
    format("record of the history", "<ms> <kind> <seq> <attempt> <step> <worker> <detail>", "see protocol.md"),
];

/// The timers.
pub const TIMERS: &[Format] = &[
    format("step", "step <run> <seq> <attempt>", "a retry, or with attempt 0 a delayed start"),
    format("wait", "wait <run> <name> <wait>", "the deadline of a wait"),
    format("timeout", "timeout <run>", "the run takes too long"),
    format("expire", "expire <run>", "the run's retention is over"),
    format("line", "line <run>", "the run's delay is over, and it takes its place in the line of its session"),
    format("session", "session <name>", "the session's retention is over"),
    format(
        "close",
        "close <run> <group> <cursor>",
        "what a closed fan-out has left is to be discarded, a slice at a time",
    ),
    format("turn", "turn <run> <step> <seq>", "a turn is to be passed on; many that waited for it were void"),
    format(
        "again",
        "again <run> <cursor> <ms>",
        "the step executions of a run that was retried then, or resumed (0), are to be queued again, a slice at a time",
    ),
];

/// The entries of a journal.
pub const JOURNAL: &[Format] = &[
    format(
        "s",
        "s<name>[ <order>]\\n<payload>",
        "a call ended with this value; before, the body had received the results that the order names, or those of all \
         calls before it",
    ),
    format("f", "f<name>\\n<error>", "a call ended with this error, and the body went on"),
    format(
        "e",
        "e<name>[ <order>]\\n<error>",
        "a call with retries failed for good with this error; the order is like that of a value",
    ),
    format(
        "t",
        "t<name> <elapsed ms> <delay ms>\\n<error>",
        "a try of a call failed; the next one follows after the delay",
    ),
    format("w", "w<name> <attributes>[ <deadline ms>]\\n<payload>", "a signal ended a wait, which had this deadline"),
    format("o", "o<name>\\n", "a deadline ended a wait"),
    format(
        "c",
        "c[<lengths>\\n<payloads>]",
        "an event was put into a buffer; if that filled the buffer, these are its events",
    ),
    format(
        "x",
        "x<name> <given>\\n",
        "the body dropped the call, after it had received this many results: whatever raced with it came first",
    ),
    format("d", "d<order>\\n", "the results that the body had received, where no value is recorded with them"),
    format(
        "k",
        "k<name>[ <order>]\\n<before>",
        "the state was committed; these are the previous values of the changed fields",
    ),
    format("p", "p<name>\\n", "the body took the new path of a change of its code"),
];
