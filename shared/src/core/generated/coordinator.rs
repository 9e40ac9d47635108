//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

use super::words;
use crate::core::args::{Args, Headed, Transition, Write};

/// Creates a run and queues its start events, unless its id or idempotency key is known.
#[derive(Clone, Debug)]
pub(crate) struct Start<'a> {
    pub(crate) run: &'a str,
    pub(crate) workflow: &'a str,
    pub(crate) version: u64,
    pub(crate) content: &'a str,
    pub(crate) input: &'a [u8],
    pub(crate) key: &'a str,
    pub(crate) key_ttl: i64,
    pub(crate) delay: i64,
    pub(crate) entry: &'a str,
    pub(crate) timeout: i64,
    pub(crate) heads: Vec<Headed<'a>>,
    pub(crate) followed: bool,
    pub(crate) from: &'a str,
    pub(crate) fields: Vec<(&'a str, &'a [u8])>,
    pub(crate) ticket: &'a str,
    pub(crate) session: &'a str,
    pub(crate) parent: String,
    pub(crate) reply: &'a str,
    pub(crate) durability: String,
}

impl Write for Start<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.run);
        args.text(self.workflow);
        args.number(self.version);
        args.text(self.content);
        args.bytes(self.input);
        args.text(self.key);
        args.ms(self.key_ttl);
        args.ms(self.delay);
        args.text(self.entry);
        args.ms(self.timeout);
        args.count(self.heads.len());
        for record in &self.heads {
            args.headed(record);
        }
        args.flag(self.followed);
        args.text(self.from);
        args.count(2 * self.fields.len());
        for (field, value) in &self.fields {
            args.text(field);
            args.bytes(value);
        }
        args.text(self.ticket);
        args.text(self.session);
        args.text(&self.parent);
        args.text(self.reply);
        args.text(&self.durability);
    }
}

impl Transition for Start<'_> {
    type Word = words::Start;
    const NAME: &'static str = "start";
}

/// Keeps an idempotency key for a run of another partition, unless it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Reserve<'a> {
    pub(crate) workflow: &'a str,
    pub(crate) key: &'a str,
    pub(crate) run: &'a str,
    pub(crate) ticket: &'a str,
    pub(crate) place: String,
    pub(crate) ttl: i64,
}

impl Write for Reserve<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.workflow);
        args.text(self.key);
        args.text(self.run);
        args.text(self.ticket);
        args.text(&self.place);
        args.ms(self.ttl);
    }
}

impl Transition for Reserve<'_> {
    type Word = words::Wordless;
    const NAME: &'static str = "reserve";
}

/// Says which run an idempotency key is kept for.
#[derive(Clone, Debug)]
pub(crate) struct Reserved<'a> {
    pub(crate) workflow: &'a str,
    pub(crate) key: &'a str,
}

impl Write for Reserved<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.workflow);
        args.text(self.key);
    }
}

impl Transition for Reserved<'_> {
    type Word = words::Wordless;
    const NAME: &'static str = "reserved";
}

/// Releases an idempotency key that is kept for this run.
#[derive(Clone, Debug)]
pub(crate) struct LetGo<'a> {
    pub(crate) workflow: &'a str,
    pub(crate) key: &'a str,
    pub(crate) run: &'a str,
    pub(crate) ticket: &'a str,
}

impl Write for LetGo<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.workflow);
        args.text(self.key);
        args.text(self.run);
        args.text(self.ticket);
    }
}

impl Transition for LetGo<'_> {
    type Word = words::LetGo;
    const NAME: &'static str = "let_go";
}

/// Makes sure that no run with this id is created under a ticket from now on.
#[derive(Clone, Debug)]
pub(crate) struct Void<'a> {
    pub(crate) run: &'a str,
    pub(crate) ticket: &'a str,
}

impl Write for Void<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.run);
        args.text(self.ticket);
    }
}

impl Transition for Void<'_> {
    type Word = words::Void;
    const NAME: &'static str = "void";
}

/// Records that the id of a request that repeats another leads to that one's run, in whatever partition.
#[derive(Clone, Debug)]
pub(crate) struct Alias<'a> {
    pub(crate) run: &'a str,
    pub(crate) known: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) ttl: i64,
}

impl Write for Alias<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.run);
        args.text(self.known);
        args.text(self.entry);
        args.ms(self.ttl);
    }
}

impl Transition for Alias<'_> {
    type Word = words::Alias;
    const NAME: &'static str = "alias";
}

/// Keeps a request whose workflow no worker serves yet.
#[derive(Clone, Debug)]
pub(crate) struct Defer<'a> {
    pub(crate) run: &'a str,
    pub(crate) request: &'a [u8],
    pub(crate) entry: &'a str,
    pub(crate) limit: u64,
    pub(crate) workflow: &'a str,
    pub(crate) key: &'a str,
    pub(crate) key_ttl: i64,
    pub(crate) parent: String,
    pub(crate) reply: &'a str,
}

