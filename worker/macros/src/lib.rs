//! The macros of `stepfleet`. Use them through that crate: its prelude has them all.

mod durable;
mod emit;
mod escape;
mod event;
mod fields;
mod options;
mod signature;
mod step;
mod workflow;
mod written;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct or an enum an event, with all that it needs: it derives `Event`, and serde's `Serialize` and `Deserialize`.
///
/// An event is written to Redis and read by another worker, so it owns its data: it has neither references nor type parameters.
/// The fields' own types need `Serialize` and `Deserialize` too: see [`macro@data`].
///
/// serde is the one that `stepfleet` hands on, so no dependency on it is needed. Attributes such as `#[serde(default)]` work as usual,
/// and what the type derives already is left alone. Put `#[event]` first, before `#[derive(...)]`.
///
/// # Options
///
/// - `#[event(name = "...")]`: the name that it is routed by, 1 to 128 letters, digits, `_`, `-` or `.`. Default: the
///   type's name. Two types of one name are one event, so the name lets a type be renamed while runs are under way.
///
/// # Example
///
/// ```ignore
/// use stepfleet::prelude::*;
///
/// #[event]
/// #[derive(Clone, Debug)]
/// struct Fetched {
///     address: String,
///     #[serde(default)]
///     body: String,
/// }
/// ```
#[proc_macro_attribute]
pub fn event(options: TokenStream, item: TokenStream) -> TokenStream {
    written::expand(written::Kind::Event, &options.into(), &item.into()).into()
}

/// Derives `Serialize` and `Deserialize` for a struct or an enum that is written down and is no event: the input and the result of a
/// durable function, the run's state, the result of `ctx.step`, the parts of an event.
///
/// serde is the one that `stepfleet` hands on, so no dependency on it is needed. It is the same as deriving both from a dependency on
/// serde. Attributes such as `#[serde(default)]` work as usual, and what the type derives already is left alone. Put `#[data]` first,
/// before `#[derive(...)]`.
///
/// # Example
///
/// ```ignore
/// use stepfleet::prelude::*;
///
/// #[data]
/// struct Order {
///     address: String,
///     items: Vec<Item>,
/// }
///
/// #[data]
/// #[derive(Clone, PartialEq)]
/// struct Item {
///     name: String,
/// }
/// ```
#[proc_macro_attribute]
pub fn data(options: TokenStream, item: TokenStream) -> TokenStream {
    written::expand(written::Kind::Data, &options.into(), &item.into()).into()
}

/// Makes a struct or an enum an event that has `Serialize` and `Deserialize` already, or derives them beside it. The attribute
/// [`macro@event`] derives all three.
///
/// # Options
///
/// - `#[event(name = "...")]`: the name that it is routed by, 1 to 128 letters, digits, `_`, `-` or `.`. Default: the
///   type's name. Two types of one name are one event, so the name lets a type be renamed while runs are under way.
///
/// # Example
///
/// ```ignore
/// use stepfleet::prelude::*;
///
/// #[derive(Event, Serialize, Deserialize)]
/// #[event(name = "page.fetched")]
/// struct Fetched {
///     address: String,
///     body: String,
/// }
/// ```
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::expand(&input).into()
}

/// Lets a step return one of several events, as an enum.
///
/// Each variant has one field without a name: an event, `Option` or `Vec` of one, or another enum with
/// `#[derive(Emit)]`. A variant without fields emits nothing. The enum itself is no event: it is never stored.
///
/// # Example
///
/// ```ignore
/// use stepfleet::prelude::*;
///
/// #[event]
/// struct Asked { question: String }
/// #[event]
/// struct Answered { text: String }
///
/// #[derive(Emit)]
/// enum Verdict {
///     Again(Asked),
///     Done(Answered),
///     Dropped,
/// }
/// ```
#[proc_macro_derive(Emit)]
pub fn derive_emit(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    emit::expand(&input).into()
}

