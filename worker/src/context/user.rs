//! `ctx.wait_for_user`: questions that people answer.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Poll, Waker, ready};
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;
use stepfleet_shared::question::{self, GivenAnswer, Takes};
use stepfleet_shared::step::Wait;
use stepfleet_shared::{codec, names};

use super::Context;
use super::step::Place;
use crate::error::{Error, Outcome};
use crate::replay::Waited;

/// The most that a text may take by default, in bytes.
const TEXT: u32 = 10_000;

impl<S> Context<S> {
    /// Asks people, and waits for their answer. The question is listed (`stepfleet questions`, `Client::questions`,
    /// `ZRANGE sf:{0}:questions 0 -1`) until somebody answers it: in Rust, with `stepfleet answer`, or with an `XADD`
    /// from any language.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use stepfleet::prelude::*;
    /// # async fn body(ctx: &Context) -> Outcome<()> {
    /// let ship = ctx.wait_for_user(Approval::ask("Ship it?").named("ship")).timeout(Duration::from_secs(86_400)).await?;
    /// if ship.answer {
    ///     println!("{} said yes", ship.by.as_deref().unwrap_or("somebody"));
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// An answer that does not fit the question is refused with the reason, and the question stays open. The answer
    /// is recorded, with who gave it and when. Otherwise it is a wait like [`Context::wait_for`]: it holds no worker,
    /// you may join and race it, and it survives every restart.
    ///
    /// Fails when the time is over and there is no default ([`Error::is_overdue`]); and with a terminal error if the
    /// question is not valid (see the limits of [`stepfleet::question::Question`]), or if the body makes other calls
    /// than an earlier attempt.
    pub fn wait_for_user<Q: Question>(&self, question: Q) -> WaitForUser<'_, Q> {
        let number = self.core.journal().next();
        let asked = question.into_question();
        let mistake = asked.check().err().map(Error::from);
        WaitForUser {
            place: Place::new(&self.core, number, names::question(&asked.name)),
            asked,
            timeout: None,
            default: None,
            mistake,
            question: PhantomData,
        }
    }
}

/// A question that people can be asked: [`Approval`], [`Choice`], [`Choices`], [`Text`], each of them also [`Skippable`].
pub trait Question {
    /// The type of the answer.
    type Answer: DeserializeOwned + Clone + Send + Unpin + 'static;

    /// The question as it is stored in Redis.
    fn into_question(self) -> question::Question;
}

/// An answer, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered<A> {
    /// The answer.
    pub answer: A,
    /// Who answered, if they said so.
    pub by: Option<String>,
    /// When, on Redis' clock; None for a default.
    pub at: Option<SystemTime>,
}

macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident: $kind:literal, $answer:ty, $takes:expr;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(question::Question);

        impl $name {
            /// A question with this text.
            pub fn ask(text: impl Into<String>) -> Self {
                Self(question::Question::new($kind, text, $takes))
            }

            /// The name that answers use: any text of up to 200 bytes. By default, it is the kind of question.
            #[must_use]
            pub fn named(mut self, name: impl Into<String>) -> Self {
                self.0.name = name.into();
                self
            }

            /// Lets people skip the question: then the answer is None.
            pub fn skippable(self) -> Skippable<Self> {
                Skippable(self)
            }
        }

        impl Question for $name {
            type Answer = $answer;

            fn into_question(self) -> question::Question {
                self.0
            }
        }
    )+};
}

questions! {
    /// A question that takes yes or no: `true` or `false`. Its default name is `approval`.
    Approval: "approval", bool, Takes::Approval;
    /// A question that takes one option, by its id. Its default name is `choice`.
    Choice: "choice", String, Takes::Choice { options: Vec::new() };
    /// A question that takes several options, by their ids, each once: any number of them by default. Its default
    /// name is `choices`.
    Choices: "choices", Vec<String>, Takes::Choices { options: Vec::new(), least: 0, most: 0 };
    /// A question that takes a text, by default of up to 10,000 bytes. Its default name is `text`.
    Text: "text", String, Takes::Text { most: TEXT };
}

fn option(id: impl Into<String>, label: impl Into<String>) -> question::Choice {
    question::Choice::new(id, label)
}

impl Choice {
    /// An option: its id, which is the answer (1 to 128 bytes), and what people are shown (1 to 1,000 bytes). At most 100.
    #[must_use]
    pub fn option(mut self, id: impl Into<String>, label: impl Into<String>) -> Self {
        if let Takes::Choice { options } = &mut self.0.takes {
            options.push(option(id, label));
        }
        self
    }
}

