//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

use super::groups::{Caller, Fence, Changes, Place, Slot};
use super::words;
use crate::core::args::{Args, Headed, Transition, Write};

/// Fills free slots with step events, those queued again first; a worker that gets less than it asked for is idle.
#[derive(Clone, Debug)]
pub(crate) struct Claim<'a> {
    pub(crate) caller: Caller<'a>,
    pub(crate) after: &'a str,
    pub(crate) slots: Vec<u64>,
    pub(crate) alone: bool,
}

impl Write for Claim<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.caller.write(args);
        args.text(self.after);
        args.count(self.slots.len());
        for slot in &self.slots {
            args.number(*slot);
        }
        args.flag(self.alone);
    }
}

impl Transition for Claim<'_> {
    type Word = words::Claim;
    const NAME: &'static str = "claim";
}

/// Records entries and changes the context of a step that is still executing; opens waits and answers those that have ended.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint<'a> {
    pub(crate) fence: Fence<'a>,
    pub(crate) mark: String,
    pub(crate) changes: Changes<'a>,
    pub(crate) entries: Vec<(u64, &'a [u8])>,
    pub(crate) gone: Vec<(u64, &'a str, u64)>,
    pub(crate) unreadable: Vec<(u64, &'a str, &'a str, &'a str)>,
    pub(crate) waits: Vec<(u64, &'a str, i64, String, &'a [u8])>,
    pub(crate) upon: Option<String>,
}

impl Write for Checkpoint<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.fence.write(args);
        args.text(&self.mark);
        self.changes.write(args);
        args.count(2 * self.entries.len());
        for (number, entry) in &self.entries {
            args.number(*number);
            args.bytes(entry);
        }
        args.count(3 * self.gone.len());
        for (number, name, given) in &self.gone {
            args.number(*number);
            args.text(name);
            args.number(*given);
        }
        args.count(4 * self.unreadable.len());
        for (number, name, digest, why) in &self.unreadable {
            args.number(*number);
            args.text(name);
            args.text(digest);
            args.text(why);
        }
        args.count(5 * self.waits.len());
        for (number, name, deadline, filter, question) in &self.waits {
            args.number(*number);
            args.text(name);
            args.ms(*deadline);
            args.text(filter);
            args.bytes(question);
        }
        args.optional(self.upon.as_deref());
    }
}

impl Transition for Checkpoint<'_> {
    type Word = words::Checkpoint;
    const NAME: &'static str = "checkpoint";
}

/// Puts an event into a buffer of a step that executes; the one that fills it gets all its events.
#[derive(Clone, Debug)]
pub(crate) struct Collect<'a> {
    pub(crate) fence: Fence<'a>,
    pub(crate) place: Place<'a>,
    pub(crate) number: u64,
    pub(crate) buffer: &'a str,
    pub(crate) count: u64,
    pub(crate) payload: &'a [u8],
    pub(crate) upon: Option<String>,
}

impl Write for Collect<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.fence.write(args);
        self.place.write(args);
        args.number(self.number);
        args.text(self.buffer);
        args.number(self.count);
        args.bytes(self.payload);
        args.optional(self.upon.as_deref());
    }
}

impl Transition for Collect<'_> {
    type Word = words::Collect;
    const NAME: &'static str = "collect";
}

/// Adds an event to what the run publishes, at once, unless it is there already.
#[derive(Clone, Debug)]
pub(crate) struct Publish<'a> {
    pub(crate) worker: &'a str,
    pub(crate) run: &'a str,
    pub(crate) seq: u64,
    pub(crate) attempt: u64,
    pub(crate) line: &'a str,
    pub(crate) place: String,
    pub(crate) step: &'a str,
    pub(crate) event: &'a str,
    pub(crate) content: &'a str,
    pub(crate) data: &'a [u8],
    pub(crate) digest: String,
}

impl Write for Publish<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.worker);
        args.text(self.run);
        args.number(self.seq);
        args.number(self.attempt);
        args.text(self.line);
        args.text(&self.place);
        args.text(self.step);
        args.text(self.event);
        args.text(self.content);
        args.bytes(self.data);
        args.text(&self.digest);
    }
}

impl Transition for Publish<'_> {
    type Word = words::Publish;
    const NAME: &'static str = "publish";
}

