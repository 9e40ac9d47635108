//! Writes what was found: `report.md` for people and `index.json` for programs.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::analysis::Digest;
use super::similar::Group;

/// How many keywords the report names.
const TOP_KEYWORDS: usize = 25;

/// Everything that was found in a folder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The folder; paths in `report.md` are shown from there.
    pub folder: String,
    /// The documents.
    pub digests: Vec<Digest>,
    /// Those that are nearly the same.
    pub groups: Vec<Group>,
    /// Those that could not be read.
    pub failures: Vec<Failure>,
}

/// A document that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Its path.
    pub path: String,
    /// Why, in one sentence.
    pub reason: String,
}

/// The files that [`write`] left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    /// The report for people.
    pub report: PathBuf,
    /// The index for programs.
    pub index: PathBuf,
}

/// Why the report could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The worker may not write there.
    #[error(
        "{0} may not be written: give the user that runs the worker permission to write there, or name another folder for the report"
    )]
    Denied(PathBuf),
    /// Something that is no folder is in the way.
    #[error("{0} is not a folder: name a folder for the report")]
    NotAFolder(PathBuf),
    /// The disk is full.
    #[error("{0} could not be written because the disk is full: make room and try again")]
    Full(PathBuf),
    /// The report could not be put into JSON.
    #[error("the index could not be put into JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Anything else that the operating system reports.
    #[error("{path} could not be written: {source}")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

#[derive(Clone, Copy, Default, Serialize)]
struct Totals {
    documents: usize,
    bytes: u64,
    words: u64,
    chunks: u64,
    groups: usize,
    failures: usize,
}

#[derive(Serialize)]
struct Keyword<'a> {
    keyword: &'a str,
    documents: usize,
}

#[derive(Serialize)]
struct Index<'a> {
    folder: &'a str,
    totals: Totals,
    keywords: Vec<Keyword<'a>>,
    groups: &'a [Group],
    documents: Vec<&'a Digest>,
    failures: Vec<&'a Failure>,
}

/// Writes `report.md` and `index.json` into `folder`, which is made if need be. Each file is replaced
/// as a whole: a reader sees the old one or the new one, also when the worker dies in between.
///
/// # Errors
///
/// When the folder cannot be made or a file cannot be written.
pub(crate) fn write(folder: &Path, report: &Report) -> Result<Written, WriteError> {
    let index = index(report);
    let markdown = markdown(&index);
    let mut json = serde_json::to_vec_pretty(&index)?;
    json.push(b'\n');
    std::fs::create_dir_all(folder).map_err(|error| explain(folder, error))?;
    let written = Written { report: folder.join("report.md"), index: folder.join("index.json") };
    replace(folder, &written.report, markdown.as_bytes())?;
    replace(folder, &written.index, &json)?;
    Ok(written)
}

fn replace(folder: &Path, path: &Path, content: &[u8]) -> Result<(), WriteError> {
    let failed = |error| explain(path, error);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".stepfleet-");
    #[cfg(unix)]
    {
        // A temporary file is private, the report is as readable as any other file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn explain(path: &Path, source: io::Error) -> WriteError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => WriteError::Denied(path),
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => WriteError::NotAFolder(path),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WriteError::Full(path),
        _ => WriteError::Write { path, source },
    }
}

fn index(report: &Report) -> Index<'_> {
    let mut documents: Vec<&Digest> = report.digests.iter().collect();
    documents.sort_by(|left, right| left.path.cmp(&right.path));
    let mut failures: Vec<&Failure> = report.failures.iter().collect();
    failures.sort_by(|left, right| left.path.cmp(&right.path));
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for keyword in documents.iter().flat_map(|digest| &digest.keywords) {
        *counts.entry(keyword).or_default() += 1;
    }
    let named = |(keyword, documents)| Keyword { keyword, documents };
    let mut keywords: Vec<Keyword<'_>> = counts.into_iter().map(named).collect();
    keywords.sort_by(|left, right| right.documents.cmp(&left.documents).then(left.keyword.cmp(right.keyword)));
    keywords.truncate(TOP_KEYWORDS);
    let totals = Totals {
        documents: documents.len(),
        bytes: documents.iter().map(|digest| digest.bytes).sum(),
        words: documents.iter().map(|digest| digest.words).sum(),
        chunks: documents.iter().map(|digest| u64::from(digest.chunks)).sum(),
        groups: report.groups.len(),
        failures: failures.len(),
    };
    Index { folder: &report.folder, totals, keywords, groups: &report.groups, documents, failures }
}

