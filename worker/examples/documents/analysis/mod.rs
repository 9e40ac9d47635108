//! Reads one document and says what is in it: the work of one step, with no state and no network.
//!
//! A [`Digest`] is the same for the same bytes at the same path, whichever worker makes it and
//! however often, so a step that is tried again leaves the same result.

mod chunks;
mod fingerprint;
mod keywords;
mod parse;
mod summary;
mod text;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

pub(crate) use fingerprint::{SIGNATURE_SIZE, similarity};

/// How much of a document is read and how much is said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Limits {
    /// The largest file that is read, in bytes.
    pub bytes: u64,
    /// The largest chunk, in characters.
    pub chunk_chars: usize,
    /// The most keywords kept.
    pub keywords: usize,
    /// The most sentences in a summary.
    pub sentences: usize,
    /// The longest summary, in characters.
    pub summary_chars: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 2_000_000, chunk_chars: 1_200, keywords: 8, sentences: 3, summary_chars: 600 }
    }
}

/// What one document is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    /// The path the document was read from.
    pub path: String,
    /// Its first heading, or its file name when it has none.
    pub title: String,
    /// Its size on disk.
    pub bytes: u64,
    /// Its words, without code blocks.
    pub words: u64,
    /// The pieces it falls into, see [`Limits::chunk_chars`].
    pub chunks: u32,
    /// The terms that best describe it, best first.
    pub keywords: Vec<String>,
    /// Its most telling sentences, in their order in the document.
    pub summary: String,
    /// `MinHash` signature: [`SIGNATURE_SIZE`] values, or none when the document has no words. Each
    /// value fits in 32 bits, so that any JSON reader keeps it exactly.
    pub fingerprint: Vec<u64>,
    /// Hash of the bytes on disk: two documents with the same one are exact copies.
    pub checksum: String,
}

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DigestError {
    /// It is gone, or never was.
    #[error("{0} does not exist: it was probably moved or deleted after the folder was listed")]
    NotFound(PathBuf),
    /// The worker may not read it.
    #[error("{0} may not be read: give the user that runs the worker permission to read it")]
    Denied(PathBuf),
    /// It is a folder or another thing that is no file.
    #[error("{0} is not a file")]
    NotAFile(PathBuf),
    /// It is larger than [`Limits::bytes`].
    #[error("{path} has {bytes} bytes, more than the limit of {limit}: split it or raise the limit")]
    TooLarge {
        /// The document.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit that it breaks.
        limit: u64,
    },
    /// It holds zero bytes, which no text does.
    #[error("{0} is not text, whatever its name says")]
    NotText(PathBuf),
    /// Anything else that the operating system reports.
    #[error("{path} could not be read: {source}")]
    Read {
        /// The document.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Reads the document at `path` and describes it.
///
/// Bytes that are no valid UTF-8 are replaced, so that old text files still count.
///
/// # Errors
///
/// When the file cannot be read, is too large or is not text.
pub(crate) fn digest(path: &Path, limits: &Limits) -> Result<Digest, DigestError> {
    let bytes = read(path, limits.bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    let document = if is_markdown(path) { parse::markdown(text) } else { parse::plain(text) };
    let vocabulary = keywords::Vocabulary::of(&document);
    let prose = document.blocks.iter().filter(|block| block.kind != parse::Kind::Code);
    let words: usize = prose.map(|block| block.text.unicode_words().count()).sum();
    Ok(Digest {
        path: path.display().to_string(),
        title: document.title.clone().unwrap_or_else(|| file_name(path)),
        bytes: bytes.len() as u64,
        words: words as u64,
        chunks: u32::try_from(chunks::split(&document, limits.chunk_chars).len()).unwrap_or(u32::MAX),
        keywords: vocabulary.best(limits.keywords),
        summary: summary::summarise(&document, &vocabulary, limits.sentences, limits.summary_chars),
        fingerprint: fingerprint::signature(&document),
        checksum: fingerprint::checksum(&bytes),
    })
}

/// Reads at most `limit` bytes: also of a file that grows while it is read, or whose size the
/// operating system does not know.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, DigestError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => DigestError::NotFound(path.to_owned()),
        io::ErrorKind::PermissionDenied => DigestError::Denied(path.to_owned()),
        _ => DigestError::Read { path: path.to_owned(), source },
    };
    let too_large = |bytes| DigestError::TooLarge { path: path.to_owned(), bytes, limit };
    // Asked before it is opened: opening a pipe would wait for a writer.
    let found = std::fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(DigestError::NotAFile(path.to_owned()));
    }
    if found.len() > limit {
        return Err(too_large(found.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0));
    let mut file = File::open(path).map_err(failed)?.take(limit.saturating_add(1));
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    if bytes.contains(&0) {
        return Err(DigestError::NotText(path.to_owned()));
    }
    Ok(bytes)
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("md") || ending.eq_ignore_ascii_case("markdown"))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
