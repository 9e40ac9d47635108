//! The contract (`shared/src/contract/`) is what the Lua, the Rust and the documents say. What is stale fails here.

mod arguments;
mod documents;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use stepfleet::contract::{
    DUTIES, FLAGS, Field, JOURNAL, KEYS, LIMITS, RUN_FIELDS, SHORT_WAYS, SLOT_LETTERS, STATES, STEPS_FIELDS, TIMERS,
    TRANSITIONS, WORKER_FIELDS,
};

use self::arguments::{How, body, read_by};
use self::sources::{LUA, REDIS, between, code, constants, duration, files, literals, lua, read};

fn set<'a>(items: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    items.into_iter().map(str::to_owned).collect()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// Kinds that the Lua makes keys of: literals behind the prefix, in tables of kinds, and with a colon at their end.
fn kinds_in_lua() -> BTreeSet<String> {
    let code = lua();
    let behind_prefix = ["p .. '", "keys[1] .. '"].into_iter().flat_map(|mark| between(&code, mark, '\''));
    let ready = between(&code, "local READY = {", '}').flat_map(|table| table.split('\'').skip(1).step_by(2));
    let kinds = behind_prefix.chain(ready).map(|literal| literal.split(':').next().unwrap_or_default().to_owned());
    let literals = literals(&code);
    let with_colon = literals.iter().filter_map(|literal| literal.strip_suffix(':')).filter(|kind| is_word(kind));
    kinds.filter(|kind| is_word(kind)).chain(with_colon.map(str::to_owned)).collect()
}

fn kinds_in_rust() -> BTreeSet<String> {
    let texts: String = files(REDIS, ".rs").into_iter().map(|(_, text)| text).collect();
    set([".key(\"", ".key_of(\""].into_iter().flat_map(|mark| between(&texts, mark, '"').collect::<Vec<_>>()))
}

#[test]
fn each_kind_of_key_is_in_the_contract_and_is_used() {
    let used: BTreeSet<String> = kinds_in_lua().union(&kinds_in_rust()).cloned().collect();
    assert_eq!(used, set(KEYS.iter().map(|key| key.kind)), "left: kinds in the sources, right: in the contract");
}

#[test]
fn what_audits_scan_for_are_kinds_of_the_contract() {
    let text = read("shared/src/store/redis/audit.rs");
    let list = text.split("const KINDS").nth(1).and_then(|rest| rest.split("];").next()).unwrap();
    let kinds = set(list.split('"').skip(1).step_by(2));
    let known = set(KEYS.iter().map(|key| key.kind));
    assert!(kinds.len() > 10 && kinds.is_subset(&known), "{kinds:?}");
}

#[test]
fn each_function_is_in_the_contract_and_in_the_file_that_it_names() {
    let text = code(&read(&format!("{LUA}/register.lua")));
    // Those of plain tasks stay as they are: docs/protocol.md lists them, and a worker in Python calls them.
    let registered = set(between(&text, "{ '", '\'').filter(|name| !name.starts_with("v1_")));
    assert_eq!(registered, set(TRANSITIONS.iter().map(|t| t.name)), "left: registered, right: in the contract");
    let files: BTreeMap<String, String> = files(LUA, ".lua").into_iter().collect();
    for transition in TRANSITIONS {
        let file = files.get(transition.file).unwrap_or_else(|| panic!("{} is not there", transition.file));
        assert!(
            body(&code(file), transition.name).is_some(),
            "{} does not define {}",
            transition.file,
            transition.name
        );
    }
}