/// Makes a type a workflow: put it on an `impl` block whose `#[step]` methods are the steps.
///
/// The type's fields are the resources that steps use (clients, pools, settings): all attempts of a worker share them,
/// so the type must be `Send` and `Sync`. Methods without `#[step]` are left alone.
///
/// # Options
///
/// - `start = Type`, required: the event that a run begins with.
/// - `stop = Type`, required: the event that ends a run, and is its result.
/// - `external = [Type, ...]`: events that come from outside while a run is under way. Each needs a step that takes
///   it. Default: none.
/// - `name = "..."`: 1 to 128 letters, digits, `_`, `-` or `.`. Default: the type's name in snake case
///   (`SearchPages` is `search_pages`).
/// - `version = 1`: a whole number. Default: 1. A run stays with the version that it began with.
/// - `retention = "7d"`: how long a run stays readable after its end. Default: 7 days.
/// - `timeout = "10m"`: how long a run may take, from its first step on; it then fails, and says which steps were
///   active. Default: no limit.
/// - `durability = "fsync"`: how safe the progress of a run must be before it goes on: `"none"`, `"fsync"` (on disk, with Redis 7.2 or
///   Valkey) or `"replicas:1"` to `"replicas:16"`. A request may ask for another. Default: `"none"`.
/// - `retry = RetryPolicy::...`: the retry policy of the steps that say nothing of retries, as an expression of type
///   `RetryPolicy`. Default: three retries after about 1, 2 and 4 seconds.
///
/// Durations have units: `ms`, `s`, `m` (minutes), `h`, `d`, `w`, also added up: `"1h 30m"`.
///
/// # Example
///
/// ```ignore
/// use stepfleet::prelude::*;
///
/// #[event]
/// struct Asked { text: String }
/// #[event]
/// struct Answered { letters: usize }
///
/// struct Letters;
///
/// #[workflow(start = Asked, stop = Answered, version = 2, retention = "30d")]
/// impl Letters {
///     #[step]
///     async fn count(&self, ev: Asked) -> Outcome<Answered> {
///         Ok(Answered { letters: ev.text.chars().count() })
///     }
/// }
/// ```
#[proc_macro_attribute]
pub fn workflow(options: TokenStream, item: TokenStream) -> TokenStream {
    workflow::expand(options.into(), &item.into()).into()
}

/// Makes a method of a `#[workflow]` block a step.
///
/// ```text
/// async fn name(&self, ev: Event) -> Outcome<Returned>
/// async fn name(&self, ctx: &Context<State>, ev: Event) -> Outcome<Returned>
/// ```
///
/// The event is taken by value, and is an event or `Joined<Event>`. `Returned` is an event, `Option` or `Vec` of one,
/// `()`, or an enum with `#[derive(Emit)]`. The step's future must be `Send`: no `Rc`, `RefCell` borrow or lock guard of
/// `std` may be held across an `.await`.
///
/// # Options
///
/// - `name = "..."`: 1 to 128 letters, digits, `_`, `-` or `.`. Default: the method's name.
/// - `sends = [Type, ...]`: the events that the body sends by `ctx.send` and `ctx.send_to`, beside what it returns.
///   Default: none.
/// - `concurrency = 8`: how many of its executions may be under way in one run at once, on whatever workers; with 1 they
///   keep the order in which their events came. Default: no limit.
/// - `retries = 3`: attempts after the first; 0 for none. Default: 3.
/// - `backoff = "1s"`: the delay before the first retry. Default: 1 second.
/// - `factor = 2.0`: what each further delay is multiplied by; at least 1, which makes all delays equal. Default: 2.
/// - `max_backoff = "1m"`: the longest delay. Default: 1 minute.
/// - `retry = RetryPolicy::...`: the whole retry policy, as an expression of type `RetryPolicy`, in place of the four
///   above. Default: that of the workflow.
/// - `catches = ["fetch", "parse"]`, for a step that takes `StepFailed`: the steps whose failures it deals with. The
///   step of another `catches` that names a step goes before one that catches "all". Default: "all".
/// - `recoveries = 3`, for a step that takes `StepFailed`: how often it may catch a failure on the way to one event;
///   after that the run fails. Default: 1.
/// - `timeout = "30s"`: how long one attempt may take; it then counts as failed. Default: no limit.
///
/// Durations have units: `ms`, `s`, `m` (minutes), `h`, `d`, `w`, also added up: `"1h 30m"`.
///
/// # Example
///
/// ```ignore
/// #[workflow(start = Asked, stop = Answered)]
/// impl Search {
///     #[step(retries = 5, backoff = "500ms", timeout = "30s")]
///     async fn look(&self, ctx: &Context<Memory>, ev: Asked) -> Outcome<Vec<Page>> {
///         ctx.state().edit(|memory| memory.asked += 1).await?;
///         Ok(self.index.find(&ev.question).await?)
///     }
/// }
/// ```
#[proc_macro_attribute]
pub fn step(options: TokenStream, item: TokenStream) -> TokenStream {
    step::standalone(&options.into(), &item.into()).into()
}

