//! Drives the body of a step until it returns, or until it has nothing to do but wait.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::task::AtomicWaker;
use stepfleet_shared::backoff::{BESIDE, Backoff};
use stepfleet_shared::step::Wait;
use tokio::time::Sleep;

use super::foreign::Doubt;
use crate::context::{Core, Interrupt};
use crate::error::Error;
use crate::replay::{Along, Idle};

/// A waiting body that is not woken for this long ends its attempt, or has its waits opened beside active calls:
/// something else that it awaits may be about to come.
const GRACE: Duration = Duration::from_millis(25);

/// A body that is woken again and again without one of its calls counts as at rest after this many polls.
const RESTLESS: u32 = 128;
/// After this many polls in a row, other tasks have their turn.
const IN_A_ROW: u32 = 64;
/// A body that was not woken for this long, and does not reach the call that an earlier attempt received next, never
/// will.
const HELD_UP: Duration = Duration::from_secs(600);

/// The outcome of a body.
#[derive(Debug)]
pub(super) enum Ended<T> {
    /// It returned.
    Returned(T),
    /// It waits for these.
    Waits(Waits),
    /// Its waits or its result cannot be recorded.
    Refused(Error),
    /// Others have changed what it had read: it is to run again.
    Conflict,
    /// The function begins again with this input.
    Again(Vec<u8>),
}

/// What a body waits for, and what is to be recorded before its attempt ends.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) along: Along,
    pub(super) waits: Vec<Wait>,
}

/// Wakes the task of the body, and says that it was the body that was woken.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

