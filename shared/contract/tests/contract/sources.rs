//! Reading the sources as text.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Empty where there is no such file.
pub(crate) fn read_or_empty(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

/// Name and text of each file of a folder with this ending, without those of folders in it.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let names = entries.map(|entry| entry.expect("can be listed").file_name().into_string().expect("is UTF-8"));
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&format!("{folder}/{name}")))).collect()
}

pub(crate) const LUA: &str = "shared/src/store/redis/lua";
pub(crate) const REDIS: &str = "shared/src/store/redis";

/// All of the Lua that is written by hand, without comments.
pub(crate) fn lua() -> String {
    let files = files(LUA, ".lua").into_iter().filter(|(name, _)| name != "contract.lua");
    files.map(|(_, text)| code(&text)).collect()
}

/// Lua without comments. None of ours has two hyphens in a literal, but for a value of hyphens only.
pub(crate) fn code(text: &str) -> String {
    let line = |line: &str| {
        let end = line.find("--").filter(|&at| !line[at..].starts_with("-----")).unwrap_or(line.len());
        line[..end].trim_end().to_owned() + "\n"
    };
    text.lines().map(line).collect()
}

/// The literals in single quotes.
pub(crate) fn literals(code: &str) -> BTreeSet<String> {
    code.lines().flat_map(|line| line.split('\'').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// What follows each occurrence of `mark`, up to `stop`.
pub(crate) fn between<'a>(text: &'a str, mark: &'a str, stop: char) -> impl Iterator<Item = &'a str> {
    text.match_indices(mark).filter_map(move |(at, _)| text[at + mark.len()..].split(stop).next())
}

/// Name and value of each constant of Rust that is a number or a time, the latter in ms.
pub(crate) fn constants(path: &str) -> Vec<(String, u64)> {
    read(path).lines().filter_map(rust_constant).collect()
}

/// The same of Lua, as it stands in a text.
pub(crate) fn lua_constants(text: &str) -> Vec<(String, u64)> {
    code(text).lines().flat_map(constants_of_line).collect()
}

fn constants_of_line(line: &str) -> Vec<(String, u64)> {
    let Some((names, values)) = line.strip_prefix("local ").and_then(|line| line.split_once(" = ")) else {
        return vec![];
    };
    let values = values.split(',').map(product);
    let pairs = names.split(',').map(str::trim).zip(values);
    let is_constant = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    pairs.filter(|(name, _)| is_constant(name)).filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn rust_constant(line: &str) -> Option<(String, u64)> {
    let (_, line) = line.split_once("const ")?;
    let (name, line) = line.split_once(": ")?;
    let (_, value) = line.strip_suffix(';')?.split_once(" = ")?;
    Some((name.to_owned(), duration(value).or_else(|| product(value))?))
}

/// `Duration::from_secs(24 * 3600)` in ms.
pub(crate) fn duration(text: &str) -> Option<u64> {
    let text = text.strip_prefix("Duration::from_")?.strip_suffix(')')?;
    let (unit, value) = text.split_once('(')?;
    Some(product(value)? * if unit == "secs" { 1000 } else { 1 })
}

fn product(text: &str) -> Option<u64> {
    text.split('*').map(|factor| factor.trim().replace('_', "").parse::<u64>().ok()).product()
}