/// Adds a piece to a stream of the run's text, at once: text that is there already is not added again, and other text of another attempt is superseded.
#[derive(Clone, Debug)]
pub(crate) struct Stream<'a> {
    pub(crate) worker: &'a str,
    pub(crate) run: &'a str,
    pub(crate) seq: u64,
    pub(crate) attempt: u64,
    pub(crate) line: &'a str,
    pub(crate) place: String,
    pub(crate) step: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) at: u64,
    pub(crate) text: &'a [u8],
    pub(crate) last: bool,
    pub(crate) done: Vec<&'a str>,
}

impl Write for Stream<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.worker);
        args.text(self.run);
        args.number(self.seq);
        args.number(self.attempt);
        args.text(self.line);
        args.text(&self.place);
        args.text(self.step);
        args.text(self.stream);
        args.number(self.at);
        args.bytes(self.text);
        args.flag(self.last);
        args.count(self.done.len());
        for place in &self.done {
            args.text(place);
        }
    }
}

impl Transition for Stream<'_> {
    type Word = words::Stream;
    const NAME: &'static str = "stream";
}

/// Writes a chunk of a large fan-out ahead of its commit.
#[derive(Clone, Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) fence: Fence<'a>,
    pub(crate) offset: u64,
    pub(crate) records: Vec<Headed<'a>>,
}

impl Write for Stage<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.fence.write(args);
        args.number(self.offset);
        args.count(self.records.len());
        for record in &self.records {
            args.headed(record);
        }
    }
}

impl Transition for Stage<'_> {
    type Word = words::Stage;
    const NAME: &'static str = "stage";
}

/// Commits a step execution and fills its slot again.
#[derive(Clone, Debug)]
pub(crate) struct Complete<'a> {
    pub(crate) caller: Caller<'a>,
    pub(crate) slot: Slot<'a>,
    pub(crate) fence: Fence<'a>,
    pub(crate) place: Place<'a>,
    pub(crate) changes: Changes<'a>,
    pub(crate) joins: Vec<(&'a str, &'a [u8])>,
    pub(crate) parts: Vec<(u64, u64, String, &'a [u8])>,
    pub(crate) emits: Vec<Headed<'a>>,
    pub(crate) fan: bool,
    pub(crate) heads: Vec<String>,
    pub(crate) staged: u64,
    pub(crate) consumed: String,
    pub(crate) journal: String,
    pub(crate) rests: bool,
    pub(crate) stop: Vec<&'a [u8]>,
    pub(crate) retention: i64,
    pub(crate) caught: Vec<&'a str>,
    pub(crate) unreadable: bool,
    pub(crate) emitted: String,
    pub(crate) upon: Option<String>,
}

impl Write for Complete<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.caller.write(args);
        self.slot.write(args);
        self.fence.write(args);
        self.place.write(args);
        self.changes.write(args);
        args.count(2 * self.joins.len());
        for (step, event) in &self.joins {
            args.text(step);
            args.bytes(event);
        }
        args.count(4 * self.parts.len());
        for (slot, slots, header, payload) in &self.parts {
            args.number(*slot);
            args.number(*slots);
            args.text(header);
            args.bytes(payload);
        }
        args.count(self.emits.len());
        for record in &self.emits {
            args.headed(record);
        }
        args.flag(self.fan);
        args.count(self.heads.len());
        for header in &self.heads {
            args.text(header);
        }
        args.number(self.staged);
        args.text(&self.consumed);
        args.text(&self.journal);
        args.flag(self.rests);
        args.count(self.stop.len());
        for result in &self.stop {
            args.bytes(result);
        }
        args.ms(self.retention);
        args.count(self.caught.len());
        for error in &self.caught {
            args.text(error);
        }
        args.flag(self.unreadable);
        args.text(&self.emitted);
        args.optional(self.upon.as_deref());
    }
}

impl Transition for Complete<'_> {
    type Word = words::Complete;
    const NAME: &'static str = "complete";
}

/// Ends a failed attempt (`retry` later, or `fail` the run) and fills its slot again.
#[derive(Clone, Debug)]
pub(crate) struct Fail<'a> {
    pub(crate) caller: Caller<'a>,
    pub(crate) slot: Slot<'a>,
    pub(crate) fence: Fence<'a>,
    pub(crate) place: Place<'a>,
    pub(crate) mode: &'a str,
    pub(crate) delay: i64,
    pub(crate) reason: &'a str,
    pub(crate) retention: i64,
    pub(crate) forget: Vec<u64>,
    pub(crate) upon: Option<String>,
}

