//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

//! The words that replies begin with.

use crate::core::args::Word;

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
    /// `full`, then `session`.
    Full,
}

impl Word for Start {
    const ALL: &'static [(&'static str, Self)] = &[
        ("started", Self::Started),
        ("exists", Self::Exists),
        ("no source", Self::NoSource),
        ("void", Self::Void),
        ("full", Self::Full),
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
    /// `ok`, then `[item...] alone? [run...]?`.
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

/// Of `stream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// `ok`.
    Ok,
    /// `fenced`.
    Fenced,
    /// `full`.
    Full,
}

impl Word for Stream {
    const ALL: &'static [(&'static str, Self)] = &[
        ("ok", Self::Ok),
        ("fenced", Self::Fenced),
        ("full", Self::Full),
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
    /// `forgotten`, then `[]`.
    Forgotten,
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
        ("forgotten", Self::Forgotten),
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
    /// `forgotten`, then `[]`.
    Forgotten,
}

impl Word for Fail {
    const ALL: &'static [(&'static str, Self)] = &[
        ("ok", Self::Ok),
        ("fenced", Self::Fenced),
        ("forgotten", Self::Forgotten),
    ];
}

/// Of `suspend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspend {
    /// `ok`, then `[item]`.
    Ok,
    /// `fenced`, then `[item]`.
    Fenced,
    /// `forgotten`, then `[]`.
    Forgotten,
    /// `full`, then `[]`.
    Full,
}

impl Word for Suspend {
    const ALL: &'static [(&'static str, Self)] = &[
        ("ok", Self::Ok),
        ("fenced", Self::Fenced),
        ("forgotten", Self::Forgotten),
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
    /// `repeated`.
    Repeated,
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
        ("repeated", Self::Repeated),
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
    /// `repeated`.
    Repeated,
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
        ("repeated", Self::Repeated),
        ("over", Self::Over),
        ("unknown", Self::Unknown),
    ];
}

/// Of `defer_send`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeferSend {
    /// `deferred`.
    Deferred,
    /// `full`.
    Full,
    /// `gone`.
    Gone,
    /// `repeated`.
    Repeated,
    /// `live`.
    Live,
    /// `over`.
    Over,
    /// `unknown`.
    Unknown,
}

impl Word for DeferSend {
    const ALL: &'static [(&'static str, Self)] = &[
        ("deferred", Self::Deferred),
        ("full", Self::Full),
        ("gone", Self::Gone),
        ("repeated", Self::Repeated),
        ("live", Self::Live),
        ("over", Self::Over),
        ("unknown", Self::Unknown),
    ];
}

/// Of `child_ended`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildEnded {
    /// `told`.
    Told,
    /// `gone`.
    Gone,
    /// `over`.
    Over,
}

impl Word for ChildEnded {
    const ALL: &'static [(&'static str, Self)] = &[
        ("told", Self::Told),
        ("gone", Self::Gone),
        ("over", Self::Over),
    ];
}

/// Of `cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// `cancelled`.
    Cancelled,
    /// `gone`.
    Gone,
    /// `repeated`.
    Repeated,
    /// `over`.
    Over,
    /// `unknown`.
    Unknown,
}

impl Word for Cancel {
    const ALL: &'static [(&'static str, Self)] = &[
        ("cancelled", Self::Cancelled),
        ("gone", Self::Gone),
        ("repeated", Self::Repeated),
        ("over", Self::Over),
        ("unknown", Self::Unknown),
    ];
}

/// Of `retry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// `retried`.
    Retried,
    /// `gone`.
    Gone,
    /// `repeated`.
    Repeated,
    /// `live`.
    Live,
    /// `paused`.
    Paused,
    /// `waiting`.
    Waiting,
    /// `over`.
    Over,
    /// `unknown`.
    Unknown,
    /// `refused`, then `why`.
    Refused,
}

