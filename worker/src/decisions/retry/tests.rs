use super::*;
use crate::error::Terminal;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn decide(policy: &RetryPolicy, failures: u32, elapsed: Duration) -> Decision {
    policy.decide(failures, elapsed, &Error::msg("no route"), Seed::new("r", 1, failures.saturating_add(1)))
}

/// The delays in ms of a policy that never gives up, without chance.
fn delays(policy: RetryPolicy) -> Vec<u64> {
    let policy = policy.jitter(0.0).for_ever();
    let delay = |failures| match decide(&policy, failures, Duration::ZERO) {
        Decision::Retry(delay) => u64::try_from(delay.as_millis()).unwrap(),
        Decision::GiveUp(why) => panic!("gave up: {why:?}"),
    };
    (0..5).map(delay).collect()
}

#[test]
fn each_kind_of_delay() {
    assert_eq!(delays(RetryPolicy::fixed(ms(30))), [30, 30, 30, 30, 30]);
    assert_eq!(delays(RetryPolicy::exponential(ms(100))), [100, 200, 400, 800, 1600]);
    assert_eq!(delays(RetryPolicy::exponential(ms(100)).factor(3.0).max_delay(ms(1000))), [100, 300, 900, 1000, 1000]);
    assert_eq!(delays(RetryPolicy::incrementing(ms(100), ms(50))), [100, 150, 200, 250, 300]);
    assert_eq!(delays(RetryPolicy::incrementing(ms(100), ms(50)).max_delay(ms(220))), [100, 150, 200, 220, 220]);
    let random = delays(RetryPolicy::random(ms(100), ms(900)));
    assert!(random.iter().all(|delay| (100..=900).contains(delay)), "{random:?}");
    assert!(random.windows(2).any(|two| two[0] != two[1]), "{random:?}");
}

