//! The operations that schedules are made of.

use proptest::prelude::*;
use stepfleet_shared::step::Next;

pub(crate) const WORKERS: usize = 3;
pub(crate) const RUNS: usize = 8;
pub(crate) const SESSIONS: usize = 2;

/// One operation; its numbers choose among what exists.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Start {
        run: usize,
        routes: usize,
        key: Option<usize>,
        delayed: bool,
        timeout: Option<bool>,
        from: Option<usize>,
        session: Option<usize>,
    },
    Defer {
        run: usize,
    },
    Reject {
        run: usize,
    },
    Claim {
        worker: usize,
        most: usize,
        repeat: bool,
    },
    Complete {
        held: usize,
        leaves: Leaves,
        set: Option<u8>,
        next: Next,
        repeat: bool,
    },
    Fail {
        held: usize,
        again: bool,
        later: bool,
        next: Next,
        repeat: bool,
    },
    Zombie {
        old: usize,
        fails: bool,
        next: Next,
    },
    /// Its successor takes what it can get, and dies too, this many times.
    Crash {
        worker: usize,
        again: usize,
    },
    Expire {
        worker: usize,
    },
    Deregister {
        worker: usize,
    },
    Checkpoint {
        held: usize,
        entries: u64,
        waits: usize,
        set: u8,
        repeat: bool,
    },
    Publish {
        held: usize,
        old: bool,
        places: u8,
        repeat: bool,
    },
    Stream {
        held: usize,
        old: bool,
        what: u8,
        repeat: bool,
    },
    Suspend {
        held: usize,
        waits: usize,
        set: u8,
        next: Next,
        repeat: bool,
    },
    Signal {
        run: usize,
        name: bool,
        order: Option<u8>,
        by_inbox: bool,
    },
    Merge {
        held: usize,
        how: u8,
        expects: u8,
        ends: bool,
        repeat: bool,
    },
    Cancel {
        run: usize,
        repeat: bool,
    },
    Retry {
        run: usize,
        event: Option<u8>,
        by_inbox: bool,
        repeat: bool,
    },
    Fork {
        run: usize,
        id: usize,
        at: u8,
        by_inbox: bool,
        repeat: bool,
    },
    Answer {
        run: usize,
        which: u8,
        by_inbox: bool,
        repeat: bool,
    },
    ChildEnded {
        run: usize,
        which: u8,
        by_inbox: bool,
        repeat: bool,
    },
    Pause {
        run: usize,
        by_inbox: bool,
        repeat: bool,
    },
    Resume {
        run: usize,
        by_inbox: bool,
        repeat: bool,
    },
    Collect {
        held: usize,
        number: Option<u8>,
        count: u32,
        repeat: bool,
    },
    Send {
        run: usize,
        count: usize,
        by_inbox: bool,
    },
    Reap,
    Fire,
    Audit,
    Save,
    Forget,
    Reconcile {
        worker: usize,
    },
}

impl Op {
    /// Whether it has no effect if nothing is held, and leaves the holds as they are.
    pub(crate) fn needs_hold(&self) -> bool {
        matches!(
            self,
            Self::Checkpoint { .. }
                | Self::Suspend { .. }
                | Self::Merge { .. }
                | Self::Publish { .. }
                | Self::Collect { .. }
        )
    }
}

/// What a step emits.
#[derive(Clone, Debug)]
pub(crate) enum Leaves {
    Events(usize),
    FanOut { branches: usize, joins: u8 },
    Parts { slot: u32, and_events: usize },
    Limited(usize),
    Staged { branches: usize },
    JoinEvent { and_events: usize },
    Caught,
    Stop,
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..RUNS, 1..3usize, proptest::option::of(0..2usize), proptest::bool::weighted(0.1), timeout(), proptest::option::weighted(0.2, 0..RUNS),
              proptest::option::weighted(0.4, 0..SESSIONS))
            .prop_map(|(run, routes, key, delayed, timeout, from, session)| {
                Op::Start { run, routes, key, delayed, timeout, from, session }
            }),
        1 => (0..RUNS).prop_map(|run| Op::Defer { run }),
        1 => (0..RUNS).prop_map(|run| Op::Reject { run }),
        14 => (0..WORKERS, 1..5usize, any::<bool>()).prop_map(|(worker, most, repeat)| Op::Claim { worker, most, repeat }),
        14 => (any::<usize>(), leaves(), proptest::option::of(any::<u8>()), next(), any::<bool>())
            .prop_map(|(held, leaves, set, next, repeat)| Op::Complete { held, leaves, set, next, repeat }),
        4 => (any::<usize>(), proptest::bool::weighted(0.8), any::<bool>(), next(), any::<bool>())
            .prop_map(|(held, again, later, next, repeat)| Op::Fail { held, again, later, next, repeat }),
        4 => (any::<usize>(), any::<bool>(), next()).prop_map(|(old, fails, next)| Op::Zombie { old, fails, next }),
        2 => (0..WORKERS, 0..4usize).prop_map(|(worker, again)| Op::Crash { worker, again }),
        1 => (0..WORKERS).prop_map(|worker| Op::Expire { worker }),
        1 => (0..WORKERS).prop_map(|worker| Op::Deregister { worker }),
        2 => Just(Op::Reap),
        4 => Just(Op::Fire),
        26 => waiting(),
        6 => (any::<usize>(), any::<u8>(), any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(held, how, expects, ends, repeat)| Op::Merge { held, how, expects, ends, repeat }),
    ]
}