/// The report for people. Writing into a `String` cannot fail, so its results are dropped.
fn markdown(index: &Index<'_>) -> String {
    let Totals { documents, bytes, words, chunks, groups, failures } = index.totals;
    let place = |path: &str| escape(shown(path, index.folder));
    let mut text = String::from("# Documents\n\n");
    let _ = write!(text, "What is in `{}`.\n\n", index.folder.replace('`', "'"));
    let _ = write!(
        text,
        "| Documents | Words | Chunks | Bytes | Near-duplicate groups | Not read |\n|--:|--:|--:|--:|--:|--:|\n\
         | {documents} | {words} | {chunks} | {bytes} | {groups} | {failures} |\n\n"
    );
    if !index.keywords.is_empty() {
        text.push_str("## Top keywords\n\nWith the number of documents that have them.\n\n");
        let list = index.keywords.iter().map(|entry| format!("{} ({})", escape(entry.keyword), entry.documents));
        let _ = write!(text, "{}\n\n", list.collect::<Vec<_>>().join(", "));
    }
    if !index.groups.is_empty() {
        text.push_str("## Near duplicates\n\n");
    }
    for (number, group) in (1..).zip(index.groups) {
        let size = group.members.len();
        let kind = match group.exact {
            true => "exact copies".to_owned(),
            false if group.similarity >= 1.0 => "the same words".to_owned(),
            false => format!("at least {} like the first", percent(group.similarity)),
        };
        let _ = writeln!(text, "{number}. {size} documents, {kind}:");
        for member in &group.members {
            let exact = if member.exact && !group.exact { ", has an exact copy here" } else { "" };
            let alike = if group.exact { String::new() } else { format!(" ({}{exact})", percent(member.similarity)) };
            let _ = writeln!(text, "    - {}{alike}", place(&member.path));
        }
    }
    if !index.groups.is_empty() {
        text.push('\n');
    }
    if !index.failures.is_empty() {
        text.push_str("## Not read\n\n| Document | Reason |\n|---|---|\n");
        for failure in &index.failures {
            let reason = failure.reason.strip_prefix(&failure.path);
            let reason = reason.map_or(failure.reason.as_str(), str::trim_start);
            let _ = writeln!(text, "| {} | {} |", place(&failure.path), escape(reason));
        }
        text.push('\n');
    }
    if !index.documents.is_empty() {
        text.push_str("## All documents\n\n| Document | Title | Words | Keywords | Summary |\n|---|---|--:|---|---|\n");
    }
    for digest in &index.documents {
        let keywords = escape(&digest.keywords.join(", "));
        let (title, summary) = (escape(&digest.title), escape(&digest.summary));
        let _ = writeln!(text, "| {} | {title} | {} | {keywords} | {summary} |", place(&digest.path), digest.words);
    }
    text
}

fn shown<'a>(path: &'a str, folder: &str) -> &'a str {
    let below = Path::new(path).strip_prefix(folder).ok().and_then(Path::to_str);
    below.filter(|below| !below.is_empty()).unwrap_or(path)
}

/// `floor`, so that only what is the same shows as 100 %.
fn percent(similarity: f64) -> String {
    format!("{:.0} %", (similarity * 100.0).floor())
}

/// Text that Markdown shows as it is, also in a table.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '[' | ']' | '<' | '|' => safe.extend(['\\', letter]),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
