//! The contract (`shared/contract/src/`) is what the Lua, the Rust and the documents say. What is stale fails here.

mod arguments;
mod documents;
mod generated;
mod locals;
mod names;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use stepfleet_contract::{
    DUTIES, FLAGS, Field, JOURNAL, KEYS, LIMITS, LOOKS, RUN_FIELDS, SHORT, SHORT_WAYS, SLOT_LETTERS, STATES,
    STEPS_FIELDS, TIMERS, TRANSITIONS, WORKER_FIELDS, lua,
};

use self::arguments::{fields, function, named_by, names};
use self::sources::{LUA, REDIS, between, code, constants, duration, files, literals, lua, lua_constants, read};

fn set<'a>(items: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    items.into_iter().map(str::to_owned).collect()
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// Kinds that the Lua makes keys of. Those of lanes are in tables.
fn kinds_in_lua() -> BTreeSet<String> {
    let code = lua();
    let tables = ["local LANES = {", "local READY = {"].into_iter().flat_map(|mark| between(&code, mark, '}'));
    let in_tables = tables.flat_map(|table| table.split('\'').skip(1).step_by(2));
    set(fields(&code, "key_of").into_iter().chain(in_tables))
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

/// All keys are made by `key_of`. Where any kind will do, they are looked for and not made.
#[test]
fn no_lua_makes_a_key_by_hand() {
    let code = lua();
    let by_hand = code.match_indices("p .. '").filter(|(at, _)| !code[..*at].ends_with(char::is_alphanumeric));
    let by_hand: Vec<&str> = by_hand.filter_map(|(at, _)| code[at..].lines().next()).collect();
    assert!(by_hand.is_empty(), "{by_hand:?}");
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
    let looks = text.split("local looks").nth(1).and_then(|rest| rest.split('}').next()).unwrap();
    let looks: Vec<&str> = looks.split(" = true").filter_map(|part| part.rsplit(' ').next()).collect();
    assert_eq!(set(looks), set(LOOKS.into_iter().chain([""])), "left: registered without writes");
    let files: BTreeMap<String, String> = files(LUA, ".lua").into_iter().collect();
    for transition in TRANSITIONS {
        let file = files.get(transition.file).unwrap_or_else(|| panic!("{} is not there", transition.file));
        let is_there = function(&code(file), transition.name).is_some();
        assert!(is_there, "{} does not define {}", transition.file, transition.name);
    }
}

/// A transition, or what it hands its arguments on to, reads each of them, and nothing else.
#[test]
fn arguments_are_those_that_the_lua_reads() {
    let code = lua();
    for transition in TRANSITIONS.iter().filter(|transition| transition.name != SHORT) {
        let known: BTreeSet<&str> = transition.arguments().map(|arg| arg.name).collect();
        let named = named_by(&code, transition.name, 1);
        let unread: Vec<_> = known.difference(&named).collect();
        assert!(unread.is_empty(), "{}: the Lua does not read {unread:?}", transition.name);
        for field in named.difference(&known) {
            // What the Lua adds to the table itself.
            let is_added = code.contains(&format!(".{field} = "));
            assert!(is_added, "{}: {field} is not in the contract", transition.name);
        }
    }
}

/// What workers in other languages call gives a transition all that it reads.
#[test]
fn plain_tasks_give_the_transitions_all_arguments() {
    let code = code(&read(&format!("{LUA}/plain.lua")));
    let hold = fields(function(&code, "of_hold").unwrap().body, "given");
    for name in ["register", "heartbeat", "deregister", "claim", "complete", "fail"] {
        let own = function(&code, &format!("v1.{name}")).unwrap().body;
        let mark = [format!(" {name}(keys[1], "), format!(" {name}(p, ")];
        let (at, mark) = mark.iter().find_map(|mark| own.find(mark.as_str()).map(|at| (at, mark))).unwrap();
        let call = own[at + mark.len()..].split("})").next().unwrap();
        let mut given = names(call);
        if call.starts_with("of_hold(") {
            given.extend(&hold);
        }
        let known = TRANSITIONS.iter().find(|transition| transition.name == name).unwrap();
        assert_eq!(given, known.arguments().map(|arg| arg.name).collect(), "v1_{name}: right: in the contract");
    }
}

/// Each word that the Lua of a transition begins a reply with is in the contract, and each word of the contract is in the Lua.
#[test]
fn replies_are_those_of_the_lua() {
    let code = lua();
    let literals = literals(&code);
    for transition in TRANSITIONS {
        let words: Vec<&str> = transition.replies.iter().map(|reply| reply.word).collect();
        let own = function(&code, transition.name).unwrap().body;
        for word in between(own, "return { '", '\'') {
            assert!(words.contains(&word), "{}: the reply {word} is not in the contract", transition.name);
        }
        for word in words.iter().filter(|word| !word.is_empty()) {
            assert!(literals.contains(*word), "{}: the Lua has nothing that says {word}", transition.name);
        }
    }
}

#[test]
fn short_ways_read_the_arguments_of_the_contract() {
    let code = lua();
    let ways = between(&code, "local WAYS = {", '}').next().unwrap();
    let mut ways: Vec<_> = ways.split(',').filter_map(|way| way.trim().split_once(" = ")).collect();
    let known: Vec<(String, &str)> = SHORT_WAYS.iter().map(|way| (way.letter.to_string(), way.name)).collect();
    ways.sort_by_key(|(letter, _)| known.iter().position(|(other, _)| other == letter));
    assert_eq!(ways, known.iter().map(|(letter, name)| (&**letter, *name)).collect::<Vec<_>>());
    let places = code.lines().find_map(|line| line.strip_prefix("local ")?.split_once(" = place_of.")).unwrap();
    let tables: Vec<&str> = places.0.split(", ").collect();
    assert_eq!(
        places.1.split(", place_of.").collect::<Vec<_>>(),
        SHORT_WAYS.iter().map(|way| way.name).collect::<Vec<_>>()
    );
    for (way, table) in SHORT_WAYS.iter().zip(tables) {
        let known = way.arguments().map(|arg| arg.name).chain(way.has_fields.then_some("fields"));
        let read = fields(function(&code, way.name).unwrap().body, table);
        assert_eq!(read, known.collect(), "{}: left: read by the Lua, right: in the contract", way.name);
    }
}

#[test]
fn limits_are_those_of_the_sources() {
    for limit in LIMITS {
        assert!(!limit.at.is_empty());
        for path in limit.at {
            if Path::new(path).extension().is_some_and(|ending| ending == "lua") {
                let code = code(&read(path));
                assert!(fields(&code, "LIMIT").contains(limit.name), "{} is not used in {path}", limit.name);
            } else {
                let found = constants(path).into_iter().find(|(name, _)| name == limit.name);
                assert_eq!(found, Some((limit.name.to_owned(), limit.value)), "{} in {path}", limit.name);
            }
        }
    }
}

#[test]
fn the_lua_has_its_numbers_from_the_contract() {
    let made = lua::render();
    for name in fields(&lua(), "LIMIT") {
        assert!(made.contains(&format!("  {name} = ")), "{name} is not among the limits");
    }
    for (file, text) in files(LUA, ".lua") {
        assert_eq!(lua_constants(&text), [], "these numbers of {file} belong into the contract");
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
    let rust = read("shared/src/core/build.rs");
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
    let fire_timer = function(&code, "fire_timer").unwrap().body;
    for kind in between(fire_timer, "kind == '", '\'') {
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