impl Write for Defer<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.run);
        args.bytes(self.request);
        args.text(self.entry);
        args.number(self.limit);
        args.text(self.workflow);
        args.text(self.key);
        args.ms(self.key_ttl);
        args.text(&self.parent);
        args.text(self.reply);
    }
}

impl Transition for Defer<'_> {
    type Word = words::Defer;
    const NAME: &'static str = "defer";
}

/// Keeps a request that cannot be taken, with the reason.
#[derive(Clone, Debug)]
pub(crate) struct Reject<'a> {
    pub(crate) entry: &'a str,
    pub(crate) deferred: &'a str,
    pub(crate) run: &'a str,
    pub(crate) asked: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) limit: u64,
    pub(crate) retention: i64,
    pub(crate) parent: String,
    pub(crate) reply: &'a str,
    pub(crate) fields: Vec<(&'a [u8], &'a [u8])>,
}

impl Write for Reject<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.entry);
        args.text(self.deferred);
        args.text(self.run);
        args.text(self.asked);
        args.text(self.request);
        args.text(self.reason);
        args.number(self.limit);
        args.ms(self.retention);
        args.text(&self.parent);
        args.text(self.reply);
        args.count(2 * self.fields.len());
        for (field, value) in &self.fields {
            args.bytes(field);
            args.bytes(value);
        }
    }
}

impl Transition for Reject<'_> {
    type Word = words::Reject;
    const NAME: &'static str = "reject";
}

/// Gives a signal to the oldest wait whose filter it passes, or keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Signal<'a> {
    pub(crate) asked: &'a str,
    pub(crate) name: &'a str,
    pub(crate) attributes: String,
    pub(crate) payload: &'a [u8],
    pub(crate) entry: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reply: &'a str,
}

impl Write for Signal<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(self.name);
        args.text(&self.attributes);
        args.bytes(self.payload);
        args.text(self.entry);
        args.text(self.request);
        args.text(self.reply);
    }
}

impl Transition for Signal<'_> {
    type Word = words::Signal;
    const NAME: &'static str = "signal";
}

/// Gives a run events from outside.
#[derive(Clone, Debug)]
pub(crate) struct Send<'a> {
    pub(crate) asked: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reply: &'a str,
    pub(crate) list: Vec<Headed<'a>>,
}

impl Write for Send<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(self.entry);
        args.text(self.request);
        args.text(self.reply);
        args.count(self.list.len());
        for record in &self.list {
            args.headed(record);
        }
    }
}

impl Transition for Send<'_> {
    type Word = words::Send;
    const NAME: &'static str = "send";
}

/// Keeps an event from outside for a run whose request waits for a worker, until it starts.
#[derive(Clone, Debug)]
pub(crate) struct DeferSend<'a> {
    pub(crate) asked: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reply: &'a str,
    pub(crate) event: &'a str,
    pub(crate) step: &'a str,
    pub(crate) content: &'a str,
    pub(crate) input: &'a [u8],
}

impl Write for DeferSend<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(self.entry);
        args.text(self.request);
        args.text(self.reply);
        args.text(self.event);
        args.text(self.step);
        args.text(self.content);
        args.bytes(self.input);
    }
}

impl Transition for DeferSend<'_> {
    type Word = words::DeferSend;
    const NAME: &'static str = "defer_send";
}

/// Tells a run about the end of a child run that it waits for.
#[derive(Clone, Debug)]
pub(crate) struct ChildEnded<'a> {
    pub(crate) parent: &'a str,
    pub(crate) wait: &'a str,
    pub(crate) child: &'a str,
    pub(crate) status: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) entry: &'a str,
}

impl Write for ChildEnded<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.parent);
        args.text(self.wait);
        args.text(self.child);
        args.text(self.status);
        args.bytes(self.payload);
        args.text(self.entry);
    }
}

impl Transition for ChildEnded<'_> {
    type Word = words::ChildEnded;
    const NAME: &'static str = "child_ended";
}

/// Ends a run at once.
#[derive(Clone, Debug)]
pub(crate) struct Cancel<'a> {
    pub(crate) asked: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reply: &'a str,
    pub(crate) retention: i64,
}

impl Write for Cancel<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(self.entry);
        args.text(self.request);
        args.text(self.reply);
        args.ms(self.retention);
    }
}

impl Transition for Cancel<'_> {
    type Word = words::Cancel;
    const NAME: &'static str = "cancel";
}

/// Continues a failed run from where it failed, and gives the failed step another event if requested.
#[derive(Clone, Debug)]
pub(crate) struct Retry<'a> {
    pub(crate) asked: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reply: &'a str,
    pub(crate) event: Vec<&'a [u8]>,
}

impl Write for Retry<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(self.entry);
        args.text(self.request);
        args.text(self.reply);
        args.count(self.event.len());
        for payload in &self.event {
            args.bytes(payload);
        }
    }
}

