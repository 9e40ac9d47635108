//! What a process of a fleet counts and measures, and its text form for Prometheus.
//!
//! All metrics of a process are in one [`Registry`], which is handed to everything that counts. There is no global one: an author's
//! code may have whatever recorder it likes beside it. The `prometheus-client` crate keeps the numbers and writes the text, since it
//! needs neither a global recorder nor a listener; its types stay in this module.
//!
//! [`catalogue`] has every metric.

pub mod catalogue;
mod process;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as RawGauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::runtime::Handle;
use tokio::time::Instant;

pub use self::catalogue::{Kind, Metric, Process};
use crate::outage::Outages;

/// How long what is read from Redis for a scrape may take. Shorter than the second that a scraper waits at the least.
const PATIENCE: Duration = Duration::from_millis(800);
/// Several may scrape, so recent values are not read again.
const FRESH: Duration = Duration::from_secs(1);

/// Upper bounds of the buckets, in seconds: from a hand-off to a step that takes half an hour.
const BUCKETS: [f64; 13] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 1800.0];

type Labels = Vec<(&'static str, String)>;
type Float = RawGauge<f64, AtomicU64>;
type Look = Box<dyn Fn() + Send + Sync>;
type Read = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The metrics of one process. Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    process: Process,
    known: Mutex<prometheus_client::registry::Registry>,
    looks: Mutex<Vec<Look>>,
    reads: Mutex<Vec<Arc<Read>>>,
    /// When these were made last. Held while somebody scrapes.
    read_at: tokio::sync::Mutex<Option<Instant>>,
}

impl Registry {
    /// The metrics of a process of this kind: those that both have are in it already.
    pub fn new(process: Process, outages: &Outages) -> Self {
        let registry = Self(Arc::new(Inner {
            process,
            known: Mutex::default(),
            looks: Mutex::default(),
            reads: Mutex::default(),
            read_at: tokio::sync::Mutex::default(),
        }));
        process::count(&registry, outages);
        registry
    }

    /// The process whose metrics they are.
    pub fn process(&self) -> Process {
        self.0.process
    }

    /// A metric that only grows.
    pub fn counts(&self, metric: &'static Metric) -> Counts {
        let family = Family::<Labels, Counter>::default();
        // The text has the ending that all counters have.
        self.known().register(metric.name.trim_end_matches("_total"), metric.help, family.clone());
        Counts { family, labels: metric.labels }
    }

    /// A metric that rises and falls.
    pub fn gauges(&self, metric: &'static Metric) -> Gauges {
        let family = Family::<Labels, Float>::default();
        self.known().register(metric.name, metric.help, family.clone());
        Gauges { family, labels: metric.labels }
    }

    /// A metric of durations.
    pub fn times(&self, metric: &'static Metric) -> Times {
        let family = Family::new_with_constructor(histogram as fn() -> Histogram);
        self.known().register(metric.name, metric.help, family.clone());
        Times { family, labels: metric.labels }
    }

    /// Calls this before each scrape. It must not block.
    pub fn look(&self, look: impl Fn() + Send + Sync + 'static) {
        lock(&self.0.looks).push(Box::new(look));
    }

    /// Awaits this before each scrape, on the process's runtime; it is dropped if it takes longer than 800 ms. It is not made again
    /// within a second.
    pub fn read(&self, read: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        lock(&self.0.reads).push(Arc::new(Box::new(read)));
    }

    /// All metrics as they are now, in Prometheus' text format.
    pub async fn scrape(&self, runtime: &Handle) -> String {
        // One at a time: what is read replaces what was there.
        let mut read_at = self.0.read_at.lock().await;
        if read_at.is_none_or(|at| at.elapsed() > FRESH) {
            let reads = lock(&self.0.reads).clone();
            join_all(reads.into_iter().map(|read| wait_for(read, runtime))).await;
            *read_at = Some(Instant::now());
        }
        for look in lock(&self.0.looks).iter() {
            look();
        }
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = prometheus_text::encode(&mut text, &self.known());
        text
    }

    fn known(&self) -> MutexGuard<'_, prometheus_client::registry::Registry> {
        lock(&self.0.known)
    }
}

async fn wait_for(read: Arc<Read>, runtime: &Handle) {
    let mut reading = runtime.spawn(async move { read().await });
    if tokio::time::timeout(PATIENCE, &mut reading).await.is_err() {
        reading.abort();
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("process", &self.0.process).finish_non_exhaustive()
    }
}

fn labels(names: &'static [&'static str], values: &[&str]) -> Labels {
    debug_assert_eq!(names.len(), values.len(), "a value for each label");
    names.iter().copied().zip(values.iter().map(|value| (*value).to_owned())).collect()
}

/// Counters of one name.
#[derive(Clone, Debug)]
pub struct Counts {
    family: Family<Labels, Counter>,
    labels: &'static [&'static str],
}

impl Counts {
    /// That with these label values, in the order of the catalogue. It shows as 0 from now on: resolve it once, and keep it.
    pub fn of(&self, values: &[&str]) -> Count {
        Count(self.family.get_or_create_owned(&labels(self.labels, values)))
    }
}

/// One counter.
#[derive(Clone, Debug)]
pub struct Count(Counter);