/// The order, the names, and what can be told of the forms.
#[test]
fn arguments_are_those_that_the_lua_reads() {
    let code = lua();
    for transition in TRANSITIONS.iter().filter(|t| !["short", "waits"].contains(&t.name)) {
        let args: Vec<_> = transition.args.iter().flat_map(|group| group.iter()).collect();
        let read = read_by(&code, transition.name);
        let named: Vec<_> =
            read.iter().zip(&args).map(|(read, arg)| read.name.as_deref().unwrap_or(arg.name)).collect();
        assert_eq!(read.len(), args.len(), "{}: the Lua reads {read:?}", transition.name);
        assert_eq!(named, args.iter().map(|arg| arg.name).collect::<Vec<_>>(), "{}", transition.name);
        for (read, arg) in read.iter().zip(&args) {
            assert!(read.how.fits(arg.form), "{}: {} is read as {:?}", transition.name, arg.name, read.how);
        }
    }
    let waits = body(&code, "waits").unwrap();
    let last = (1..9).rev().find(|at| waits.contains(&format!("argv[{at}]")));
    assert_eq!(last, TRANSITIONS.iter().find(|t| t.name == "waits").map(|t| t.args[0].len()));
}

/// Each reply that the Lua of a transition begins with a word is in the contract, and each word of the contract is in the Lua.
#[test]
fn replies_are_those_of_the_lua() {
    let code = lua();
    let literals = literals(&code);
    for transition in TRANSITIONS {
        let own = body(&code, transition.name).unwrap();
        for word in between(own, "return { '", '\'') {
            let is_known = transition.replies.iter().any(|reply| reply.starts_with(word));
            assert!(is_known, "{}: the reply {word} is not in the contract", transition.name);
        }
        for reply in transition.replies.iter().filter(|_| transition.replies.len() > 1) {
            let is_there = literals
                .iter()
                .any(|word| !word.is_empty() && reply.starts_with(word.as_str()) && is_word(&word.replace(' ', "_")));
            assert!(is_there, "{}: the Lua has nothing that says {reply}", transition.name);
        }
    }
}

#[test]
fn arguments_are_read_from_text_as_they_are_written() {
    let code = "local function f(keys, argv)\n  local a, b, c = arg(), tonumber(arg()), arg() == '1'\n  g(take_list(arg))\nend\n";
    let how: Vec<_> = read_by(code, "f").into_iter().map(|read| (read.name, read.how)).collect();
    let named = |name: &str, how| (Some(name.to_owned()), how);
    assert_eq!(how, [named("a", How::Plain), named("b", How::Number), named("c", How::Flag), (None, How::List)]);
}

#[test]
fn short_ways_have_their_arguments_at_these_places() {
    let code = lua();
    let ways = between(&code, "local WAYS = {", '}').next().unwrap();
    let ways: Vec<_> = ways.split(',').filter_map(|way| way.trim().split_once(" = ")).collect();
    let known: Vec<(String, &str)> = SHORT_WAYS.iter().map(|way| (way.letter.to_string(), way.name)).collect();
    let mut found: Vec<(String, &str)> = ways.into_iter().map(|(letter, name)| (letter.to_owned(), name)).collect();
    found.sort_by_key(|(letter, _)| known.iter().position(|(other, _)| other == letter));
    assert_eq!(found, known);
    let rust = read("shared/src/store/redis/short.rs");
    for way in SHORT_WAYS {
        assert!(rust.contains(&format!("=> \"{}\"", way.letter)), "{} is not in short.rs", way.letter);
        let body = body(&code, way.name).unwrap();
        let places = |mark| between(body, mark, ']').filter_map(|place| place.parse::<usize>().ok()).max();
        assert_eq!(places("argv[at + "), Some(way.args.len()), "{}", way.name);
        let fields = between(body, "unpack(argv, at + ", ',').next().and_then(|place| place.parse::<usize>().ok());
        assert_eq!(fields, way.has_fields.then_some(way.args.len() + 1), "{}", way.name);
    }
}

#[test]
fn limits_are_those_of_the_sources() {
    for limit in LIMITS {
        assert!(!limit.at.is_empty());
        for path in limit.at {
            let found = constants(path).into_iter().find(|(name, _)| name == limit.name);
            assert_eq!(found, Some((limit.name.to_owned(), limit.value)), "{} in {path}", limit.name);
        }
    }
}