/// Makes an async function a workflow: it may be killed at any place, and continues there on another worker.
///
/// ```text
/// async fn name(ctx: &Context<State>, input: Input) -> Outcome<Output>
/// async fn name(ctx: &Context<State>, resource: &Resource, input: Input) -> Outcome<Output>
/// ```
///
/// Once recorded, the result of `ctx.step` is reused; everything else in the body may run again. Input and output need
/// `Serialize` and `Deserialize`. The resource (clients, pools, settings) is `Send` and `Sync`: all runs of a worker share it.
///
/// The function stays as it is. The macro adds a type of the same name, which a worker serves:
/// `worker.serve(name::workflow())`, or `worker.serve(name::with(resource))` for one that takes a resource.
///
/// # Options
///
/// - `name = "..."`: the workflow's name, 1 to 128 letters, digits, `_`, `-` or `.`. Default: the function's.
/// - `version = 1`: a whole number. Default: 1. A run stays with the version that it began with.
/// - `timeout = "10m"`: how long a run may take; it then fails. Default: no limit.
/// - `durability = "fsync"`: how safe the progress of a run must be before it goes on: `"none"`, `"fsync"` (on disk, with Redis 7.2 or
///   Valkey) or `"replicas:1"` to `"replicas:16"`. A request may ask for another. Default: `"none"`.
/// - `retention = "7d"`: how long a run stays readable after its end. Default: 7 days.
/// - `retries = 3`: how often the body begins again after an error for which no call has its own retries. Default: 3, after
///   about 1, 2 and 4 seconds.
/// - `retry = RetryPolicy::...`: the whole policy, in place of `retries`.
///
/// Durations have units: `ms`, `s`, `m` (minutes), `h`, `d`, `w`, also added up: `"1h 30m"`.
///
/// # Example
///
/// ```ignore
/// use stepfleet::prelude::*;
///
/// #[durable(version = 2, timeout = "1h")]
/// async fn fulfil(ctx: &Context, shop: &Shop, order: Order) -> Outcome<Receipt> {
///     ctx.step("reserve", || shop.reserve(&order)).retries(5).await?;
///     let receipt = ctx.step("charge", || shop.charge(&order)).retries(5).await?;
///     Ok(receipt)
/// }
/// ```
#[proc_macro_attribute]
pub fn durable(options: TokenStream, item: TokenStream) -> TokenStream {
    durable::expand(durable::Kind::Durable, options.into(), &item.into()).into()
}

/// Makes an async function a task: a piece of work with its own policy, that a body hands to whichever worker of the fleet serves it,
/// with `ctx.task::<name>(&input)`.
///
/// A task is a durable function in all else: it has the same shape, the same options as [`macro@durable`], and is served in the same way,
/// `worker.serve(name::workflow())` or `worker.serve(name::with(resource))`, by workers that need not serve the function that calls it.
/// A long task reports its progress with `ctx.heartbeat(&progress)`; its next attempt finds that with `ctx.progress()`.
///
/// # Example
///
/// ```ignore
/// #[task(retries = 5, timeout = "10m")]
/// async fn print_label(ctx: &Context, printer: &Printer, address: String) -> Outcome<Label> {
///     printer.print(&address).await
/// }
///
/// // In the body of a durable function, or of a step:
/// let label = ctx.task::<print_label>(&order.address).await?;
/// ```
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    durable::expand(durable::Kind::Task, options.into(), &item.into()).into()
}
