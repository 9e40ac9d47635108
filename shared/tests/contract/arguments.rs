//! The arguments that the Lua of a transition reads, in order.

use stepfleet::contract::Form;

/// An argument that is read: its name, and what Lua makes of it. No name where it goes into a call right away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) name: Option<String>,
    pub(crate) how: How,
}

/// What Lua makes of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Plain,
    Number,
    Flag,
    List,
}

impl How {
    /// Whether an argument of this form may be read so.
    pub(crate) fn fits(self, form: Form) -> bool {
        match self {
            // What is passed on may have any form but that of a list.
            Self::Plain => matches!(form, Form::Text | Form::Bytes | Form::Ms),
            Self::Number => matches!(form, Form::Number | Form::Ms),
            Self::Flag => form == Form::Flag,
            Self::List => matches!(form, Form::List(_)),
        }
    }
}

/// The text of a function: from its head to the `end` that is indented as its head is.
pub(crate) fn body<'a>(code: &'a str, name: &str) -> Option<&'a str> {
    let heads = [format!(".{name}(keys, argv)"), format!("function {name}("), format!("{name} = function(")];
    let at = heads.iter().find_map(|head| code.find(head))?;
    let start = code[..at].rfind('\n').map_or(0, |at| at + 1);
    let text = &code[start..];
    let indent = &text[..text.len() - text.trim_start().len()];
    let end = text.find(&format!("\n{indent}end\n")).unwrap_or(text.len());
    Some(&text[..end])
}

/// What the function reads with its cursor.
pub(crate) fn read_by(code: &str, name: &str) -> Vec<Read> {
    let body = body(code, name).unwrap_or_else(|| panic!("{name} is not in the Lua"));
    let own = body.lines().flat_map(|line| read_in(code, line));
    let Some(rest) = body.split("return under_fence(keys, argv, ").nth(1) else { return own.collect() };
    let request: Vec<Read> = match rest.split(',').next().unwrap_or_default() {
        "read" => own.collect(),
        "take_list" => {
            let name = rest.split(')').next().and_then(|head| head.rsplit(' ').next()).map(str::to_owned);
            vec![Read { name, how: How::List }]
        }
        other => read_by(code, other),
    };
    [read_by(code, "under_fence"), request].concat()
}

fn read_in(code: &str, line: &str) -> Vec<Read> {
    let line = line.trim().trim_start_matches("local ");
    if !line.contains("arg()") && !line.contains("(arg)") || line.starts_with("function") || line.starts_with("for ") {
        return vec![];
    }
    if let Some(table) = line.strip_prefix("return {") {
        let fields = top_level(table.trim_end_matches('}'));
        let pairs = fields.iter().filter_map(|field| field.split_once(" = "));
        return pairs.flat_map(|(name, value)| one(code, Some(name), value)).collect();
    }
    let Some((names, values)) = line.split_once(" = ") else { return one(code, None, line) };
    let names: Vec<&str> = names.split(", ").collect();
    let values = top_level(values);
    values.iter().enumerate().flat_map(|(at, value)| one(code, names.get(at).copied(), value)).collect()
}

/// What one expression reads.
fn one(code: &str, name: Option<&str>, value: &str) -> Vec<Read> {
    let value = value.trim();
    let read = |name: Option<&str>, how| {
        let name = name.map(|name| name.trim().rsplit('.').next().unwrap_or_default().to_owned());
        Read { name, how }
    };
    match value {
        "arg()" => return vec![read(name, How::Plain)],
        "tonumber(arg())" => return vec![read(name, How::Number)],
        "arg() == '1'" => return vec![read(name, How::Flag)],
        "take_list(arg)" | "take_list(arg)[1]" => return vec![read(name, How::List)],
        // What is read of the request is known to the caller.
        "read(arg)" => return vec![],
        _ => {}
    }
    if let Some(helper) = value.strip_suffix("(arg)") {
        return read_by(code, helper);
    }
    let mut places: Vec<(usize, How)> = value.match_indices("take_list(arg)").map(|(at, _)| (at, How::List)).collect();
    places.extend(
        value
            .match_indices("arg()")
            .map(|(at, _)| (at, if value[..at].ends_with("tonumber(") { How::Number } else { How::Plain })),
    );
    places.sort_by_key(|(at, _)| *at);
    places.into_iter().map(|(_, how)| read(None, how)).collect()
}

/// The parts between commas that are in no parentheses.
fn top_level(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        match c {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is one").push(c);
    }
    parts
}