impl Word for Retry {
    const ALL: &'static [(&'static str, Self)] = &[
        ("retried", Self::Retried),
        ("gone", Self::Gone),
        ("repeated", Self::Repeated),
        ("live", Self::Live),
        ("paused", Self::Paused),
        ("waiting", Self::Waiting),
        ("over", Self::Over),
        ("unknown", Self::Unknown),
        ("refused", Self::Refused),
    ];
}

/// Of `answer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `answered`.
    Answered,
    /// `closed`.
    Closed,
    /// `gone`.
    Gone,
    /// `repeated`.
    Repeated,
    /// `over`.
    Over,
    /// `unknown`.
    Unknown,
}

impl Word for Answer {
    const ALL: &'static [(&'static str, Self)] = &[
        ("answered", Self::Answered),
        ("closed", Self::Closed),
        ("gone", Self::Gone),
        ("repeated", Self::Repeated),
        ("over", Self::Over),
        ("unknown", Self::Unknown),
    ];
}

/// Of `pause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// `paused`.
    Paused,
    /// `already`.
    Already,
    /// `gone`.
    Gone,
    /// `repeated`.
    Repeated,
    /// `over`.
    Over,
    /// `unknown`.
    Unknown,
}

impl Word for Pause {
    const ALL: &'static [(&'static str, Self)] = &[
        ("paused", Self::Paused),
        ("already", Self::Already),
        ("gone", Self::Gone),
        ("repeated", Self::Repeated),
        ("over", Self::Over),
        ("unknown", Self::Unknown),
    ];
}

/// Of `resume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    /// `resumed`.
    Resumed,
    /// `already`.
    Already,
    /// `gone`.
    Gone,
    /// `repeated`.
    Repeated,
    /// `over`.
    Over,
    /// `unknown`.
    Unknown,
}

impl Word for Resume {
    const ALL: &'static [(&'static str, Self)] = &[
        ("resumed", Self::Resumed),
        ("already", Self::Already),
        ("gone", Self::Gone),
        ("repeated", Self::Repeated),
        ("over", Self::Over),
        ("unknown", Self::Unknown),
    ];
}

/// Of `forkable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forkable {
    /// `start`, then `seq step workflow version [number head...]`.
    Start,
    /// `step`, then `seq step workflow version [number head...]`.
    Step,
    /// `several`, then `[seq step...]`.
    Several,
    /// `refused`, then `why`.
    Refused,
    /// `waiting`.
    Waiting,
    /// `unknown`.
    Unknown,
}

impl Word for Forkable {
    const ALL: &'static [(&'static str, Self)] = &[
        ("start", Self::Start),
        ("step", Self::Step),
        ("several", Self::Several),
        ("refused", Self::Refused),
        ("waiting", Self::Waiting),
        ("unknown", Self::Unknown),
    ];
}

/// Of `fork`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fork {
    /// `forked`.
    Forked,
    /// `exists`.
    Exists,
    /// `taken`.
    Taken,
    /// `changed`.
    Changed,
    /// `gone`.
    Gone,
    /// `repeated`.
    Repeated,
    /// `waiting`.
    Waiting,
    /// `unknown`.
    Unknown,
    /// `refused`, then `why`.
    Refused,
}

impl Word for Fork {
    const ALL: &'static [(&'static str, Self)] = &[
        ("forked", Self::Forked),
        ("exists", Self::Exists),
        ("taken", Self::Taken),
        ("changed", Self::Changed),
        ("gone", Self::Gone),
        ("repeated", Self::Repeated),
        ("waiting", Self::Waiting),
        ("unknown", Self::Unknown),
        ("refused", Self::Refused),
    ];
}

/// Of `entity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entity {
    /// `ok`, then `version`.
    Ok,
    /// `done`, then `result`.
    Done,
    /// `changed`, then `version [value]`.
    Changed,
}

impl Word for Entity {
    const ALL: &'static [(&'static str, Self)] = &[
        ("ok", Self::Ok),
        ("done", Self::Done),
        ("changed", Self::Changed),
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
    /// `ok`, then `now [run or group...] drain?`.
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
