//! The outcome of a request about a run, by the state of the run.

/// The states of a run when a request about it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is none of this id.
    Unknown,
    /// Its request waits for a worker that serves its workflow.
    Held,
    /// It was started with a delay that is not over.
    Delayed,
    /// No step has begun.
    Queued,
    /// A worker executes a step.
    Running,
    /// It waits for its turn in its session.
    InLine,
    /// A step waits for its retry.
    Resting,
    /// A step waits for a signal, and holds no worker.
    Suspended,
    /// A step asks people a question, and holds no worker.
    Asking,
    /// It is paused; a step would go on.
    Paused,
    /// It has completed or was cancelled.
    Ended,
    /// It has failed.
    Failed,
    /// Its request was rejected.
    Rejected,
    /// The id leads to another run, which is under way: its request had the same idempotency key.
    Alias,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Unknown,
        Self::Held,
        Self::Delayed,
        Self::Queued,
        Self::Running,
        Self::InLine,
        Self::Resting,
        Self::Suspended,
        Self::Asking,
        Self::Paused,
        Self::Ended,
        Self::Failed,
        Self::Rejected,
        Self::Alias,
    ];

    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Unknown => "is not known",
            Self::Held => "is held: no worker serves its workflow yet",
            Self::Delayed => "waits for its delay",
            Self::Queued => "is queued",
            Self::Running => "is running",
            Self::InLine => "waits for its turn in its session",
            Self::Resting => "waits: a step waits for its retry",
            Self::Suspended => "is suspended: a step waits for this signal",
            Self::Asking => "asks people this question",
            Self::Paused => "is paused",
            Self::Ended => "has completed, or was cancelled",
            Self::Failed => "has failed",
            Self::Rejected => "was rejected",
            Self::Alias => "is another, active one, to which the id leads",
        }
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A run of this id, without an idempotency key.
    Start,
    /// A signal.
    Signal,
    /// An event from outside, which a step of the workflow takes.
    Send,
    /// The answer to a question.
    Answer,
    /// The end.
    Cancel,
    /// To retry a failed run.
    Retry,
    /// A run that continues from a point of it.
    Fork,
    /// That nothing new of it begin.
    Pause,
    /// To resume a paused run.
    Resume,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Start,
        Self::Signal,
        Self::Send,
        Self::Answer,
        Self::Cancel,
        Self::Retry,
        Self::Fork,
        Self::Pause,
        Self::Resume,
    ];

    /// As in the field `op`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Send => "send",
            Self::Answer => "answer",
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Fork => "fork",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A run is made.
    Starts,
    /// It is the same run, and nothing changes.
    Repeats,
    /// A wait gets the signal.
    Delivered,
    /// The signal is kept for a wait.
    Kept,
    /// The steps that take the event begin with it.
    Begins,
    /// The same, once the delay is over, behind the run's first steps.
    BeginsLater,
    /// The same, once the run has its turn in its session.
    BeginsInTurn,
    /// The same, once the run is resumed.
    BeginsResumed,
    /// The event is kept until the run starts; what the run is rejected or cancelled with, it is rejected with too.
    Waits,
    /// The step that asks goes on with it.
    Answered,
    /// The run ends.
    Cancels,
    /// The run continues from where it failed.
    Retries,
    /// Another run is made of it.
    Forks,
    /// Nothing new of the run begins.
    Pauses,
    /// The same, from its start on.
    StartsPaused,
    /// What was held back goes on.
    Resumes,
    /// Nothing changes.
    Nothing,
    /// It is rejected.
    Rejected,
    /// It is looked at once more after five seconds, and rejected then.
    LookedAtTwice,
}

impl Answer {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Starts => "a run is made",
            Self::Repeats => "is the same run",
            Self::Delivered => "is delivered",
            Self::Kept => "is kept",
            Self::Begins => "its steps begin",
            Self::BeginsLater => "its steps begin after the first ones",
            Self::BeginsInTurn => "its steps begin when its turn has come",
            Self::BeginsResumed => "its steps begin when it is resumed",
            Self::Waits => "is kept until the run starts",
            Self::Answered => "is given to the step that asks",
            Self::Cancels => "the run ends",
            Self::Retries => "the run goes on from where it failed",
            Self::Forks => "a fork is made",
            Self::Pauses => "the run is paused",
            Self::StartsPaused => "the run starts paused",
            Self::Resumes => "the run goes on",
            Self::Nothing => "changes nothing",
            Self::Rejected => "is rejected",
            Self::LookedAtTwice => "is looked at twice, then rejected",
        }
    }
}

/// What becomes of a request of this kind.
pub const fn answer(operation: Operation, run: Standing) -> Answer {
    match (operation, run) {
        (Operation::Start, Standing::Unknown | Standing::Rejected | Standing::Alias) => Answer::Starts,
        (Operation::Start, _) => Answer::Repeats,
        (_, Standing::Unknown) => Answer::LookedAtTwice,
        (Operation::Answer, Standing::Asking) => Answer::Answered,
        (Operation::Fork, Standing::Held | Standing::Rejected) => Answer::Rejected,
        (Operation::Fork, _) => Answer::Forks,
        (Operation::Retry, Standing::Failed) => Answer::Retries,
        (Operation::Cancel, Standing::Ended | Standing::Failed | Standing::Rejected) => Answer::Nothing,
        (Operation::Cancel, _) => Answer::Cancels,
        (_, Standing::Ended | Standing::Failed | Standing::Rejected) | (Operation::Retry | Operation::Answer, _) => {
            Answer::Rejected
        }
        (Operation::Pause, Standing::Held) => Answer::StartsPaused,
        (Operation::Resume, Standing::Paused) => Answer::Resumes,
        (Operation::Pause, Standing::Paused) | (Operation::Resume, _) => Answer::Nothing,
        (Operation::Pause, _) => Answer::Pauses,
        (Operation::Signal, Standing::Suspended) => Answer::Delivered,
        (Operation::Signal, _) => Answer::Kept,
        (Operation::Send, Standing::Held) => Answer::Waits,
        (Operation::Send, Standing::Delayed) => Answer::BeginsLater,
        (Operation::Send, Standing::InLine) => Answer::BeginsInTurn,
        (Operation::Send, Standing::Paused) => Answer::BeginsResumed,
        (Operation::Send, _) => Answer::Begins,
    }
}
