//! The commands and programs that the documents show.

use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A command of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What somebody types.
    pub line: String,
    /// What the page shows below it; empty where it shows nothing.
    pub output: String,
}

/// The pages that show commands: the path of each within the checkout, and its text.
///
/// # Panics
/// When a page cannot be read.
pub fn pages() -> Vec<(String, String)> {
    let docs = std::fs::read_dir(format!("{ROOT}/docs")).expect("the folder docs");
    let docs = docs.map(|page| format!("docs/{}", page.expect("a page").file_name().display()));
    let mut paths: Vec<_> = docs.filter(|path| Path::new(path).extension().is_some_and(|end| end == "md")).collect();
    paths.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "coordinator/templates/README.md"].map(str::to_owned));
    paths.sort();
    let read = |path: String| {
        let text = std::fs::read_to_string(format!("{ROOT}/{path}")).expect("a page");
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The blocks of a page in this language, as Markdown names it.
pub fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

/// The commands of a page, in its order: those behind `$` in blocks of `console`, and each line of the blocks of `sh` and `bash`.
pub fn commands(page: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let mut language = None;
    for line in page.lines() {
        if let Some(named) = line.strip_prefix("```") {
            language = language.is_none().then_some(named);
            continue;
        }
        let typed = match language {
            Some("console") => line.strip_prefix("$ "),
            Some("sh" | "bash") => Some(line).filter(|line| !line.is_empty()),
            _ => continue,
        };
        match (typed, found.last_mut()) {
            (Some(typed), _) => found.push(Shown { line: typed.to_owned(), output: String::new() }),
            (None, Some(command)) if language == Some("console") => {
                command.output += if command.output.is_empty() { "" } else { "\n" };
                command.output += line;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_commands_of_its_blocks() {
        let page = "a\n```console\n$ one 1\nprinted\nand more\n$ two\n```\n```rust\nno();\n```\n```sh\nthree   # why\n\nfour\n```\nb";
        let found: Vec<_> = commands(page).into_iter().map(|shown| (shown.line, shown.output)).collect();
        let expected = [("one 1", "printed\nand more"), ("two", ""), ("three   # why", ""), ("four", "")];
        assert_eq!(found, expected.map(|(line, output)| (line.to_owned(), output.to_owned())));
        assert_eq!(blocks(page, "rust"), ["no();\n"]);
    }
}
