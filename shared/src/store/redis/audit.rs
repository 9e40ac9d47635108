//! Audits slice by slice: a part of the keyspace is listed, and each key of a run or worker is looked at in one call.

use super::RedisStore;
use crate::core::build;
use crate::core::reply::Reply;
use crate::error::{Error, Result};
use crate::store::{Audit, Audited, Breach};

/// About how many keys `SCAN` looks at per slice.
const SLICE: usize = 500;
/// The kinds of keys that belong to a run or a worker.
const KINDS: [&str; 18] = [
    "run",
    "input",
    "steps",
    "stopped",
    "context",
    "history",
    "events",
    "extra",
    "joined",
    "fan",
    "journal",
    "signals",
    "published",
    "session",
    "line",
    "shared",
    "held",
    "worker",
];

impl RedisStore {
    pub(super) async fn audit_slice(&self, audit: &Audit) -> Result<Audited> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(audit.from).arg("MATCH").arg(pattern(self.namespace.prefix())).arg("COUNT").arg(SLICE);
        let mut reply = Reply::new(self.link.send(&scan).await?)?;
        let next: u64 = reply.text()?.parse().map_err(|_| Error::reply("SCAN answered no cursor"))?;
        let mut keys = reply.array()?;
        let mut audited = Audited { next: (next != 0).then_some(next), ..Audited::default() };
        while !keys.is_over() {
            let key = String::from_utf8(keys.bytes()?).unwrap_or_default();
            let Some((kind, name)) = key.strip_prefix(self.namespace.prefix()).and_then(|key| key.split_once(':'))
            else {
                continue;
            };
            if KINDS.contains(&kind) {
                audited.examined += 1;
                self.audit_key(audit, kind, name, &mut audited.breaches).await?;
            }
        }
        Ok(audited)
    }

    /// A large hash takes several calls.
    async fn audit_key(&self, audit: &Audit, kind: &str, name: &str, found: &mut Vec<Breach>) -> Result<()> {
        let mut cursor = "0".to_owned();
        loop {
            let mut reply = self.call(&build::audit(audit, kind, name, &cursor)).await?;
            cursor = reply.text()?;
            let mut breaches = reply.array()?;
            while !breaches.is_over() {
                found.push(Breach { of: breaches.text()?, what: breaches.text()? });
            }
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}

/// A pattern for all keys that begin with the prefix, whose characters are taken literally.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::new();
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}
