//! Finds the documents in a folder.

use std::io;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

/// The most documents that one run takes.
pub(crate) const MOST_DOCUMENTS: usize = 5_000;

const ENDINGS: [&str; 3] = ["md", "markdown", "txt"];

/// What [`survey`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listing {
    /// The documents, sorted.
    pub documents: Vec<PathBuf>,
    /// How many more there are than were asked for.
    pub left_out: usize,
    /// Places below the folder that could not be looked into.
    pub unreadable: Vec<PathBuf>,
}

/// Why there is nothing to list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The folder does not exist.
    #[error("there is no folder {0}: check the path, which must exist on the machine that runs the worker")]
    NotFound(PathBuf),
    /// It is a file.
    #[error("{0} is not a folder: name the folder that holds the documents")]
    NotAFolder(PathBuf),
    /// The worker may not read it.
    #[error("the folder {0} may not be read: give the user that runs the worker permission to list it")]
    Denied(PathBuf),
    /// It holds no document.
    #[error(
        "the folder {0} holds no documents: put .md, .markdown or .txt files that are not empty into it, or name another folder"
    )]
    NoDocuments(PathBuf),
    /// Neither `CARGO_HOME` nor `HOME` is set.
    #[error("there is no default folder because neither CARGO_HOME nor HOME is set: name a folder of documents")]
    NoHome,
    /// Cargo has not downloaded anything yet.
    #[error(
        "there is no default folder because cargo has downloaded no sources yet ({0} does not exist): name a folder of documents"
    )]
    NoSources(PathBuf),
    /// Anything else that the operating system reports.
    #[error("the folder {path} could not be listed: {source}")]
    Read {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Finds the documents in `folder` and below: files that end in `.md`, `.markdown` or `.txt` and are
/// not empty. Symbolic links and `.git` folders are passed over.
///
/// # Errors
///
/// When the folder cannot be listed or holds no documents.
pub(crate) fn survey(folder: &Path, most: usize) -> Result<Listing, ListError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ListError::NotFound(folder.to_owned()),
        io::ErrorKind::NotADirectory => ListError::NotAFolder(folder.to_owned()),
        io::ErrorKind::PermissionDenied => ListError::Denied(folder.to_owned()),
        _ => ListError::Read { path: folder.to_owned(), source },
    };
    // The folder itself may be a link; it was named. This also reports one that may not be listed.
    std::fs::read_dir(folder).map_err(failed)?;
    let mut documents = Vec::new();
    let mut unreadable = Vec::new();
    let walk = WalkDir::new(folder).into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() == 0 || entry.file_name() != ".git") {
        match entry {
            Ok(entry) if is_document(&entry) => documents.push(entry.into_path()),
            Ok(_) => {}
            Err(error) => unreadable.extend(error.path().map(Path::to_owned)),
        }
    }
    if documents.is_empty() {
        return Err(match unreadable.pop() {
            None => ListError::NoDocuments(folder.to_owned()),
            Some(place) => ListError::Denied(place),
        });
    }
    documents.sort();
    unreadable.sort();
    let left_out = documents.len().saturating_sub(most);
    documents.truncate(most);
    Ok(Listing { documents, left_out, unreadable })
}

/// A folder of real documents that most Rust developers have: the sources that cargo has downloaded.
///
/// # Errors
///
/// When there are none.
pub(crate) fn default_folder() -> Result<PathBuf, ListError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    default_folder_in(set("CARGO_HOME"), std::env::home_dir())
}

fn default_folder_in(cargo_home: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf, ListError> {
    let cargo = cargo_home.or_else(|| home.filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(".cargo")));
    let folder = cargo.ok_or(ListError::NoHome)?.join("registry").join("src");
    if folder.is_dir() { Ok(folder) } else { Err(ListError::NoSources(folder)) }
}

fn is_document(entry: &DirEntry) -> bool {
    let ending = entry.path().extension().and_then(|ending| ending.to_str());
    entry.file_type().is_file()
        && ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
        && entry.metadata().is_ok_and(|found| found.len() > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn list(folder: &Path) -> Result<Vec<PathBuf>, ListError> {
        survey(folder, MOST_DOCUMENTS).map(|listing| listing.documents)
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn names(folder: &Path, listing: &[PathBuf]) -> Vec<String> {
        listing.iter().map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect()
    }

    #[test]
    fn finds_documents_below_in_order() {
        let folder = folder(&[
            ("b.md", "b"),
            ("a/z.txt", "z"),
            ("a/y.MARKDOWN", "y"),
            ("a.rs", "code"),
            ("empty.md", ""),
            (".git/x.md", "x"),
            ("md", "no ending"),
        ]);
        let found = list(folder.path()).unwrap();
        assert_eq!(names(folder.path(), &found), ["a/y.MARKDOWN", "a/z.txt", "b.md"]);
    }

    #[test]
    fn says_how_many_it_left_out() {
        let folder = folder(&[("c.md", "c"), ("a.md", "a"), ("b.md", "b")]);
        let listing = survey(folder.path(), 2).unwrap();
        assert_eq!(names(folder.path(), &listing.documents), ["a.md", "b.md"]);
        assert_eq!(listing.left_out, 1);
    }

    #[cfg(unix)]
    #[test]
    fn follows_no_links() {
        let folder = folder(&[("real/a.md", "a")]);
        std::os::unix::fs::symlink(folder.path(), folder.path().join("real/loop")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("real/a.md"), folder.path().join("b.md")).unwrap();
        assert_eq!(names(folder.path(), &list(folder.path()).unwrap()), ["real/a.md"]);
    }

    #[test]
    fn says_what_to_do() {
        let folder = folder(&[("a.rs", "code"), ("empty.md", "")]);
        let gone = list(&folder.path().join("gone")).unwrap_err();
        assert!(matches!(gone, ListError::NotFound(_)) && gone.to_string().contains("check the path"), "{gone}");
        let file = list(&folder.path().join("a.rs")).unwrap_err();
        assert!(matches!(file, ListError::NotAFolder(_)), "{file}");
        let none = list(folder.path()).unwrap_err();
        assert!(matches!(none, ListError::NoDocuments(_)) && none.to_string().contains(".markdown"), "{none}");
    }

    #[test]
    fn the_default_is_what_cargo_downloaded() {
        let home = folder(&[(".cargo/registry/src/a.md", "a"), ("other/registry/src/b.md", "b")]);
        let path = home.path().to_owned();
        assert_eq!(default_folder_in(None, Some(path.clone())).unwrap(), path.join(".cargo/registry/src"));
        let other = default_folder_in(Some(path.join("other")), Some(path.clone())).unwrap();
        assert_eq!(other, path.join("other/registry/src"));
        assert!(matches!(default_folder_in(Some(path.join("none")), Some(path)), Err(ListError::NoSources(_))));
        assert!(matches!(default_folder_in(None, None), Err(ListError::NoHome)));
    }
}
