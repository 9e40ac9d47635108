//! The workflow: list the documents, digest each in a branch of its own, join, compare, report.

use std::path::{Path, PathBuf};

use stepfleet::prelude::*;

use crate::analysis::{self, Digest, Limits};
use crate::report::{self, Failure, Report};
use crate::{listing, similar};

/// From this similarity on two documents count as near-duplicates.
const NEAR: f64 = 0.8;

/// Starts a run.
#[event]
pub(crate) struct Requested {
    /// The documents.
    pub folder: PathBuf,
    /// Where the report goes.
    pub out: PathBuf,
}

/// One document to work on.
#[event]
struct Document {
    path: PathBuf,
}

/// The outcome of one document.
#[event]
enum Digested {
    Read(Box<Digest>),
    Unreadable(Failure),
}

/// Ends a run.
#[event]
pub(crate) struct Reported {
    /// `report.md`.
    pub report: PathBuf,
    /// `index.json`.
    pub index: PathBuf,
    /// How many documents were read.
    pub documents: usize,
    /// How many could not be read.
    pub unreadable: usize,
    /// How many groups of near-duplicates there are.
    pub groups: usize,
}

/// Where the run reads and writes, kept in its context.
#[data]
#[derive(Clone, Default)]
struct Places {
    folder: PathBuf,
    out: PathBuf,
}

#[derive(Default)]
pub(crate) struct Documents {
    limits: Limits,
}

#[workflow(start = Requested, stop = Reported)]
impl Documents {
    #[step]
    async fn list(&self, ctx: &Context<Places>, ev: Requested) -> Outcome<Vec<Document>> {
        let folder = ev.folder.clone();
        let listing = tokio::task::spawn_blocking(move || listing::survey(&folder, listing::MOST_DOCUMENTS)).await?;
        let listing = listing.map_err(Terminal)?;
        let places = Places { folder: ev.folder, out: ev.out };
        ctx.state().edit(move |known| *known = places.clone()).await?;
        Ok(listing.documents.into_iter().map(|path| Document { path }).collect())
    }

    #[step(retries = 2)]
    async fn digest(&self, ctx: &Context<Places>, ev: Document) -> Outcome<Digested> {
        let folder = ctx.state().load().await?.folder;
        let limits = self.limits.clone();
        // Large documents take most of a second of pure computing: not on a thread that serves other steps.
        let digested = tokio::task::spawn_blocking(move || digest(&folder, &ev.path, &limits)).await?;
        Ok(digested)
    }

    #[step(timeout = "2m")]
    async fn report(&self, ctx: &Context<Places>, all: Joined<Digested>) -> Outcome<Reported> {
        let places = ctx.state().load().await?;
        let reported = tokio::task::spawn_blocking(move || write(&places, all)).await?;
        Ok(reported.map_err(Terminal)?)
    }
}

fn digest(folder: &Path, path: &Path, limits: &Limits) -> Digested {
    let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
    match analysis::digest(path, limits) {
        Ok(digest) => Digested::Read(Box::new(Digest { path: name, ..digest })),
        Err(error) => Digested::Unreadable(Failure { path: name, reason: error.to_string() }),
    }
}

fn write(places: &Places, all: Joined<Digested>) -> Result<Reported, report::WriteError> {
    let (mut digests, mut failures) = (Vec::new(), Vec::new());
    for digested in all {
        match digested {
            Digested::Read(digest) => digests.push(*digest),
            Digested::Unreadable(failure) => failures.push(failure),
        }
    }
    // Branches join in order of arrival; the report is in order of name.
    digests.sort_by(|a, b| a.path.cmp(&b.path));
    failures.sort_by(|a, b| a.path.cmp(&b.path));
    let groups = similar::near_duplicates(&digests, NEAR);
    let report = Report { folder: places.folder.display().to_string(), digests, groups, failures };
    let written = report::write(&places.out, &report)?;
    Ok(Reported {
        report: written.report,
        index: written.index,
        documents: report.digests.len(),
        unreadable: report.failures.len(),
        groups: report.groups.len(),
    })
}
