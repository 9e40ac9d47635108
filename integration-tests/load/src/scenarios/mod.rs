//! The scenarios, in their order.

mod chain;
mod context;
mod fan;
mod faults;
mod fleets;
mod jobs;
mod latency;
mod memory;
mod partitions;
mod timers;

use futures_util::future::BoxFuture;

use crate::Fallible;
use crate::bench::Effort;
use crate::row::Row;

type Measure = fn(Effort) -> BoxFuture<'static, Fallible<Vec<Row>>>;

/// Something to measure; it gives one row or several.
pub(crate) struct Scenario {
    /// What `--only` takes.
    pub(crate) name: &'static str,
    /// The names of its rows.
    pub(crate) rows: &'static [&'static str],
    pub(crate) measure: Measure,
}

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    Scenario { name: "chain-off", rows: &["chain-off", "fcalls-per-step"], measure: |e| Box::pin(chain::off(e)) },
    Scenario { name: "chain-everysec", rows: &["chain-everysec"], measure: |e| Box::pin(chain::everysec(e)) },
    Scenario { name: "chain-always", rows: &["chain-always"], measure: |e| Box::pin(chain::always(e)) },
    Scenario { name: "recorded-steps", rows: &["recorded-steps"], measure: |e| Box::pin(chain::recorded(e)) },
    Scenario { name: "recorded-flat", rows: &["recorded-flat"], measure: |e| Box::pin(chain::flat(e)) },
    Scenario {
        name: "recorded-flat-streaming",
        rows: &["recorded-flat-streaming"],
        measure: |e| Box::pin(chain::flat_streaming(e)),
    },
    Scenario { name: "hand-off", rows: &["hand-off-p50", "hand-off-p99"], measure: |e| Box::pin(latency::hand_off(e)) },
    Scenario { name: "fan-out", rows: &["fan-out-1000"], measure: |e| Box::pin(fan::out(e)) },
    Scenario { name: "branch-cost", rows: &["branch-cost"], measure: |e| Box::pin(fan::branch_cost(e)) },
    Scenario { name: "edit-field", rows: &["edit-field"], measure: |e| Box::pin(fan::edit_field(e)) },
    Scenario { name: "jobs", rows: &["jobs"], measure: |e| Box::pin(jobs::jobs(e)) },
    Scenario { name: "intake", rows: &["intake", "memory-queued"], measure: |e| Box::pin(jobs::intake(e)) },
    Scenario { name: "memory-finished", rows: &["memory-finished"], measure: |e| Box::pin(memory::finished(e)) },
    Scenario { name: "event-64k", rows: &["event-64k"], measure: |e| Box::pin(context::large_event(e)) },
    Scenario { name: "context-64k", rows: &["context-64k"], measure: |e| Box::pin(context::large_context(e)) },
    Scenario { name: "fifty-workflows", rows: &["fifty-workflows"], measure: |e| Box::pin(fleets::fifty(e)) },
    Scenario {
        name: "idle-workers",
        rows: &["idle-workers-jobs", "idle-fleet-commands"],
        measure: |e| Box::pin(fleets::idle_workers(e)),
    },
    Scenario {
        name: "idle-coordinator",
        rows: &["idle-coordinator"],
        measure: |e| Box::pin(fleets::idle_coordinator(e)),
    },
    Scenario {
        name: "partitions",
        rows: &["partitions-redis", "partitions-worker"],
        measure: |e| Box::pin(partitions::flat(e)),
    },
    Scenario { name: "timers", rows: &["timer-lateness", "timer-drain"], measure: |e| Box::pin(timers::timers(e)) },
    Scenario { name: "kill-9", rows: &["kill-9-median", "kill-9-p99"], measure: |e| Box::pin(faults::killed(e)) },
    Scenario { name: "frozen", rows: &["frozen"], measure: |e| Box::pin(faults::frozen(e)) },
];

/// Those with these names, of a scenario or of one of its rows; all if there are none.
pub(crate) fn named(only: &[String]) -> Fallible<Vec<&'static Scenario>> {
    if only.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let has = |scenario: &Scenario, name: &str| scenario.name == name || scenario.rows.contains(&name);
    if let Some(unknown) = only.iter().find(|&name| !ALL.iter().any(|s| has(s, name))) {
        let names: Vec<_> = ALL.iter().map(|s| s.name).collect();
        return Err(format!("there is no scenario {unknown:?}; there are {}", names.join(", ")).into());
    }
    Ok(ALL.iter().filter(|s| only.iter().any(|name| has(s, name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_found_by_its_name_and_by_its_rows() {
        let found = named(&["fcalls-per-step".into(), "jobs".into()]).unwrap();
        assert_eq!(found.iter().map(|s| s.name).collect::<Vec<_>>(), ["chain-off", "jobs"]);
        assert_eq!(named(&[]).unwrap().len(), ALL.len());
        assert!(named(&["chian".into()]).err().unwrap().to_string().contains("chain-off"));
    }

    #[test]
    fn no_row_has_two_scenarios() {
        let mut rows: Vec<_> = ALL.iter().flat_map(|s| s.rows).collect();
        let count = rows.len();
        rows.sort();
        rows.dedup();
        assert_eq!(rows.len(), count);
    }
}