#[test]
fn each_way_to_stop() {
    use Decision::{GiveUp, Retry};
    let fixed = || RetryPolicy::fixed(ms(100)).jitter(0.0);
    for (policy, failures, elapsed, decision) in [
        (fixed(), 2, 0, Retry(ms(100))),
        (fixed(), 3, 0, GiveUp(Reason::Attempts)),
        (fixed().attempts(2), 0, 999_999, Retry(ms(100))),
        (fixed().attempts(2), 1, 0, GiveUp(Reason::Attempts)),
        (fixed().within(ms(500)), 900, 400, Retry(ms(100))),
        (fixed().within(ms(500)), 0, 401, GiveUp(Reason::Elapsed)),
        (fixed().within(ms(500)).attempts(3), 1, 100, Retry(ms(100))),
        (fixed().within(ms(500)).attempts(3), 2, 100, GiveUp(Reason::Attempts)),
        (fixed().within(ms(500)).attempts(3), 1, 450, GiveUp(Reason::Elapsed)),
        (fixed().for_ever(), u32::MAX, 999_999_999, Retry(ms(100))),
        (RetryPolicy::never(), 0, 0, GiveUp(Reason::Attempts)),
        (fixed().attempts(0), 0, 0, GiveUp(Reason::Attempts)),
    ] {
        assert_eq!(decide(&policy, failures, ms(elapsed)), decision, "{policy:?} {failures} {elapsed}");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot fetch {0}")]
struct Fetch(&'static str, #[source] std::io::Error);

#[test]
fn each_kind_of_error() {
    let fetch = Error::from(Fetch("a.html", std::io::Error::other("connection refused")));
    let io = Error::from(std::io::Error::other("disk full"));
    let said = Error::msg("rate limited");
    let refused = || RetryOn::cause("refused");
    for (on, matches) in [
        (RetryOn::Any, [true, true, true]),
        (RetryOn::of::<Fetch>(), [true, false, false]),
        (RetryOn::of::<std::io::Error>(), [false, true, false]),
        (RetryOn::message("limited"), [false, false, true]),
        (RetryOn::message("refused"), [true, false, false]),
        (refused(), [true, false, false]),
        (RetryOn::cause("fetch"), [false, false, false]),
        (refused().or(RetryOn::message("full")), [true, true, false]),
        (refused().or(RetryOn::message("full")).or(RetryOn::message("rate")), [true, true, true]),
        (refused().and(RetryOn::of::<Fetch>()), [true, false, false]),
        (refused().and(RetryOn::of::<Fetch>()).and(RetryOn::message("b.html")), [false, false, false]),
        (RetryOn::of::<Fetch>().not(), [false, true, true]),
        (RetryOn::AnyOf(vec![]), [false, false, false]),
        (RetryOn::AllOf(vec![]), [true, true, true]),
    ] {
        let found = [&fetch, &io, &said].map(|error| on.matches(error));
        assert_eq!(found, matches, "{on:?}");
        let policy = RetryPolicy::default().on(on);
        let decided = policy.decide(0, Duration::ZERO, &said, Seed::new("r", 1, 1));
        assert_eq!(matches!(decided, Decision::Retry(_)), matches[2], "{policy:?}");
    }
}

#[test]
fn a_terminal_error_is_never_tried_again() {
    let policy = RetryPolicy::default().for_ever();
    let decided = policy.decide(0, Duration::ZERO, &Error::from(Terminal("no such customer")), Seed::new("r", 1, 1));
    assert_eq!(decided, Decision::GiveUp(Reason::Terminal));
}

#[test]
fn chance_only_shortens_and_is_the_same_for_the_same_attempt() {
    let policy = RetryPolicy::fixed(ms(1000)).jitter(0.5).for_ever();
    let delay = |run: &str, seq, attempt| match policy.decide(
        0,
        Duration::ZERO,
        &Error::msg("e"),
        Seed::new(run, seq, attempt),
    ) {
        Decision::Retry(delay) => delay,
        Decision::GiveUp(why) => panic!("{why:?}"),
    };
    let first = delay("run-7", 3, 2);
    assert_eq!(first, delay("run-7", 3, 2));
    let others = [delay("run-8", 3, 2), delay("run-7", 4, 2), delay("run-7", 3, 1)];
    assert!(!others.contains(&first), "{first:?} {others:?}");
    let all: Vec<_> = (0..1000).map(|seq| delay("r", seq, 1)).collect();
    assert!(all.iter().all(|delay| (ms(500)..=ms(1000)).contains(delay)));
    // Spread over the whole of it.
    let in_quarter = |n: u64| all.iter().filter(|d| (ms(500 + 125 * n)..ms(625 + 125 * n)).contains(d)).count();
    assert!((0..4).all(|n| in_quarter(n) > 150), "{:?}", (0..4).map(in_quarter).collect::<Vec<_>>());
}

#[test]
fn the_seed_of_an_attempt_is_the_same_in_all_builds() {
    let chance = Seed::new("run-7", 3, 2).chance(1);
    assert!((chance - CHANCE).abs() < 1e-12, "{chance}");
}
const CHANCE: f64 = 0.133_703_704_172_478_34;

#[test]
fn absurd_policies_neither_panic_nor_overflow() {
    let day = Duration::from_secs(24 * 3600);
    for policy in [
        RetryPolicy::exponential(day).factor(1e300).max_delay(Duration::MAX),
        RetryPolicy::exponential(day).factor(f64::NAN),
        RetryPolicy::exponential(day).factor(-2.0),
        RetryPolicy::incrementing(Duration::MAX, Duration::MAX),
        RetryPolicy::random(Duration::MAX, Duration::ZERO),
        RetryPolicy::fixed(Duration::MAX).jitter(f64::NAN),
    ] {
        let decided = decide(&policy.clone().for_ever(), u32::MAX - 1, Duration::MAX);
        assert!(matches!(decided, Decision::Retry(delay) if delay <= LONGEST), "{policy:?}: {decided:?}");
        assert!(matches!(decide(&policy.within(day), 0, Duration::MAX), Decision::GiveUp(_)));
    }
}

#[test]
fn a_policy_is_data() {
    let policy = RetryPolicy::random(ms(100), ms(200))
        .attempts(7)
        .within(ms(5000))
        .on(RetryOn::of::<Fetch>().or(RetryOn::cause("refused").not()));
    let json = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<RetryPolicy>(&json).unwrap(), policy, "{json}");
    let least: RetryPolicy = serde_json::from_str(r#"{"delay":{"fixed":{"secs":1,"nanos":0}}}"#).unwrap();
    assert_eq!(least, RetryPolicy::fixed(ms(1000)).jitter(0.0));
}
