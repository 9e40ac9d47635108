//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

/// What transitions and short ways are given.
pub(crate) mod args {
    use super::super::args::{Args, Headed, Transition, Way, Write};
    use super::words;

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

    /// Arguments that several have: `scope`, `step`.
    #[derive(Clone, Debug)]
    pub(crate) struct Place<'a> {
        pub(crate) scope: u64,
        pub(crate) step: &'a str,
    }

    impl Write for Place<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            args.number(self.scope);
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

    /// Gives an idempotency key up that is kept for this run.
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

    /// Sees to it that no run of this id is created under a ticket any more.
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

    /// Leads from the id of a request that repeats another to that one's run, in whatever partition.
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
        pub(crate) reason: &'a str,
        pub(crate) limit: u64,
        pub(crate) retention: i64,
        pub(crate) fields: Vec<(&'a [u8], &'a [u8])>,
    }

    impl Write for Reject<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            args.text(self.entry);
            args.text(self.deferred);
            args.text(self.run);
            args.text(self.reason);
            args.number(self.limit);
            args.ms(self.retention);
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

    /// Records entries and changes the context of a step that goes on; opens waits and answers those that have ended.
    #[derive(Clone, Debug)]
    pub(crate) struct Checkpoint<'a> {
        pub(crate) fence: Fence<'a>,
        pub(crate) mark: String,
        pub(crate) changes: Changes<'a>,
        pub(crate) entries: Vec<(u64, &'a [u8])>,
        pub(crate) gone: Vec<(u64, &'a str)>,
        pub(crate) waits: Vec<(u64, &'a str, i64, String)>,
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
            args.count(2 * self.gone.len());
            for (number, name) in &self.gone {
                args.number(*number);
                args.text(name);
            }
            args.count(4 * self.waits.len());
            for (number, name, deadline, filter) in &self.waits {
                args.number(*number);
                args.text(name);
                args.ms(*deadline);
                args.text(filter);
            }
        }
    }

    impl Transition for Checkpoint<'_> {
        type Word = words::Checkpoint;
        const NAME: &'static str = "checkpoint";
    }

    /// Puts an event into a buffer of a step that executes; who fills it gets all that is in it.
    #[derive(Clone, Debug)]
    pub(crate) struct Collect<'a> {
        pub(crate) fence: Fence<'a>,
        pub(crate) place: Place<'a>,
        pub(crate) number: u64,
        pub(crate) buffer: &'a str,
        pub(crate) count: u64,
        pub(crate) payload: &'a [u8],
    }

    impl Write for Collect<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            self.fence.write(args);
            self.place.write(args);
            args.number(self.number);
            args.text(self.buffer);
            args.number(self.count);
            args.bytes(self.payload);
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
        pub(crate) emitted: String,
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
            args.text(&self.emitted);
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
        pub(crate) waits: Vec<(u64, &'a str, i64, String)>,
    }

    impl Write for Suspend<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            self.caller.write(args);
            self.slot.write(args);
            self.fence.write(args);
            self.place.write(args);
            args.count(4 * self.waits.len());
            for (number, name, deadline, filter) in &self.waits {
                args.number(*number);
                args.text(name);
                args.ms(*deadline);
                args.text(filter);
            }
        }
    }

    impl Transition for Suspend<'_> {
        type Word = words::Suspend;
        const NAME: &'static str = "suspend";
    }

    /// Gives a signal to the oldest wait that it fits, or keeps it.
    #[derive(Clone, Debug)]
    pub(crate) struct Signal<'a> {
        pub(crate) asked: &'a str,
        pub(crate) name: &'a str,
        pub(crate) attributes: String,
        pub(crate) payload: &'a [u8],
        pub(crate) entry: &'a str,
    }

    impl Write for Signal<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            args.text(self.asked);
            args.text(self.name);
            args.text(&self.attributes);
            args.bytes(self.payload);
            args.text(self.entry);
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
        pub(crate) list: Vec<Headed<'a>>,
    }

    impl Write for Send<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            args.text(self.asked);
            args.text(self.entry);
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

    /// Ends a run where it stands.
    #[derive(Clone, Debug)]
    pub(crate) struct Cancel<'a> {
        pub(crate) asked: &'a str,
        pub(crate) entry: &'a str,
        pub(crate) retention: i64,
    }

    impl Write for Cancel<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            args.text(self.asked);
            args.text(self.entry);
            args.ms(self.retention);
        }
    }

    impl Transition for Cancel<'_> {
        type Word = words::Cancel;
        const NAME: &'static str = "cancel";
    }

    /// Makes a worker known, with a lease and what it serves.
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

    /// Renews a lease that is still there; names what need not be gone on with.
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

    /// Gives back holds that the worker knows nothing of, or has dropped.
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

    /// Reaps workers that are gone, fires due timers, wakes workers for queues that still have entries.
    #[derive(Clone, Debug)]
    pub(crate) struct Tick<'a> {
        pub(crate) limit: u64,
        pub(crate) max_losses: u64,
        pub(crate) retention: i64,
        pub(crate) suspects: Vec<(&'a str, u64)>,
    }

    impl Write for Tick<'_> {
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

    impl Transition for Tick<'_> {
        type Word = words::Wordless;
        const NAME: &'static str = "tick";
    }

    /// Looks at one key, or a slice of a large one, for what is missing, and mends it where asked.
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

    /// A commit whose only successor goes on in the same slot.
    #[derive(Clone, Debug)]
    pub(crate) struct HandOver<'a> {
        pub(crate) ending: Ending<'a>,
        pub(crate) record: Headed<'a>,
        pub(crate) version: String,
        pub(crate) fields: Vec<(&'a str, &'a [u8])>,
    }

    impl Write for HandOver<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            self.ending.write(args);
            args.headed(&self.record);
            args.text(&self.version);
            for (field, value) in &self.fields {
                args.text(field);
                args.bytes(value);
            }
        }
    }

    impl Way for HandOver<'_> {
        const LETTER: &'static str = "h";
    }

    /// A commit of a branch that leaves nothing but one event for a join, or nothing.
    #[derive(Clone, Debug)]
    pub(crate) struct EndBranch<'a> {
        pub(crate) ending: Ending<'a>,
        pub(crate) after: &'a str,
        pub(crate) scope: u64,
        pub(crate) join: &'a str,
        pub(crate) event: &'a [u8],
        pub(crate) fields: Vec<(&'a str, &'a [u8])>,
    }

    impl Write for EndBranch<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            self.ending.write(args);
            args.text(self.after);
            args.number(self.scope);
            args.text(self.join);
            args.bytes(self.event);
            for (field, value) in &self.fields {
                args.text(field);
                args.bytes(value);
            }
        }
    }

    impl Way for EndBranch<'_> {
        const LETTER: &'static str = "b";
    }

    /// A commit with the stop event, where nothing else of the run is under way and nobody follows it.
    #[derive(Clone, Debug)]
    pub(crate) struct EndRun<'a> {
        pub(crate) ending: Ending<'a>,
        pub(crate) after: &'a str,
        pub(crate) completed: String,
        pub(crate) result: &'a [u8],
        pub(crate) retention: i64,
        pub(crate) fields: Vec<(&'a str, &'a [u8])>,
    }

    impl Write for EndRun<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            self.ending.write(args);
            args.text(self.after);
            args.text(&self.completed);
            args.bytes(self.result);
            args.ms(self.retention);
            for (field, value) in &self.fields {
                args.text(field);
                args.bytes(value);
            }
        }
    }

    impl Way for EndRun<'_> {
        const LETTER: &'static str = "e";
    }

    /// A checkpoint that records one entry and does nothing else.
    #[derive(Clone, Debug)]
    pub(crate) struct Record<'a> {
        pub(crate) run: &'a str,
        pub(crate) number: u64,
        pub(crate) line: &'a str,
        pub(crate) call: u64,
        pub(crate) entry: &'a [u8],
    }

    impl Write for Record<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            args.text(self.run);
            args.number(self.number);
            args.text(self.line);
            args.number(self.call);
            args.bytes(self.entry);
        }
    }

    impl Way for Record<'_> {
        const LETTER: &'static str = "r";
    }

    /// A start with one step that takes the input at once, and nothing else to it.
    #[derive(Clone, Debug)]
    pub(crate) struct StartRun<'a> {
        pub(crate) run: &'a str,
        pub(crate) workflow: &'a str,
        pub(crate) version: u64,
        pub(crate) content: &'a str,
        pub(crate) input: &'a [u8],
        pub(crate) entry: &'a str,
        pub(crate) record: Headed<'a>,
    }

    impl Write for StartRun<'_> {
        fn write<'a>(&'a self, args: &mut Args<'a>) {
            args.text(self.run);
            args.text(self.workflow);
            args.number(self.version);
            args.text(self.content);
            args.bytes(self.input);
            args.text(self.entry);
            args.headed(&self.record);
        }
    }

    impl Way for StartRun<'_> {
        const LETTER: &'static str = "s";
    }
}

