//! What every process counts: itself, and its troubles with Redis.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Registry, catalogue};
use crate::error::Error;
use crate::outage::Outages;

pub(super) fn count(registry: &Registry, outages: &Outages) {
    registry.gauges(&catalogue::BUILD).set(&[env!("CARGO_PKG_VERSION"), registry.process().name()], 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    registry.gauges(&catalogue::STARTED).set_time(&[], now);
    let errors = registry.counts(&catalogue::REDIS_ERRORS);
    let (state, lasts) = (registry.gauges(&catalogue::REDIS_OUTAGE), registry.gauges(&catalogue::REDIS_OUTAGE_TIME));
    let kinds = Error::KINDS.map(|kind| (kind, errors.of(&[kind])));
    let outages = outages.clone();
    registry.look(move || {
        let under_way = outages.under_way();
        for (kind, count) in &kinds {
            count.raise_to(outages.errors_of(kind));
            state.set(&[kind], u64::from(under_way.iter().any(|outage| outage.error.kind() == *kind)));
        }
        let since = under_way.first().map(|outage| outage.since.elapsed().unwrap_or_default());
        lasts.set_time(&[], since.unwrap_or(Duration::ZERO));
    });
}