/// Never fails: if a body panics, it panics here. A waiting body can be driven again, once it has received something.
pub(super) async fn drive<T>(core: Arc<Core>, body: &mut (impl Future<Output = T> + Unpin)) -> Ended<T> {
    let bell = Arc::new(Bell { rung: AtomicBool::new(true), ..Bell::default() });
    let waker = Waker::from(bell.clone());
    let mut body = Pin::new(body);
    let mut pause = Pause { core, grace: None, beside: None, asking: None };
    let (mut restless, mut doubt) = (0, Doubt::default());
    std::future::poll_fn(move |context| {
        let mut was_woken = false;
        for _ in 0..IN_A_ROW {
            bell.task.register(context.waker());
            if !bell.rung.swap(false, Ordering::SeqCst) {
                if let Some(foreign) = doubt.poll(&pause.core, context) {
                    return Poll::Ready(Ended::Refused(foreign));
                }
                // The body is still there: what it is dropped with later counts no more.
                return pause.poll(context, was_woken).map(|paused| paused.map_or_else(Ended::Refused, Ended::Waits));
            }
            was_woken = true;
            doubt.dispel();
            // Nobody need wake the task while it is here.
            bell.task.take();
            let polled = body.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(returned) = polled {
                return Poll::Ready(pause.interrupted().unwrap_or(Ended::Returned(returned)));
            }
            if let Some(interrupted) = pause.interrupted().or_else(|| pause.astray()) {
                return Poll::Ready(interrupted);
            }
            restless = if bell.rung.load(Ordering::SeqCst) {
                restless + 1
            } else {
                doubt.look(&pause.core);
                RESTLESS
            };
            if restless >= RESTLESS {
                restless = 0;
                pause.give_next(&bell);
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Watches a body that awaits.
struct Pause {
    core: Arc<Core>,
    grace: Option<Pin<Box<Sleep>>>,
    /// The next look, beside calls that are under way.
    beside: Option<(Backoff, Pin<Box<Sleep>>)>,
    asking: Option<BoxFuture<'static, Result<(), Error>>>,
}

impl Pause {
    /// Whatever the body makes of it.
    fn interrupted<T>(&self) -> Option<Ended<T>> {
        Some(match self.core.take_interrupt()? {
            Interrupt::Conflict => Ended::Conflict,
            Interrupt::Refused(error) => Ended::Refused(error),
            Interrupt::Again(input) => Ended::Again(input),
        })
    }

    /// The body is at rest: wakes the call that can receive its result.
    fn give_next(&self, bell: &Bell) {
        while let Some(waker) = self.next() {
            waker.wake();
            // Otherwise the body holds on to it and has not polled it since it was woken before.
            if bell.rung.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn next(&self) -> Option<Waker> {
        self.core.journal().rest()
    }

    fn astray<T>(&self) -> Option<Ended<T>> {
        self.core.journal().astray().map(Ended::Refused)
    }

    /// Ready when it is time to look whether what is waited for has come.
    fn poll_look(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (pauses, next) = self.beside.get_or_insert_with(|| {
            let mut pauses = Backoff::new(BESIDE);
            let next = Box::pin(tokio::time::sleep(pauses.pause()));
            (pauses, next)
        });
        ready!(next.as_mut().poll(context));
        *next = Box::pin(tokio::time::sleep(pauses.pause()));
        Poll::Ready(())
    }

    /// Ready when the attempt is to end.
    fn poll(&mut self, context: &mut Context<'_>, was_woken: bool) -> Poll<Result<Waits, Error>> {
        let mut was_woken = was_woken;
        loop {
            if let Some(asking) = &mut self.asking {
                let Poll::Ready(asked) = asking.as_mut().poll(context) else { return Poll::Pending };
                self.asking = None;
                if let Err(refused) = asked {
                    return Poll::Ready(Err(refused));
                }
            }
            let idle = self.core.idle();
            if idle == Idle::No || matches!(idle, Idle::Suspend | Idle::HeldUp) && was_woken {
                self.grace = None;
            }
            was_woken = false;
            if idle == Idle::No {
                self.beside = None;
                return Poll::Pending;
            }
            if idle == Idle::Look {
                if self.poll_look(context).is_pending() {
                    return Poll::Pending;
                }
            } else if idle != Idle::Ask {
                let moment = if idle == Idle::HeldUp && !self.core.replays { HELD_UP } else { GRACE };
                let grace = self.grace.get_or_insert_with(|| Box::pin(tokio::time::sleep(moment)));
                if grace.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
            }
            self.grace = None;
            if idle == Idle::HeldUp {
                return Poll::Ready(Err(self.core.journal().held_up()));
            }
            if idle == Idle::Suspend {
                let mut journal = self.core.journal();
                return Poll::Ready(Ok(Waits { along: journal.along(), waits: journal.waits() }));
            }
            let core = self.core.clone();
            let looks = idle == Idle::Look;
            self.asking = Some(Box::pin(async move { if looks { core.look().await } else { core.ask().await } }));
        }
    }
}

#[cfg(test)]
mod tests {
    use stepfleet_shared::Partitions;
    use stepfleet_shared::codec::{self, Content};
    use stepfleet_shared::durability::Durability;
    use stepfleet_shared::names::Namespace;
    use stepfleet_shared::outage::Outages;
    use stepfleet_shared::request::StartRequest;
    use stepfleet_shared::step::{CallId, Claim, Claimed, Route};
    use stepfleet_shared::store::prelude::*;
    use stepfleet_shared::store::{Introduction, MemoryStore, Registration, Start, Store, WorkerStore};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::context::{self, Busy, Confirmed, Hold, Journal, Past, Reach};
    use crate::error::Outcome;

    async fn drive<T>(core: Arc<Core>, body: impl Future<Output = T>) -> Ended<T> {
        super::drive(core, &mut std::pin::pin!(body)).await
    }

    /// Of a step execution that the worker `w` holds.
    async fn core() -> Arc<Core> {
        core_on(&MemoryStore::new(Namespace::default())).await
    }

    async fn core_on(store: &MemoryStore) -> Arc<Core> {
        const HOUR: Duration = Duration::from_secs(3600);
        let serves = vec![Registration { workflow: "x".into(), version: 1, ..Registration::default() }];
        store.register(&Introduction { id: "w".into(), serves, ..Introduction::default() }, HOUR).await.unwrap();
        let routes = vec![Route { step: "s".into(), event: "E".into(), ..Route::default() }];
        let (request, run) = (StartRequest::new("x", "{}"), "r".to_owned());
        store.start(&Start { request, run, version: 1, routes, key_ttl: HOUR, ..Start::default() }).await.unwrap();
        let call = CallId { worker: "w".into(), number: 1, again: false };
        let claim = Claim { slots: vec![0], ..Claim::default() };
        let step = store.claim(&call, &claim).await.unwrap().unwrap().steps.remove(0);
        of(Arc::new(store.clone()), &step)
    }

    fn of(store: Arc<dyn Store>, step: &Claimed) -> Arc<Core> {
        let partitions = Partitions::<dyn WorkerStore>::from(store);
        let store: Arc<dyn WorkerStore> = partitions.first().clone();
        let (worker, hold, busy) = ("w".to_owned(), Hold::of(&step.fence), Busy::default());
        let reach = Reach {
            store,
            partitions,
            worker,
            run: step.fence.run.clone(),
            seq: step.fence.seq,
            hold,
            step: "s".into(),
            group: 0,
            content: Content::Json,
            busy,
            outages: Outages::default(),
            durability: Durability::default(),
            confirmed: Confirmed::default(),
        };
        Arc::new(Core::new(
            reach,
            Past::of(step),
            Vec::<(String, Vec<u8>)>::new(),
            CancellationToken::new(),
            Journal::of(step),
        ))
    }

    async fn signal(store: &MemoryStore, name: &str, value: u8) {
        let payload = codec::encode("the signal", &value).unwrap();
        store.signal("r", name, &payload, None).await.unwrap();
    }

    async fn waits_of<F: Future>(core: &Arc<Core>, body: F) -> Vec<String> {
        match drive(core.clone(), body).await {
            Ended::Waits(waits) => waits.waits.into_iter().map(|wait| wait.name).collect(),
            Ended::Returned(_) => panic!("it returned"),
            Ended::Refused(error) => panic!("{error}"),
            Ended::Conflict | Ended::Again(_) => panic!("nobody else is there"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_waits_ends_and_one_that_awaits_something_else_goes_on() {
        let core = core().await;
        let ctx = &context::Context::<()>::new(core.clone());
        assert_eq!(waits_of(&core, ctx.wait_for::<u8>("paid")).await, ["paid"]);
        let long = tokio::time::sleep(Duration::from_secs(3600));
        assert!(matches!(drive(core.clone(), long).await, Ended::Returned(())));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_is_waited_for_is_named_and_what_was_let_go_is_not() {
        let core = core().await;
        let ctx = &context::Context::<()>::new(core.clone());
        let body = async {
            tokio::select! {
                _ = ctx.wait_for::<u8>("raced") => unreachable!(),
                () = tokio::time::sleep(GRACE / 2) => {}
            }
            tokio::join!(ctx.wait_for::<u8>("left"), ctx.wait_for::<u8>("right"))
        };
        let Ended::Waits(waits) = drive(core.clone(), body).await else { panic!("it waits") };
        assert_eq!(
            waits.waits.iter().map(|wait| (wait.number, &*wait.name)).collect::<Vec<_>>(),
            [(2, "left"), (3, "right")]
        );
        assert!(waits.along.is_empty(), "what was let go of was told along with the others");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_woken_now_and_then_is_left_alone() {
        let core = core().await;
        let ctx = &context::Context::<()>::new(core.clone());
        let busy = async {
            for _ in 0..20 {
                tokio::time::sleep(GRACE / 2).await;
            }
        };
        let body = async {
            tokio::select! {
                _ = ctx.wait_for::<u8>("paid") => unreachable!(),
                () = busy => {}
            }
        };
        assert!(matches!(drive(core.clone(), body).await, Ended::Returned(())));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_are_under_way_are_not_cut_off() {
        // The store knows no such step execution: opening the wait gives the step up.
        let core = of(Arc::new(MemoryStore::new(Namespace::default())), &Claimed::default());
        let ctx = &context::Context::<()>::new(core.clone());
        let slow = ctx.step("slow", || async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            Err::<u8, _>(Error::msg("no"))
        });
        let body = async { tokio::join!(ctx.wait_for::<u8>("paid"), slow) };
        let driven = drive(core.clone(), body);
        let cancellation = ctx.cancelled();
        tokio::select! {
            () = cancellation.cancelled() => {}
            _ = driven => panic!("it was given up"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_given_at_once_whoever_polls_the_wait() {
        let store = MemoryStore::new(Namespace::default());
        let core = core_on(&store).await;
        for value in 1..=3 {
            signal(&store, "paid", value).await;
        }
        let ctx = &context::Context::<()>::new(core.clone());
        let began = tokio::time::Instant::now();
        let body = async {
            let first: u8 = ctx.wait_for("paid").await.unwrap();
            // It polls only who was woken.
            let mut others: futures_util::stream::FuturesUnordered<_> =
                (0..2).map(|_| ctx.wait_for::<u8>("paid")).collect();
            let mut sum = first;
            while let Some(other) = futures_util::StreamExt::next(&mut others).await {
                sum += other.unwrap();
            }
            let late = ctx.wait_for::<u8>("paid").timeout(Duration::ZERO).await.unwrap_err();
            (sum, late.is_overdue())
        };
        let driven = drive(core.clone(), body).await;
        assert!(matches!(driven, Ended::Returned((6, true))), "{driven:?}");
        assert_eq!(began.elapsed(), Duration::ZERO, "no moment was waited out");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_a_call_is_under_way_is_given_when_the_call_has_ended() {
        let store = MemoryStore::new(Namespace::default());
        let core = core_on(&store).await;
        let ctx = &context::Context::<()>::new(core.clone());
        let slow = ctx.step("slow", || async {
            tokio::time::sleep(GRACE * 2).await;
            assert!(core.reach.store.waits("r").await?.len() == 1, "the wait was opened beside it");
            signal(&store, "paid", 7).await;
            Ok(1u8)
        });
        let driven = drive(core.clone(), async { tokio::try_join!(slow, ctx.wait_for::<u8>("paid")).unwrap() }).await;
        assert!(matches!(driven, Ended::Returned((1, 7))), "{driven:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_reaches_a_body_whose_other_call_goes_on_or_is_polled_no_more() {
        for is_polled in [true, false] {
            let store = MemoryStore::new(Namespace::default());
            let core = core_on(&store).await;
            let ctx = &context::Context::<()>::new(core.clone());
            let endless = async || {
                tokio::time::sleep(GRACE).await;
                signal(&store, "stop", 7).await;
                std::future::pending::<Outcome<u8>>().await
            };
            let body = async {
                let mut endless = std::pin::pin!(ctx.step("endless", endless));
                let mut stop = std::pin::pin!(ctx.wait_for::<u8>("stop"));
                if !is_polled {
                    // Once, and then for long no more.
                    assert!(futures_util::poll!(&mut endless).is_pending());
                    tokio::time::sleep(GRACE * 2).await;
                    assert!(futures_util::poll!(&mut endless).is_pending());
                    return stop.await.unwrap();
                }
                tokio::select! {
                    _ = endless => unreachable!(),
                    stop = &mut stop => stop.unwrap(),
                }
            };
            let driven = tokio::time::timeout(Duration::from_secs(60), drive(core.clone(), body)).await;
            assert!(matches!(driven, Ok(Ended::Returned(7))), "{is_polled} {driven:?}");
        }
    }
}