/// The function that has the short ways.
pub(crate) const SHORT: &str = "short";

/// The words that replies begin with.
pub(crate) mod words {
    use super::super::args::Word;

    /// Of replies that have one form only.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Wordless {}

    /// Of `start`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Start {
        /// `started`, then `run`.
        Started,
        /// `exists`, then `run`.
        Exists,
        /// `no source`, then `run`.
        NoSource,
        /// `void`, then `run`.
        Void,
    }

    impl Word for Start {
        const ALL: &'static [(&'static str, Self)] = &[
            ("started", Self::Started),
            ("exists", Self::Exists),
            ("no source", Self::NoSource),
            ("void", Self::Void),
        ];
    }

    /// Of `let_go`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum LetGo {
        /// `ok`.
        Ok,
        /// `other`.
        Other,
    }

    impl Word for LetGo {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("other", Self::Other),
        ];
    }

    /// Of `void`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Void {
        /// `void`.
        Void,
        /// `exists`.
        Exists,
        /// `deferred`.
        Deferred,
    }

    impl Word for Void {
        const ALL: &'static [(&'static str, Self)] = &[
            ("void", Self::Void),
            ("exists", Self::Exists),
            ("deferred", Self::Deferred),
        ];
    }

    /// Of `alias`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Alias {
        /// `ok`.
        Ok,
    }

    impl Word for Alias {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
        ];
    }

    /// Of `defer`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Defer {
        /// `deferred`, then `now`.
        Deferred,
        /// `exists`, then `now`.
        Exists,
        /// `full`, then `now`.
        Full,
    }

    impl Word for Defer {
        const ALL: &'static [(&'static str, Self)] = &[
            ("deferred", Self::Deferred),
            ("exists", Self::Exists),
            ("full", Self::Full),
        ];
    }

    /// Of `reject`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Reject {
        /// `rejected`, then `run`.
        Rejected,
        /// `gone`, then `run`.
        Gone,
    }

    impl Word for Reject {
        const ALL: &'static [(&'static str, Self)] = &[
            ("rejected", Self::Rejected),
            ("gone", Self::Gone),
        ];
    }

    /// Of `claim`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Claim {
        /// `ok`, then `[item...] alone?`.
        Ok,
        /// `lost`, then `[] 0`.
        Lost,
    }

    impl Word for Claim {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("lost", Self::Lost),
        ];
    }

    /// Of `checkpoint`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Checkpoint {
        /// `ok`, then `[number entry...]`.
        Ok,
        /// `fenced`.
        Fenced,
        /// `full`.
        Full,
        /// `conflict`.
        Conflict,
        /// `refused`, then `field wrong`.
        Refused,
    }

    impl Word for Checkpoint {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("fenced", Self::Fenced),
            ("full", Self::Full),
            ("conflict", Self::Conflict),
            ("refused", Self::Refused),
        ];
    }

    /// Of `collect`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Collect {
        /// `ok`, then `entry`.
        Ok,
        /// `fenced`.
        Fenced,
        /// `full`.
        Full,
    }

    impl Word for Collect {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("fenced", Self::Fenced),
            ("full", Self::Full),
        ];
    }

    /// Of `publish`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Publish {
        /// `ok`.
        Ok,
        /// `fenced`.
        Fenced,
    }

    impl Word for Publish {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("fenced", Self::Fenced),
        ];
    }

    /// Of `stage`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Stage {
        /// `ok`, then `length`.
        Ok,
        /// `fenced`, then `0`.
        Fenced,
    }

    impl Word for Stage {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("fenced", Self::Fenced),
        ];
    }

    /// Of `complete`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Complete {
        /// `ok`, then `[item]`.
        Ok,
        /// `fenced`, then `[item]`.
        Fenced,
        /// `unstaged`, then `[]`.
        Unstaged,
        /// `conflict`, then `[]`.
        Conflict,
        /// `refused`, then `[] field wrong`.
        Refused,
    }

    impl Word for Complete {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("fenced", Self::Fenced),
            ("unstaged", Self::Unstaged),
            ("conflict", Self::Conflict),
            ("refused", Self::Refused),
        ];
    }

    /// Of `fail`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fail {
        /// `ok`, then `[item]`.
        Ok,
        /// `fenced`, then `[item]`.
        Fenced,
    }

    impl Word for Fail {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("fenced", Self::Fenced),
        ];
    }

    /// Of `suspend`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Suspend {
        /// `ok`, then `[item]`.
        Ok,
        /// `fenced`, then `[item]`.
        Fenced,
        /// `full`, then `[]`.
        Full,
    }

    impl Word for Suspend {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("fenced", Self::Fenced),
            ("full", Self::Full),
        ];
    }

    /// Of `signal`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Signal {
        /// `delivered`.
        Delivered,
        /// `kept`.
        Kept,
        /// `full`.
        Full,
        /// `gone`.
        Gone,
        /// `over`.
        Over,
        /// `unknown`.
        Unknown,
    }

    impl Word for Signal {
        const ALL: &'static [(&'static str, Self)] = &[
            ("delivered", Self::Delivered),
            ("kept", Self::Kept),
            ("full", Self::Full),
            ("gone", Self::Gone),
            ("over", Self::Over),
            ("unknown", Self::Unknown),
        ];
    }

    /// Of `send`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Send {
        /// `delivered`.
        Delivered,
        /// `full`.
        Full,
        /// `gone`.
        Gone,
        /// `over`.
        Over,
        /// `unknown`.
        Unknown,
    }

    impl Word for Send {
        const ALL: &'static [(&'static str, Self)] = &[
            ("delivered", Self::Delivered),
            ("full", Self::Full),
            ("gone", Self::Gone),
            ("over", Self::Over),
            ("unknown", Self::Unknown),
        ];
    }

    /// Of `cancel`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Cancel {
        /// `cancelled`.
        Cancelled,
        /// `gone`.
        Gone,
        /// `over`.
        Over,
        /// `unknown`.
        Unknown,
    }

    impl Word for Cancel {
        const ALL: &'static [(&'static str, Self)] = &[
            ("cancelled", Self::Cancelled),
            ("gone", Self::Gone),
            ("over", Self::Over),
            ("unknown", Self::Unknown),
        ];
    }

    /// Of `register`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Register {
        /// `ok`, then `now`.
        Ok,
    }

    impl Word for Register {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
        ];
    }

    /// Of `heartbeat`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Heartbeat {
        /// `ok`, then `now [run or scope...] drain?`.
        Ok,
        /// `lost`, then `now [] 0`.
        Lost,
    }

    impl Word for Heartbeat {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("lost", Self::Lost),
        ];
    }

    /// Of `deregister`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Deregister {
        /// `ok`, then `moved`.
        Ok,
        /// `more`, then `moved`.
        More,
    }

    impl Word for Deregister {
        const ALL: &'static [(&'static str, Self)] = &[
            ("ok", Self::Ok),
            ("more", Self::More),
        ];
    }
}