impl Write for Fail<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.caller.write(args);
        self.slot.write(args);
        self.fence.write(args);
        self.place.write(args);
        args.text(self.mode);
        args.ms(self.delay);
        args.text(self.reason);
        args.ms(self.retention);
        args.count(self.forget.len());
        for number in &self.forget {
            args.number(*number);
        }
        args.optional(self.upon.as_deref());
    }
}

impl Transition for Fail<'_> {
    type Word = words::Fail;
    const NAME: &'static str = "fail";
}

/// Ends an attempt that waits, until one of its waits has ended, and fills its slot again.
#[derive(Clone, Debug)]
pub(crate) struct Suspend<'a> {
    pub(crate) caller: Caller<'a>,
    pub(crate) slot: Slot<'a>,
    pub(crate) fence: Fence<'a>,
    pub(crate) place: Place<'a>,
    pub(crate) waits: Vec<(u64, &'a str, i64, String, &'a [u8])>,
    pub(crate) keeps: bool,
    pub(crate) upon: Option<String>,
}

impl Write for Suspend<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.caller.write(args);
        self.slot.write(args);
        self.fence.write(args);
        self.place.write(args);
        args.count(5 * self.waits.len());
        for (number, name, deadline, filter, question) in &self.waits {
            args.number(*number);
            args.text(name);
            args.ms(*deadline);
            args.text(filter);
            args.bytes(question);
        }
        args.flag(self.keeps);
        args.optional(self.upon.as_deref());
    }
}

impl Transition for Suspend<'_> {
    type Word = words::Suspend;
    const NAME: &'static str = "suspend";
}

/// Registers a worker, with a lease and what it serves.
#[derive(Clone, Debug)]
pub(crate) struct Register<'a> {
    pub(crate) worker: &'a str,
    pub(crate) lease: i64,
    pub(crate) class: String,
    pub(crate) about: Vec<(&'a str, String)>,
    pub(crate) queues: Vec<String>,
    pub(crate) served: Vec<(String, String)>,
}

impl Write for Register<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.worker);
        args.ms(self.lease);
        args.text(&self.class);
        args.count(2 * self.about.len());
        for (field, value) in &self.about {
            args.text(field);
            args.text(value);
        }
        args.count(self.queues.len());
        for queue in &self.queues {
            args.text(queue);
        }
        args.count(2 * self.served.len());
        for (queue, registration) in &self.served {
            args.text(queue);
            args.text(registration);
        }
    }
}

impl Transition for Register<'_> {
    type Word = words::Register;
    const NAME: &'static str = "register";
}

/// Renews a lease that still exists; names what the worker may drop.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat<'a> {
    pub(crate) worker: &'a str,
    pub(crate) lease: i64,
    pub(crate) client: String,
    pub(crate) since: u64,
    pub(crate) idle: bool,
}

impl Write for Heartbeat<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.worker);
        args.ms(self.lease);
        args.text(&self.client);
        args.number(self.since);
        args.flag(self.idle);
    }
}

impl Transition for Heartbeat<'_> {
    type Word = words::Heartbeat;
    const NAME: &'static str = "heartbeat";
}

/// Gives back holds that the worker does not know, or has dropped.
#[derive(Clone, Debug)]
pub(crate) struct Release<'a> {
    pub(crate) worker: &'a str,
    pub(crate) fences: Vec<(u64, &'a str, u64, u64, u64)>,
}

impl Write for Release<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.worker);
        args.count(5 * self.fences.len());
        for (slot, run, seq, attempt, call) in &self.fences {
            args.number(*slot);
            args.text(run);
            args.number(*seq);
            args.number(*attempt);
            args.number(*call);
        }
    }
}

impl Transition for Release<'_> {
    type Word = words::Wordless;
    const NAME: &'static str = "release";
}

/// Gives everything back and forgets the worker, a slice of its holds at a time.
#[derive(Clone, Debug)]
pub(crate) struct Deregister<'a> {
    pub(crate) worker: &'a str,
    pub(crate) limit: u64,
}

impl Write for Deregister<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.worker);
        args.number(self.limit);
    }
}

impl Transition for Deregister<'_> {
    type Word = words::Deregister;
    const NAME: &'static str = "deregister";
}
