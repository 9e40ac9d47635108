//! `stepfleet doctor --runs`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{Audit, Breach, RedisStore};

use super::Fleet;
use super::doctor::text;
use super::error::{CliError, CliResult};
use super::output;
use crate::config::Config;

/// More breaches than this are counted, not listed.
const LISTED: usize = 1000;
const PROGRESS: Duration = Duration::from_millis(500);

pub(super) async fn run(fleet: &Fleet, repair: bool) -> CliResult {
    let partitions = fleet.partitions().await?;
    let Config { max_losses, retention, .. } = Config::default();
    let (mut found, mut count, mut examined, mut ever) = (Vec::new(), 0, 0, 0);
    let mut told = std::time::Instant::now();
    for store in partitions.on_redis() {
        let mut from = Some(0);
        while let Some(at) = from {
            let audited = store.audit(&Audit { repair, from: at, max_losses, retention }).await?;
            count += audited.breaches.len();
            found.extend(audited.breaches);
            found.truncate(LISTED);
            examined += audited.examined;
            from = audited.next;
            if !fleet.json && told.elapsed() > PROGRESS {
                told = std::time::Instant::now();
                eprintln!("{examined} keys examined, {count} breaches so far");
            }
        }
        ever += repaired_ever(store).await?;
    }
    if fleet.json {
        let (count, repaired) = (count as u64, repair);
        output::json(&json!({
            "examined": examined, "count": count, "breaches": found, "repaired": repaired, "repaired_ever": ever
        }))?;
    } else {
        print(&found, count, examined, repair);
        output::line(&format!("{ever} repairs by audits since the namespace was created"));
    }
    Ok(if count == 0 || repair { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn repaired_ever(store: &RedisStore) -> Result<u64, CliError> {
    let mut get = redis::cmd("HGET");
    get.arg(store.namespace().key("counters")).arg("repaired");
    Ok(text(store.command(&get).await?).parse().unwrap_or(0))
}

fn print(found: &[Breach], count: usize, examined: u64, repaired: bool) {
    for breach in found {
        output::line(&format!("{}  {}: {}", output::graded("FAIL", Some(repaired)), breach.of, breach.what));
    }
    if count > found.len() {
        output::line(&format!("      and {} more", count - found.len()));
    }
    let advice = match (count, repaired) {
        (0, _) => "nothing is missing",
        (_, true) => "each was repaired, or its run was failed where that was not possible; see stepfleet show <run>",
        (_, false) => "coordinators repair this in the background; to repair it now: stepfleet doctor --runs --repair",
    };
    output::line(&format!("{examined} keys examined, {count} breaches: {advice}"));
}
