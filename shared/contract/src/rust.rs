//! The Rust that is made from the contract: what a transition is given, and the words that its replies begin with.

use std::fmt::Write;

use super::{Arg, Form, Group, LOOKS, LOOPS, Reply, SHORT, SHORT_WAYS, TRANSITIONS};

/// Its path, from the root of the repository.
const FOLDER: &str = "shared/src/core/generated";

const HEAD: &str = "\
//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.
";

/// All files: their paths from the root of the repository, and their texts.
pub fn render() -> Vec<(String, String)> {
    let mut callers: Vec<&str> = TRANSITIONS.iter().map(|transition| transition.by).collect();
    callers.sort_unstable();
    callers.dedup();
    let mut files = vec![
        ("mod", module(&callers)),
        ("groups", groups()),
        ("short", short_ways()),
        ("words", all_words()),
        ("loops", loops()),
    ];
    files.extend(callers.iter().map(|by| (*by, transitions_of(by))));
    files.into_iter().map(|(name, text)| (format!("{FOLDER}/{name}.rs"), format!("{HEAD}\n{text}"))).collect()
}

fn module(callers: &[&str]) -> String {
    let args = [&["groups"], callers, &["short"]].concat();
    let each = |line: fn(&str) -> String| args.iter().map(|name| line(name)).collect::<Vec<_>>().join("\n");
    let modules = each(|name| format!("mod {name};"));
    let all = each(|name| format!("    pub(crate) use super::{name}::*;"));
    format!(
        "{modules}\npub(crate) mod loops;\npub(crate) mod words;\n\n/// What transitions and short ways are given.\npub(crate) mod args {{\n{all}\n}}\n\n\
         /// The function that has the short ways.\npub(crate) const SHORT: &str = \"{SHORT}\";\n"
    )
}

fn loops() -> String {
    let one = |one: &super::Loop| {
        format!("\n/// {}.\npub const {}: Loop = Loop::new({}, {});\n", one.who, one.name, one.first_ms, one.longest_ms)
    };
    let all: String = LOOPS.iter().map(one).collect();
    format!("use crate::backoff::Loop;\n{all}")
}

fn groups() -> String {
    let one = |group: &&Group| {
        let about = format!("Arguments that several have: {}.", names(group.args).join(", "));
        structure(&camel(group.name), &about, &[**group], false)
    };
    let text: String = shared_groups().iter().map(one).collect();
    imports(&text, &["Args", "Headed", "Write"]) + &text
}

/// What is used of these is in the text.
fn imports(text: &str, names: &[&str]) -> String {
    let used: Vec<&str> = names.iter().copied().filter(|name| text.contains(name)).collect();
    format!("use crate::core::args::{{{}}};\n", used.join(", "))
}

fn groups_in(text: &str) -> String {
    let used: Vec<String> = shared_groups().iter().map(|group| camel(group.name)).collect();
    let used: Vec<String> = used.into_iter().filter(|name| text.contains(&format!(": {name}<"))).collect();
    match &used[..] {
        [] => String::new(),
        [one] => format!("use super::groups::{one};\n"),
        _ => format!("use super::groups::{{{}}};\n", used.join(", ")),
    }
}

fn transitions_of(by: &str) -> String {
    let mut text = String::new();
    for transition in TRANSITIONS.iter().filter(|transition| transition.by == by && transition.name != SHORT) {
        let name = camel(transition.name);
        let defined = structure(&name, &sentence(transition.does), transition.args, false);
        text += &defined;
        let (replies, word) = (transition.replies, if has_words(transition.replies) { &*name } else { "Wordless" });
        debug_assert!(!replies.is_empty(), "each has a reply");
        let looks = if LOOKS.contains(&transition.name) { "    const LOOKS: bool = true;\n" } else { "" };
        let _ = write!(
            text,
            "\nimpl Transition for {} {{\n    type Word = words::{word};\n    const NAME: &'static str = \"{}\";\n{looks}}}\n",
            elided(&name, &defined),
            transition.name
        );
    }
    let known = imports(&text, &["Args", "Headed", "Transition", "Write"]);
    format!("{}use super::words;\n{known}{text}", groups_in(&text))
}

fn short_ways() -> String {
    let mut text = String::new();
    for way in SHORT_WAYS {
        let name = camel(way.name);
        text += &structure(&name, &sentence(way.does), way.args, way.has_fields);
        let _ =
            write!(text, "\nimpl Way for {name}<'_> {{\n    const LETTER: &'static str = \"{}\";\n}}\n", way.letter);
    }
    format!("{}{}{text}", groups_in(&text), imports(&text, &["Args", "Headed", "Way", "Write"]))
}

fn all_words() -> String {
    let mut text = "//! The words that replies begin with.\n\nuse crate::core::args::Word;\n".to_owned();
    text += "\n/// Of replies that have one form only.\n#[derive(Clone, Copy, Debug)]\npub(crate) enum Wordless {}\n";
    for transition in TRANSITIONS.iter().filter(|transition| has_words(transition.replies)) {
        text += &words(&camel(transition.name), transition.name, transition.replies);
    }
    text
}

fn has_words(replies: &[Reply]) -> bool {
    replies.iter().any(|reply| !reply.word.is_empty())
}

fn names(args: &[Arg]) -> Vec<String> {
    args.iter().map(|arg| format!("`{}`", arg.name)).collect()
}

