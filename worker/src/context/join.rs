//! `ctx.join`, `ctx.race`, `ctx.map`: several parts of a body at once, polled in an order that replays can follow.

use std::fmt;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use futures_util::future::{MaybeDone, maybe_done};
use futures_util::stream::{self, BoxStream, StreamExt};

use super::Context;
use crate::error::{Error, Outcome};

impl<S> Context<S> {
    /// Awaits 2 to 8 parts of a body at once, and returns their results in order. The first error ends it, and drops
    /// the parts that have not ended.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn charge() -> Outcome<u64> { Ok(7) }
    /// # async fn label() -> Outcome<String> { Ok("x".into()) }
    /// # async fn body(ctx: &Context) -> Outcome<()> {
    /// let (paid, label) = ctx.join((
    ///     ctx.step("charge", || charge()).retries(5),
    ///     async {
    ///         ctx.sleep(std::time::Duration::from_secs(60)).await?;
    ///         ctx.step("label", || label()).retries(5).await
    ///     },
    /// )).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A part is a call, or any future: it may make several calls. The parts are polled in order, unlike with
    /// `tokio::join!`, so calls that two of them make at the same time have the same numbers in each attempt.
    pub fn join<J: Join>(&self, parts: J) -> impl Future<Output = Outcome<J::All>> + Send + use<J, S> {
        parts.join()
    }

    /// Like [`Context::join`], for any number of parts of one type.
    ///
    /// All parts are made when this is called; [`Context::map`] makes them one after the other.
    pub fn join_all<'a, I, F, T>(&self, parts: I) -> Map<'a, T>
    where
        I: IntoIterator<Item = F>,
        F: Future<Output = Outcome<T>> + Send + 'a,
        T: Send + 'a,
    {
        let parts: Vec<F> = parts.into_iter().collect();
        self.map(parts, usize::MAX, |part| part)
    }

    /// Awaits 2 to 8 parts of a body with the same result type until one has ended, and returns its result, value or
    /// error. The others are dropped. That is recorded, so that later attempts decide it alike.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use stepfleet::prelude::*;
    /// # async fn body(ctx: &Context) -> Outcome<()> {
    /// let approved: Option<bool> = ctx.race((
    ///     async { ctx.wait_for("approval").await.map(Some) },
    ///     async { ctx.sleep(Duration::from_secs(86_400)).await.map(|()| None) },
    /// )).await?;
    /// # Ok(()) }
    /// ```
    pub fn race<R: Race>(&self, parts: R) -> impl Future<Output = Outcome<R::First>> + Send + use<R, S> {
        parts.race()
    }

    /// Does the same for each item, at most `max_in_flight` at a time (at least 1), in order, and returns the results
    /// in order. The first error ends it, and drops the active items; with [`Map::each`], each item has a result of
    /// its own.
    ///
    /// ```
    /// # use stepfleet::prelude::*;
    /// # async fn fetch(url: &str) -> Outcome<String> { Ok(url.into()) }
    /// # async fn body(ctx: &Context, urls: Vec<String>) -> Outcome<()> {
    /// let pages: Vec<Result<String, Error>> =
    ///     ctx.map(&urls, 8, |url| ctx.step("fetch", move || fetch(url)).retries(3)).each().await;
    /// # Ok(()) }
    /// ```
    ///
    /// A later attempt continues where the earlier one was: recorded calls of an item are reused. Work outside of any
    /// call is done again.
    pub fn map<'a, I, F, M, T>(&self, items: I, max_in_flight: usize, mut make: M) -> Map<'a, T>
    where
        I: IntoIterator<IntoIter: Send + 'a>,
        M: FnMut(I::Item) -> F + Send + 'a,
        F: Future<Output = Outcome<T>> + Send + 'a,
        T: Send + 'a,
    {
        let items = items.into_iter().enumerate().map(move |(place, item)| {
            let part = make(item);
            async move { (place, part.await) }
        });
        Map { parts: stream::iter(items).buffer_unordered(max_in_flight.max(1)).boxed(), done: Vec::new() }
    }
}

/// What [`Context::join`] takes: tuples of 2 to 8 futures with an [`Outcome`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be awaited as the parts of a join",
    label = "this must be a tuple of 2 to 8 futures",
    note = "each must be `Send` and resolve to an `Outcome`, as `ctx.step(..)` does"
)]
pub trait Join: Sized {
    /// The results of all of them.
    type All;

    /// Awaits all, or the first error.
    fn join(self) -> impl Future<Output = Outcome<Self::All>> + Send;
}

/// What [`Context::race`] takes: tuples of 2 to 8 futures with the same [`Outcome`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be awaited as the parts of a race",
    label = "this must be a tuple of 2 to 8 futures",
    note = "each must be `Send` and resolve to an `Outcome` of the same type"
)]
pub trait Race: Sized {
    /// The result of each of them.
    type First;

