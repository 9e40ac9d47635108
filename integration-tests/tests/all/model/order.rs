//! Brings answers into an order that both stores share.

use std::time::Duration;

use stepfleet_shared::step::{Claimed, CommitStatus, Taken};

use super::waiting::without_dues;

/// Contexts are sets of fields, in no order.
fn sorted(mut claims: Vec<Claimed>) -> Vec<Claimed> {
    for claim in &mut claims {
        claim.context.sort();
        // A time, which may differ.
        claim.elapsed = Duration::ZERO;
        claim.journal.sort();
        without_dues(&mut claim.journal);
    }
    claims
}

/// The items of a repeated claim: only the first reply can be limited to what is new for a body that the worker keeps.
pub(crate) fn as_at_first(first: &[Claimed], again: Vec<Claimed>) -> Vec<Claimed> {
    let kept = |step: &Claimed| first.iter().find(|other| other.kept && other.fence == step.fence).cloned();
    again.into_iter().map(|step| kept(&step).unwrap_or(step)).collect()
}

pub(crate) async fn ordered(
    taken: impl Future<Output = stepfleet_shared::Result<Option<Taken>>>,
) -> stepfleet_shared::Result<Option<(Vec<Claimed>, Vec<String>)>> {
    taken.await.map(|taken| taken.map(|taken| (sorted(taken.steps), taken.vacated)))
}

pub(crate) async fn ordered_outcome(
    answer: impl Future<Output = stepfleet_shared::Result<(CommitStatus, Vec<Claimed>)>>,
) -> stepfleet_shared::Result<(CommitStatus, Vec<Claimed>)> {
    answer.await.map(|(outcome, claims)| (outcome, sorted(claims)))
}