fn waiting() -> impl Strategy<Value = Op> {
    prop_oneof![
        9 => (any::<usize>(), 0..3u64, 0..4usize, any::<u8>(), any::<bool>())
            .prop_map(|(held, entries, waits, set, repeat)| Op::Checkpoint { held, entries, waits, set, repeat }),
        5 => (any::<usize>(), proptest::bool::weighted(0.2), any::<u8>(), any::<bool>())
            .prop_map(|(held, old, places, repeat)| Op::Publish { held, old, places, repeat }),
        10 => (any::<usize>(), proptest::bool::weighted(0.2), any::<u8>(), any::<bool>())
            .prop_map(|(held, old, what, repeat)| Op::Stream { held, old, what, repeat }),
        8 => (any::<usize>(), 0..2usize, any::<u8>(), next(), any::<bool>())
            .prop_map(|(held, waits, set, next, repeat)| Op::Suspend { held, waits, set, next, repeat }),
        6 => (0..RUNS, any::<bool>(), proptest::option::of(0..3u8), any::<bool>())
            .prop_map(|(run, name, order, by_inbox)| Op::Signal { run, name, order, by_inbox }),
        1 => (0..RUNS, any::<bool>()).prop_map(|(run, repeat)| Op::Cancel { run, repeat }),
        6 => (0..RUNS, proptest::option::weighted(0.3, any::<u8>()), any::<bool>(), any::<bool>())
            .prop_map(|(run, event, by_inbox, repeat)| Op::Retry { run, event, by_inbox, repeat }),
        12 => (0..RUNS, 0..RUNS, any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(run, id, at, by_inbox, repeat)| Op::Fork { run, id, at, by_inbox, repeat }),
        6 => (0..RUNS, any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(run, which, by_inbox, repeat)| Op::Answer { run, which, by_inbox, repeat }),
        8 => (0..RUNS, any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(run, which, by_inbox, repeat)| Op::ChildEnded { run, which, by_inbox, repeat }),
        3 => (0..RUNS, any::<bool>(), any::<bool>())
            .prop_map(|(run, by_inbox, repeat)| Op::Pause { run, by_inbox, repeat }),
        4 => (0..RUNS, any::<bool>(), any::<bool>())
            .prop_map(|(run, by_inbox, repeat)| Op::Resume { run, by_inbox, repeat }),
        2 => (any::<usize>(), proptest::option::weighted(0.2, 0..3u8), 1..4u32, any::<bool>())
            .prop_map(|(held, number, count, repeat)| Op::Collect { held, number, count, repeat }),
        3 => (0..RUNS, 0..3usize, any::<bool>()).prop_map(|(run, count, by_inbox)| Op::Send { run, count, by_inbox }),
        1 => Just(Op::Audit),
        4 => Just(Op::Save),
        5 => Just(Op::Forget),
        2 => (0..WORKERS).prop_map(|worker| Op::Reconcile { worker }),
    ]
}

/// What the slot takes next.
fn next() -> impl Strategy<Value = Next> {
    prop_oneof![2 => Just(Next::Nothing), 4 => Just(Next::Following), 2 => Just(Next::Others)]
}

/// At once, or in an hour.
fn timeout() -> impl Strategy<Value = Option<bool>> {
    proptest::option::weighted(0.1, any::<bool>())
}

fn leaves() -> impl Strategy<Value = Leaves> {
    prop_oneof![
        4 => (0..3usize).prop_map(Leaves::Events),
        4 => (0..5usize, 0..5u8).prop_map(|(branches, joins)| Leaves::FanOut { branches, joins }),
        2 => (1..3u32, 0..3usize).prop_map(|(slot, and_events)| Leaves::Parts { slot, and_events }),
        2 => (1..4usize).prop_map(Leaves::Limited),
        1 => (60..70usize).prop_map(|branches| Leaves::Staged { branches }),
        4 => (0..2usize).prop_map(|and_events| Leaves::JoinEvent { and_events }),
        2 => Just(Leaves::Caught),
        1 => Just(Leaves::Stop),
    ]
}
