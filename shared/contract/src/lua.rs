//! The Lua that is made from the contract: limits, keys, readers of arguments, and the places of those of short ways.

use std::fmt::Write;

use super::{Arg, Form, KEYS, Key, LIMITS, SHORT, SHORT_WAYS, ShortWay, TRANSITIONS, Transition};

/// Its path, from the root of the repository.
pub const FILE: &str = "shared/src/store/redis/lua/contract.lua";

const HEAD: &str = "\
-- Made from shared/contract/src/: do not change it here, but there, and make it anew:
--   STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract
";

const TAKE_LIST: &str = "\
-- A list stands as its length and its values. Answers these, and the place of what follows.
local function take_list(argv, at)
  local values, length = {}, tonumber(argv[at])
  for i = 1, length do values[i] = argv[at + i] end
  return values, at + length + 1
end
";

/// The whole file.
pub fn render() -> String {
    let mut text = format!("{HEAD}\n");
    // A chunk of Lua has at most 200 locals: they are one.
    text += "local LIMIT = {\n";
    for limit in LIMITS.iter().filter(|limit| limit.at.iter().any(|path| is_lua(path))) {
        let _ = writeln!(text, "  {} = {}, -- {}", limit.name, limit.value, limit.of);
    }
    text += "}\n";
    text += "\n-- The keys, by their kind.\nlocal key_of = {}\n";
    text.extend(KEYS.iter().map(key));
    text += "\n-- The arguments of each transition, by their names.\nlocal read = {}\n\n";
    text += TAKE_LIST;
    text.extend(TRANSITIONS.iter().filter(|transition| transition.name != SHORT).map(reader));
    text += "\n-- Where the arguments of each short way are; `fields` is where fields of the context begin.\nlocal place_of = {\n";
    text.extend(SHORT_WAYS.iter().map(places));
    text += "}\n";
    text
}

fn is_lua(path: &str) -> bool {
    std::path::Path::new(path).extension().is_some_and(|ending| ending == "lua")
}

/// What a key is of: one name for each part. A queue is one part, though its name has two.
fn parts(key: &Key) -> Vec<&'static str> {
    if key.of == "<workflow>:<version>" {
        return vec!["queue"];
    }
    let name = |part: &'static str| part.trim_start_matches('<').split('>').next();
    key.of.split(':').filter_map(name).filter(|name| !name.is_empty()).collect()
}

fn key(key: &Key) -> String {
    let parts = parts(key);
    let params = [&["p"], &parts[..]].concat().join(", ");
    let rest = if parts.is_empty() { String::new() } else { format!(":' .. {}", parts.join(" .. ':' .. ")) };
    let close = if parts.is_empty() { "'" } else { "" };
    format!("function key_of.{}({params}) return p .. '{}{rest}{close} end\n", key.kind, key.kind)
}

fn value(form: Form, at: &str) -> String {
    match form {
        Form::Number | Form::Ms => format!("tonumber(argv[{at}])"),
        Form::Flag => format!("argv[{at}] == '1'"),
        _ => format!("argv[{at}]"),
    }
}

/// Places are counted from the beginning, and from the last list on.
fn reader(transition: &Transition) -> String {
    let args: Vec<&Arg> = transition.arguments().collect();
    let is_list = |arg: &&Arg| matches!(arg.form, Form::List(_));
    let (first, last) = (args.iter().position(is_list), args.iter().rposition(is_list));
    let (mut text, mut fields) = (String::new(), Vec::new());
    let (mut base, mut offset) = ("", 1);
    for (number, arg) in args.iter().enumerate() {
        let at = match (base, offset) {
            ("", offset) => offset.to_string(),
            (base, 0) => base.to_owned(),
            (base, offset) => format!("{base} + {offset}"),
        };
        let mut value = value(arg.form, &at);
        if is_list(arg) {
            let next = if number + 1 == args.len() { "" } else { ", at" };
            let _ = writeln!(text, "  local {}{next} = take_list(argv, {at})", arg.name);
            (base, offset, value) = ("at", 0, arg.name.to_owned());
        } else {
            offset += 1;
            if first < Some(number) && Some(number) < last {
                let _ = writeln!(text, "  local {} = {value}", arg.name);
                arg.name.clone_into(&mut value);
            }
        }
        fields.push(format!("{} = {value}", arg.name));
    }
    let fields = wrapped(&fields, "    ");
    format!("\nfunction read.{}(argv)\n{text}  return {{\n{fields}  }}\nend\n", transition.name)
}

/// With commas between, in lines that are not too long.
fn wrapped(parts: &[String], indent: &str) -> String {
    let (mut text, mut line) = (String::new(), String::new());
    for part in parts {
        if !line.is_empty() && indent.len() + line.len() + part.len() > WIDTH {
            let _ = writeln!(text, "{indent}{}", line.trim_end());
            line.clear();
        }
        let _ = write!(line, "{part}, ");
    }
    let _ = writeln!(text, "{indent}{}", line.trim_end());
    text
}

/// Of a line.
const WIDTH: usize = 110;

fn places(way: &ShortWay) -> String {
    let fields = way.has_fields.then_some("fields");
    let names = way.arguments().map(|arg| arg.name).chain(fields);
    let places: Vec<String> = names.zip(1..).map(|(name, place)| format!("{name} = {place}")).collect();
    format!("  {} = {{\n{}  }},\n", way.name, wrapped(&places, "    "))
}