#[test]
fn each_number_that_the_lua_has_a_name_for_is_in_the_contract() {
    for (file, _) in files(LUA, ".lua") {
        let path = format!("{LUA}/{file}");
        for (name, value) in constants(&path) {
            let is_known = LIMITS.iter().any(|limit| limit.name == name && limit.at.contains(&path.as_str()));
            assert!(is_known, "{name} = {value} of {path} is not among the limits");
        }
    }
}

#[test]
fn states_flags_and_letters_of_slots_are_those_of_the_lua() {
    let code = lua();
    let about = between(&code, "local ABOUT = {", '}').next().unwrap();
    let states: BTreeSet<char> = between(about, " ", ' ')
        .filter(|word| word.len() == 1)
        .filter_map(|word| word.chars().next())
        .filter(char::is_ascii_uppercase)
        .collect();
    assert_eq!(states, STATES.iter().map(|one| one.letter).collect());
    let flags: Vec<&str> = between(&code, "([", '%').filter(|flags| is_word(flags)).collect();
    let known: String = FLAGS.iter().map(|one| one.letter).collect();
    assert!(!flags.is_empty() && flags.iter().all(|&found| found == known), "{flags:?}");
    for one in SLOT_LETTERS {
        assert!(code.contains(&format!("'{}'", one.letter)), "{}", one.letter);
    }
}

/// Fields with a name of their own are in the Lua as a literal; others as their letter with something behind.
#[test]
fn fields_are_those_of_the_lua() {
    let code = lua();
    // What a worker tells of itself, Lua only passes on.
    let rust = read("shared/src/store/redis/mod.rs");
    let is_used = |field: &Field| {
        let (letter, rest) = field.name.split_once('<').unwrap_or((field.name, ""));
        let literal = format!("'{letter}'");
        match (letter, rest) {
            ("", _) => true,
            (_, "") => code.contains(&literal) || rust.contains(&format!("\"{letter}\"")),
            _ => code.contains(&format!("{literal} .. ")),
        }
    };
    for field in STEPS_FIELDS.iter().chain(RUN_FIELDS).chain(WORKER_FIELDS) {
        assert!(is_used(field), "the field {} is not in the Lua", field.name);
    }
    let letters = set(between(&code, "steps, '", '\'').filter(|literal| literal.len() == 1));
    let known = set(STEPS_FIELDS.iter().filter_map(|field| field.name.split_once('<').map(|(letter, _)| letter)));
    assert!(letters.len() > 4 && letters.is_subset(&known), "{letters:?} in the Lua, {known:?} in the contract");
}

#[test]
fn timers_and_entries_of_journals_are_those_of_the_lua() {
    let code = lua();
    for timer in TIMERS {
        assert!(code.contains(&format!("'{} ' ..", timer.name)), "no timer {}", timer.name);
    }
    let fire = body(&code, "fire").unwrap();
    for kind in between(fire, "kind == '", '\'') {
        assert!(TIMERS.iter().any(|timer| timer.name == kind), "the timer {kind} is not in the contract");
    }
    let rust = read("shared/src/journal.rs");
    for entry in JOURNAL {
        let is_there = ["'", "\""].iter().any(|quote| rust.contains(&format!("{quote}{}{quote}", entry.name)));
        assert!(is_there, "no entry {} in journal.rs", entry.name);
    }
}

#[test]
fn duties_are_those_of_the_coordinator() {
    let (duties, config) = (read("coordinator/src/duties.rs"), read("coordinator/src/config.rs"));
    let names = set(between(&duties, "=> \"", '"'));
    assert_eq!(names, set(DUTIES.iter().map(|duty| duty.name)));
    for duty in DUTIES.iter().filter(|duty| !duty.setting.is_empty()) {
        let set = config.lines().find_map(|line| line.trim().strip_prefix(&format!("{}: ", duty.setting)));
        let pause = set.and_then(|value| duration(value.trim_end_matches(',')));
        assert_eq!(pause, Some(duty.pause_ms), "{}", duty.name);
    }
}