impl Choices {
    /// An option: its id, which is the answer (1 to 128 bytes), and what people are shown (1 to 1,000 bytes). At most 100.
    #[must_use]
    pub fn option(mut self, id: impl Into<String>, label: impl Into<String>) -> Self {
        if let Takes::Choices { options, most, .. } = &mut self.0.takes {
            *most = if *most as usize == options.len() { *most + 1 } else { *most };
            options.push(option(id, label));
        }
        self
    }

    /// The answer must have at least this many options.
    #[must_use]
    pub fn at_least(mut self, count: u32) -> Self {
        if let Takes::Choices { least, .. } = &mut self.0.takes {
            *least = count;
        }
        self
    }

    /// The answer may have at most this many options; call it after adding the options.
    #[must_use]
    pub fn at_most(mut self, count: u32) -> Self {
        if let Takes::Choices { most, .. } = &mut self.0.takes {
            *most = count;
        }
        self
    }
}

impl Text {
    /// The answer may have at most this many bytes, up to 100,000.
    #[must_use]
    pub fn at_most(mut self, bytes: u32) -> Self {
        self.0.takes = Takes::Text { most: bytes };
        self
    }
}

/// A question that people need not answer.
#[derive(Clone, Debug)]
pub struct Skippable<Q>(Q);

impl<Q: Question> Question for Skippable<Q> {
    type Answer = Option<Q::Answer>;

    fn into_question(self) -> question::Question {
        let mut question = self.0.into_question();
        question.skippable = true;
        question
    }
}

/// A wait of a body for an answer: see [`Context::wait_for_user`].
#[must_use = "nobody is asked unless it is awaited"]
pub struct WaitForUser<'a, Q: Question> {
    place: Place<'a>,
    asked: question::Question,
    timeout: Option<Duration>,
    default: Option<Q::Answer>,
    mistake: Option<Error>,
    question: PhantomData<fn() -> Q>,
}

impl<Q: Question> WaitForUser<'_, Q> {
    /// Waits at most this long, on Redis' clock, counted from when the question was asked, whatever is restarted in
    /// between.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The answer to use when the time is over. To ask something else then, leave this out and check
    /// [`Error::is_overdue`].
    pub fn default(mut self, answer: impl Into<Q::Answer>) -> Self {
        self.default = Some(answer.into());
        self
    }

    fn look(&mut self, waker: &Waker) -> Poll<Outcome<Answered<Q::Answer>>> {
        let (number, name) = (self.place.number, &self.place.name);
        let mut journal = self.place.core.journal();
        let waited = match journal.waited(number, name) {
            Ok(waited) => waited,
            Err(changed) => return Poll::Ready(Err(changed)),
        };
        match waited {
            Waited::Signal(payload) => Poll::Ready(read(&self.asked.name, &payload)),
            Waited::Overdue => Poll::Ready(match self.default.clone() {
                Some(answer) => Ok(Answered { answer, by: None, at: None }),
                None => Err(Error::overdue(format!("nobody answered {} in time", self.asked.name))),
            }),
            Waited::Never => Poll::Pending,
            Waited::New => {
                // It was checked: it can be written.
                let question = serde_json::to_vec(&self.asked).unwrap_or_default();
                let name = name.clone();
                journal.wait(Wait { number, name, deadline: self.timeout, question, ..Wait::default() }, waker);
                Poll::Pending
            }
        }
    }
}

fn read<A: DeserializeOwned>(name: &str, payload: &[u8]) -> Outcome<Answered<A>> {
    let given: GivenAnswer = codec::decode(&format!("the answer to {name}"), payload)?;
    let answer = serde_json::from_value(given.answer)?;
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(given.at_ms);
    Ok(Answered { answer, by: given.by, at: Some(at) })
}

impl<Q: Question> Unpin for WaitForUser<'_, Q> {}

impl<Q: Question> Future for WaitForUser<'_, Q> {
    type Output = Outcome<Answered<Q::Answer>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        if let Some(mistake) = self.mistake.take() {
            self.place.is_over = true;
            return Poll::Ready(Err(mistake));
        }
        ready!(self.place.poll_saved(context))?;
        let outcome = ready!(self.look(context.waker()));
        ready!(self.place.poll_over(context));
        Poll::Ready(outcome)
    }
}

impl<Q: Question> fmt::Debug for WaitForUser<'_, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WaitForUser");
        shown.field("number", &self.place.number).field("question", &self.asked).finish_non_exhaustive()
    }
}
