//! What the Lua of a transition reads of the table of its arguments, and what it hands on of it.

use std::collections::BTreeSet;

use stepfleet_contract::{Arg, Form, TRANSITIONS};

/// A function of the Lua: its parameters, and its text up to the `end` that is indented as its head is.
#[derive(Clone, Debug)]
pub(crate) struct Function<'a> {
    pub(crate) params: Vec<&'a str>,
    pub(crate) body: &'a str,
}

/// The function of that name, if there is one.
pub(crate) fn function<'a>(code: &'a str, name: &str) -> Option<Function<'a>> {
    let heads = ["function ", "function across.", "function kin."].map(|head| format!("{head}{name}("));
    let heads = heads.into_iter().chain([format!("{name} = function(")]);
    // At the beginning of a line, whatever its indent.
    let is_head = |(at, _): &(usize, &str)| {
        let line = code[..*at].rsplit('\n').next().unwrap_or_default().trim_start();
        line.is_empty() || line == "local "
    };
    let at =
        heads.into_iter().find_map(|head| Some(code.match_indices(head.as_str()).find(is_head)?.0 + head.len()))?;
    let start = code[..at].rfind('\n').map_or(0, |line| line + 1);
    let indent = &code[start..][..code[start..].len() - code[start..].trim_start().len()];
    let params = code[at..].split(')').next().unwrap_or_default().split(", ").collect();
    let end = code[at..].find(&format!("\n{indent}end\n")).map_or(code.len(), |end| at + end);
    Some(Function { params, body: &code[at..end] })
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The fields of the table `of` that the text names.
pub(crate) fn fields<'a>(text: &'a str, of: &str) -> BTreeSet<&'a str> {
    let mark = format!("{of}.");
    let is_whole = |at: usize| !text[..at].ends_with(|c| is_of_name(c) || c == '.');
    let found = text.match_indices(&mark).filter(|(at, _)| is_whole(*at));
    found.filter_map(|(at, _)| text[at + mark.len()..].split(|c| !is_of_name(c)).next()).collect()
}

/// The names that a table in the text is made with: those in front of ` = `.
pub(crate) fn names(text: &str) -> BTreeSet<&str> {
    let name = |(at, _): (usize, &str)| text[..at].rsplit(|c| !is_of_name(c)).next();
    text.match_indices(" = ").filter_map(name).collect()
}

/// The fields of its parameter of that number that a function names, and those that it hands the table on to.
pub(crate) fn named_by<'a>(code: &'a str, name: &str, param: usize) -> BTreeSet<&'a str> {
    let (mut seen, mut named) = (BTreeSet::new(), BTreeSet::new());
    follow(code, name, param, &mut seen, &mut named);
    named
}

fn follow<'a>(
    code: &'a str,
    name: &str,
    param: usize,
    seen: &mut BTreeSet<(String, usize)>,
    named: &mut BTreeSet<&'a str>,
) {
    if !seen.insert((name.to_owned(), param)) {
        return;
    }
    let function = function(code, name).unwrap_or_else(|| panic!("{name} is not in the Lua"));
    let table = function.params[param];
    named.extend(fields(function.body, table));
    for (at, _) in function.body.match_indices('(') {
        let callee = function.body[..at].rsplit(|c| !is_of_name(c)).next().unwrap_or_default();
        let given: Vec<&str> =
            function.body[at + 1..].split(['(', ')', '\n']).next().unwrap_or_default().split(", ").collect();
        let Some(place) = given.iter().position(|one| *one == table) else { continue };
        if self::function(code, callee).is_some() {
            follow(code, callee, place, seen, named);
        }
        // What acts under the fence is given the table last.
        for other in given.iter().filter(|one| **one != table) {
            if let Some(act) = self::function(code, other).filter(|act| act.params.len() > 1) {
                follow(code, other, act.params.len() - 1, seen, named);
            }
        }
    }
}

#[test]
fn what_is_named_is_found_where_the_table_is_handed_on() {
    let code = "\
local function f(p, c)
  return c.two
end
local function g(x, a, act)
  return act(x, a), a.three, ba.no
end
local function h(p, a)
  if a.one == '1' then return g(p, a, f) end
end
";
    assert_eq!(named_by(code, "h", 1), BTreeSet::from(["one", "three", "two"]));
    assert_eq!(names("{ a = 1, again = b == '1' }"), BTreeSet::from(["a", "again"]));
}

/// Lua finds it by its place, and whatever came after it would be taken for it.
#[test]
fn only_the_last_argument_may_be_left_out() {
    for transition in TRANSITIONS {
        let args: Vec<&Arg> = transition.arguments().collect();
        let before = &args[..args.len().saturating_sub(1)];
        assert!(before.iter().all(|arg| arg.form != Form::Optional), "{}", transition.name);
    }
}