    /// Awaits the first one.
    fn race(self) -> impl Future<Output = Outcome<Self::First>> + Send;
}

/// Polls a part that has not ended. An error ends all.
fn poll_part<F, T>(part: Pin<&mut MaybeDone<F>>, context: &mut std::task::Context<'_>) -> Poll<Outcome<()>>
where
    F: Future<Output = Outcome<T>>,
{
    let mut part = part;
    if part.as_mut().poll(context).is_pending() {
        return Poll::Pending;
    }
    match part.as_mut().output_mut() {
        Some(Err(_)) => match part.take_output() {
            Some(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        },
        _ => Poll::Ready(Ok(())),
    }
}

macro_rules! tuples {
    ($(($($part:ident $value:ident),+),)+) => {$(
        impl<$($part, $value),+> Join for ($($part,)+)
        where
            $($part: Future<Output = Outcome<$value>> + Send, $value: Send,)+
        {
            type All = ($($value,)+);

            #[allow(non_snake_case, reason = "a part is named as its type")]
            async fn join(self) -> Outcome<Self::All> {
                let ($($part,)+) = self;
                $(let mut $part = pin!(maybe_done($part));)+
                std::future::poll_fn(|context| {
                    let mut is_pending = false;
                    $(match poll_part($part.as_mut(), context) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                        Poll::Pending => is_pending = true,
                    })+
                    if is_pending { Poll::Pending } else { Poll::Ready(Ok(())) }
                }).await?;
                Ok(($(match $part.as_mut().take_output() {
                    Some(ended) => ended?,
                    None => std::future::pending().await,
                },)+))
            }
        }

        impl<Value, $($part),+> Race for ($($part,)+)
        where
            $($part: Future<Output = Outcome<Value>> + Send,)+
        {
            type First = Value;

            #[allow(non_snake_case, reason = "a part is named as its type")]
            async fn race(self) -> Outcome<Value> {
                let ($($part,)+) = self;
                $(let mut $part = pin!($part);)+
                std::future::poll_fn(|context| {
                    $(if let Poll::Ready(ended) = $part.as_mut().poll(context) {
                        return Poll::Ready(ended);
                    })+
                    Poll::Pending
                }).await
            }
        }
    )+};
}

tuples! {
    (A TA, B TB),
    (A TA, B TB, C TC),
    (A TA, B TB, C TC, D TD),
    (A TA, B TB, C TC, D TD, E TE),
    (A TA, B TB, C TC, D TD, E TE, F TF),
    (A TA, B TB, C TC, D TD, E TE, F TF, G TG),
    (A TA, B TB, C TC, D TD, E TE, F TF, G TG, H TH),
}

/// Items in progress, several at a time: see [`Context::map`].
#[must_use = "nothing is done unless it is awaited"]
pub struct Map<'a, T> {
    parts: BoxStream<'a, (usize, Outcome<T>)>,
    done: Vec<Option<T>>,
}

// Nothing points into what is done.
impl<T> Unpin for Map<'_, T> {}

impl<'a, T> Map<'a, T> {
    /// The result of each item, value or error, in order: an error ends only its own item.
    pub fn each(self) -> Each<'a, T> {
        Each { parts: self.parts, done: Vec::new() }
    }
}

impl<'a, T: Send + 'a> Future for Map<'a, T> {
    type Output = Outcome<Vec<T>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        while let Some((place, ended)) = ready!(this.parts.poll_next_unpin(context)) {
            match ended {
                Ok(value) => put(&mut this.done, place, value),
                Err(error) => {
                    // Active items are dropped before the body goes on.
                    this.parts = stream::empty().boxed();
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(std::mem::take(&mut this.done).into_iter().flatten().collect()))
    }
}

/// Like [`Map`], with a result for each item: see [`Map::each`].
#[must_use = "nothing is done unless it is awaited"]
pub struct Each<'a, T> {
    parts: BoxStream<'a, (usize, Outcome<T>)>,
    done: Vec<Option<Result<T, Error>>>,
}

impl<T> Unpin for Each<'_, T> {}

impl<T> Future for Each<'_, T> {
    type Output = Vec<Result<T, Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        while let Some((place, ended)) = ready!(this.parts.poll_next_unpin(context)) {
            put(&mut this.done, place, ended);
        }
        Poll::Ready(std::mem::take(&mut this.done).into_iter().flatten().collect())
    }
}

fn put<T>(done: &mut Vec<Option<T>>, place: usize, value: T) {
    if done.len() <= place {
        done.resize_with(place + 1, || None);
    }
    done[place] = Some(value);
}

impl<T> fmt::Debug for Map<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Each<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Each").finish_non_exhaustive()
    }
}