impl Transition for Retry<'_> {
    type Word = words::Retry;
    const NAME: &'static str = "retry";
}

/// Gives an answer to a question that is open.
#[derive(Clone, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) asked: &'a str,
    pub(crate) question: String,
    pub(crate) name: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) by: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reply: &'a str,
}

impl Write for Answer<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(&self.question);
        args.text(self.name);
        args.bytes(self.payload);
        args.text(self.by);
        args.text(self.entry);
        args.text(self.request);
        args.text(self.reply);
    }
}

impl Transition for Answer<'_> {
    type Word = words::Answer;
    const NAME: &'static str = "answer";
}

/// Holds back everything new of a run; what executes goes on, and may commit.
#[derive(Clone, Debug)]
pub(crate) struct Pause<'a> {
    pub(crate) asked: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reply: &'a str,
}

impl Write for Pause<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(self.entry);
        args.text(self.request);
        args.text(self.reply);
    }
}

impl Transition for Pause<'_> {
    type Word = words::Pause;
    const NAME: &'static str = "pause";
}

/// Continues a paused run, with everything that was held back.
#[derive(Clone, Debug)]
pub(crate) struct Resume<'a> {
    pub(crate) asked: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reply: &'a str,
}

impl Write for Resume<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(self.entry);
        args.text(self.request);
        args.text(self.reply);
    }
}

impl Transition for Resume<'_> {
    type Word = words::Resume;
    const NAME: &'static str = "resume";
}

/// Says what a fork of a run begins with; changes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Forkable<'a> {
    pub(crate) asked: &'a str,
    pub(crate) seq: &'a str,
}

impl Write for Forkable<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(self.seq);
    }
}

impl Transition for Forkable<'_> {
    type Word = words::Forkable;
    const NAME: &'static str = "forkable";
}

/// Creates a run that goes on from a point of another.
#[derive(Clone, Debug)]
pub(crate) struct Fork<'a> {
    pub(crate) asked: &'a str,
    pub(crate) entry: &'a str,
    pub(crate) request: &'a str,
    pub(crate) reply: &'a str,
    pub(crate) fork: &'a str,
    pub(crate) point: &'a str,
    pub(crate) seq: String,
    pub(crate) call: String,
    pub(crate) timeout: i64,
    pub(crate) records: Vec<Headed<'a>>,
    pub(crate) event: Vec<&'a [u8]>,
    pub(crate) entries: Vec<(u64, &'a [u8], &'a [u8])>,
}

impl Write for Fork<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.asked);
        args.text(self.entry);
        args.text(self.request);
        args.text(self.reply);
        args.text(self.fork);
        args.text(self.point);
        args.text(&self.seq);
        args.text(&self.call);
        args.ms(self.timeout);
        args.count(self.records.len());
        for record in &self.records {
            args.headed(record);
        }
        args.count(self.event.len());
        for payload in &self.event {
            args.bytes(payload);
        }
        args.count(3 * self.entries.len());
        for (number, head, becomes) in &self.entries {
            args.number(*number);
            args.bytes(head);
            args.bytes(becomes);
        }
    }
}

impl Transition for Fork<'_> {
    type Word = words::Fork;
    const NAME: &'static str = "fork";
}

/// Takes back what lost workers held; wakes workers for queues that still have entries.
#[derive(Clone, Debug)]
pub(crate) struct Reap<'a> {
    pub(crate) limit: u64,
    pub(crate) max_losses: u64,
    pub(crate) retention: i64,
    pub(crate) suspects: Vec<(&'a str, u64)>,
}

impl Write for Reap<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.number(self.limit);
        args.number(self.max_losses);
        args.ms(self.retention);
        args.count(2 * self.suspects.len());
        for (worker, client) in &self.suspects {
            args.text(worker);
            args.number(*client);
        }
    }
}

impl Transition for Reap<'_> {
    type Word = words::Wordless;
    const NAME: &'static str = "reap";
}

/// Fires due timers; says when the next one is due.
#[derive(Clone, Debug)]
pub(crate) struct Fire {
    pub(crate) limit: u64,
    pub(crate) retention: i64,
}

impl Write for Fire {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.number(self.limit);
        args.ms(self.retention);
    }
}

impl Transition for Fire {
    type Word = words::Wordless;
    const NAME: &'static str = "fire";
}

/// Looks for breaches in one key, or a slice of a large one, and repairs them if requested.
#[derive(Clone, Debug)]
pub(crate) struct Audit<'a> {
    pub(crate) fix: bool,
    pub(crate) max_losses: u64,
    pub(crate) retention: i64,
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
    pub(crate) cursor_at: &'a str,
}

impl Write for Audit<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.flag(self.fix);
        args.number(self.max_losses);
        args.ms(self.retention);
        args.text(self.kind);
        args.text(self.name);
        args.text(self.cursor_at);
    }
}

impl Transition for Audit<'_> {
    type Word = words::Wordless;
    const NAME: &'static str = "audit";
}