/// Each once, in the order in which they come first.
fn shared_groups() -> Vec<&'static Group> {
    let all =
        TRANSITIONS.iter().flat_map(|transition| transition.args).chain(SHORT_WAYS.iter().flat_map(|way| way.args));
    let mut groups: Vec<&Group> = Vec::new();
    for group in all.filter(|group| !group.name.is_empty()) {
        if groups.iter().all(|known| known.name != group.name) {
            groups.push(group);
        }
    }
    groups
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), chars.as_str()))
}

fn camel(name: &str) -> String {
    let word = |word: &str| {
        let mut chars = word.chars();
        chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
    };
    name.split(['_', ' ']).map(word).collect()
}

fn type_of(form: Form) -> String {
    match form {
        Form::Text => "&'a str".to_owned(),
        Form::Line => "String".to_owned(),
        Form::Optional => "Option<String>".to_owned(),
        Form::Bytes => "&'a [u8]".to_owned(),
        Form::Record => "Headed<'a>".to_owned(),
        Form::Digits | Form::Number => "u64".to_owned(),
        Form::Ms => "i64".to_owned(),
        Form::Flag => "bool".to_owned(),
        Form::List([one]) => format!("Vec<{}>", type_of(one.form)),
        Form::List(of) => {
            let types: Vec<String> = of.iter().map(|column| type_of(column.form)).collect();
            format!("Vec<({})>", types.join(", "))
        }
    }
}

/// The call that writes a value; in a row it is behind a reference.
fn written(form: Form, value: &str, is_row: bool) -> String {
    let (by_value, by_reference) = if is_row { ("*", "") } else { ("", "&") };
    let (how, by) = match form {
        Form::Text => ("text", ""),
        Form::Line => ("text", by_reference),
        Form::Optional => return format!("args.optional({value}.as_deref());"),
        Form::Bytes => ("bytes", ""),
        Form::Record => ("headed", by_reference),
        Form::Digits | Form::Number => ("number", by_value),
        Form::Ms => ("ms", by_value),
        Form::Flag => ("flag", by_value),
        Form::List(_) => return String::new(),
    };
    format!("args.{how}({by}{value});")
}

fn write_arg(arg: &Arg) -> String {
    let Form::List(of) = arg.form else {
        return format!("        {}\n", written(arg.form, &format!("self.{}", arg.name), false));
    };
    let width = of.len();
    let length =
        if width == 1 { format!("self.{}.len()", arg.name) } else { format!("{width} * self.{}.len()", arg.name) };
    format!("        args.count({length});\n{}", write_rows(arg.name, of))
}

fn write_rows(list: &str, of: &[Arg]) -> String {
    let columns: Vec<&str> = of.iter().map(|column| column.name).collect();
    let pattern = if let [one] = columns[..] { one.to_owned() } else { format!("({})", columns.join(", ")) };
    let mut text = format!("        for {pattern} in &self.{list} {{\n");
    for column in of {
        let _ = writeln!(text, "            {}", written(column.form, column.name, true));
    }
    text + "        }\n"
}

/// The fields of the context that some short ways end with: as many as there are.
const FIELDS: &[Arg] = &[Arg { name: "field", form: Form::Text }, Arg { name: "value", form: Form::Bytes }];

/// A structure, and how it is written. Of a shared group the arguments are its fields.
fn structure(name: &str, about: &str, groups: &[Group], has_fields: bool) -> String {
    let (mut fields, mut writes) = (String::new(), String::new());
    for group in groups {
        if !group.name.is_empty() && camel(group.name) != name {
            let _ = writeln!(fields, "    pub(crate) {}: {}<'a>,", group.name, camel(group.name));
            let _ = writeln!(writes, "        self.{}.write(args);", group.name);
            continue;
        }
        for arg in group.args {
            let _ = writeln!(fields, "    pub(crate) {}: {},", arg.name, type_of(arg.form));
            writes += &write_arg(arg);
        }
    }
    if has_fields {
        let _ = writeln!(fields, "    pub(crate) fields: {},", type_of(Form::List(FIELDS)));
        writes += &write_rows("fields", FIELDS);
    }
    let lifetime = if fields.contains("'a") { "<'a>" } else { "" };
    let defined =
        format!("\n/// {about}\n#[derive(Clone, Debug)]\npub(crate) struct {name}{lifetime} {{\n{fields}}}\n");
    let elided = elided(name, &defined);
    format!(
        "{defined}\nimpl Write for {elided} {{\n    fn write<'a>(&'a self, args: &mut Args<'a>) {{\n{writes}    }}\n}}\n"
    )
}

/// The type of this definition, without its lifetime if it has one.
fn elided(name: &str, defined: &str) -> String {
    if defined.contains(&format!("struct {name}<'a>")) { format!("{name}<'_>") } else { name.to_owned() }
}

fn words(name: &str, transition: &str, replies: &[Reply]) -> String {
    let (mut variants, mut pairs) = (String::new(), String::new());
    for reply in replies {
        let variant = camel(reply.word);
        let rest = if reply.rest.is_empty() { String::new() } else { format!(", then `{}`", reply.rest) };
        let _ = writeln!(variants, "    /// `{}`{rest}.\n    {variant},", reply.word);
        let _ = writeln!(pairs, "        (\"{}\", Self::{variant}),", reply.word);
    }
    format!(
        "\n/// Of `{transition}`.\n#[derive(Clone, Copy, Debug, PartialEq, Eq)]\npub(crate) enum {name} {{\n{variants}}}\n\n\
         impl Word for {name} {{\n    const ALL: &'static [(&'static str, Self)] = &[\n{pairs}    ];\n}}\n"
    )
}