impl Count {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.inc_by(count);
    }

    /// Raises it to a total that somebody else has counted.
    pub(crate) fn raise_to(&self, total: u64) {
        self.0.inc_by(total.saturating_sub(self.0.get()));
    }
}

/// Gauges of one name.
#[derive(Clone, Debug)]
pub struct Gauges {
    family: Family<Labels, Float>,
    labels: &'static [&'static str],
}

impl Gauges {
    /// Sets that with these label values.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub fn set(&self, values: &[&str], value: u64) {
        self.set_exactly(values, value as f64);
    }

    /// As [`Gauges::set`], in seconds.
    pub fn set_time(&self, values: &[&str], time: Duration) {
        self.set_exactly(values, time.as_secs_f64());
    }

    fn set_exactly(&self, values: &[&str], value: f64) {
        self.family.get_or_create(&labels(self.labels, values)).set(value);
    }

    /// Takes all of them away: what they say is not known now.
    pub fn clear(&self) {
        self.family.clear();
    }
}

/// Durations of one name.
#[derive(Clone, Debug)]
pub struct Times {
    family: Family<Labels, Histogram, fn() -> Histogram>,
    labels: &'static [&'static str],
}

impl Times {
    /// Those with these label values: resolve them once, and keep them.
    pub fn of(&self, values: &[&str]) -> Timer {
        Timer(self.family.get_or_create_owned(&labels(self.labels, values)))
    }
}

/// Durations of one kind.
#[derive(Clone, Debug)]
pub struct Timer(Histogram);

impl Timer {
    /// Adds one.
    pub fn observe(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Error;

    async fn scraped(registry: &Registry) -> String {
        registry.scrape(&Handle::current()).await
    }

    #[tokio::test]
    async fn the_text_has_names_labels_and_values() {
        let registry = Registry::new(Process::Worker, &Outages::default());
        registry.counts(&catalogue::ATTEMPTS).of(&["rag", "lo\"ok", "committed"]).add(3);
        registry.gauges(&catalogue::SLOTS).set(&[], 8);
        registry.times(&catalogue::STEP_DURATION).of(&["rag", "look"]).observe(Duration::from_millis(70));
        let text = scraped(&registry).await;
        for line in [
            "# TYPE stepfleet_attempts_total counter",
            r#"stepfleet_attempts_total{workflow="rag",step="lo\"ok",outcome="committed"} 3"#,
            "stepfleet_slots 8",
            r#"stepfleet_step_duration_seconds_bucket{workflow="rag",step="look",le="0.025"} 0"#,
            r#"stepfleet_step_duration_seconds_bucket{workflow="rag",step="look",le="0.1"} 1"#,
            r#"stepfleet_step_duration_seconds_sum{workflow="rag",step="look"} 0.07"#,
        ] {
            assert!(text.lines().any(|have| have.trim_end_matches(".0") == line), "{line} is not in\n{text}");
        }
    }

    #[tokio::test]
    async fn errors_of_redis_are_counted_and_an_outage_is_shown_while_it_lasts() {
        let outages = Outages::default();
        let registry = Registry::new(Process::Coordinator, &outages);
        let mut watch = outages.watch("test", crate::backoff::TRANSITION);
        watch.failed(&Error::unavailable("away"));
        watch.failed(&Error::unavailable("away"));
        let text = scraped(&registry).await;
        assert!(text.contains("stepfleet_redis_errors_total{kind=\"unreachable\"} 2"), "{text}");
        assert!(text.contains("stepfleet_redis_outage{kind=\"unreachable\"} 1"), "{text}");
        watch.fine();
        let text = scraped(&registry).await;
        assert!(text.contains("stepfleet_redis_errors_total{kind=\"unreachable\"} 2"), "{text}");
        assert!(text.contains("stepfleet_redis_outage{kind=\"unreachable\"} 0"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_hangs_does_not_hold_a_scrape_up_and_none_is_made_twice_at_once() {
        let registry = Registry::new(Process::Coordinator, &Outages::default());
        let reads = Arc::new(AtomicUsize::new(0));
        let counted = reads.clone();
        registry.read(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Box::pin(std::future::pending())
        });
        let scraping = tokio::spawn({
            let registry = registry.clone();
            async move { scraped(&registry).await }
        });
        tokio::task::yield_now().await;
        // One that is added meanwhile is called at the next scrape.
        let late = reads.clone();
        registry.read(move || {
            late.fetch_add(10, Ordering::SeqCst);
            Box::pin(std::future::ready(()))
        });
        assert!(scraping.await.unwrap().contains("stepfleet_build_info"));
        scraped(&registry).await;
        assert_eq!(reads.load(Ordering::SeqCst), 1);
        tokio::time::advance(FRESH * 2).await;
        scraped(&registry).await;
        assert_eq!(reads.load(Ordering::SeqCst), 12);
    }

    #[test]
    fn names_follow_the_conventions() {
        for metric in catalogue::ALL {
            let Metric { name, kind, help, .. } = metric;
            assert!(name.starts_with("stepfleet_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Count, "{name}");
            assert!(*kind != Kind::Times || name.ends_with("_seconds"), "{name}");
            assert!(!help.ends_with('.') && !help.is_empty(), "{name}");
        }
    }
}
