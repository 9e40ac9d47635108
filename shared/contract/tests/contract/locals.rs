//! The library is one chunk of Lua, which has at most 200 locals at a time. One more, and Redis takes none of it.

use super::sources::{LUA, REDIS, between, code, read};

/// What Lua allows.
const MOST: usize = 200;
/// Where it is time to make room.
const ENOUGH: usize = 195;

/// A block that is open: whether it is a function, and how many locals it has so far.
struct Block {
    is_function: bool,
    locals: usize,
}

/// How many locals the statement on this line declares.
fn declared(line: &str) -> usize {
    let Some(rest) = line.trim_start().strip_prefix("local ") else { return 0 };
    let names = rest.split('=').next().unwrap_or_default();
    if names.starts_with("function ") { 1 } else { names.split(',').count() }
}

fn without_literals(line: &str) -> String {
    let mut within = None;
    let is_outside = |c: &char| {
        match within {
            None if matches!(c, '\'' | '"') => within = Some(*c),
            Some(quote) if quote == *c => within = None,
            None => return true,
            Some(_) => {}
        }
        false
    };
    line.chars().filter(is_outside).collect()
}

/// The most locals that are there at a time outside of functions, and the line that declares the last of them.
fn most_locals(code: &str) -> (usize, &str) {
    let (mut blocks, mut most) = (vec![Block { is_function: false, locals: 0 }], (0, ""));
    for line in code.lines() {
        if blocks.iter().all(|block| !block.is_function) {
            blocks.last_mut().expect("the chunk").locals += declared(line);
            let count = blocks.iter().map(|block| block.locals).sum();
            if count > most.0 {
                most = (count, line);
            }
        }
        for word in without_literals(line).split(|c: char| !c.is_alphanumeric() && c != '_') {
            match word {
                "function" | "do" | "if" | "repeat" => {
                    blocks.push(Block { is_function: word == "function", locals: 0 });
                }
                "end" | "until" => drop(blocks.pop()),
                _ => {}
            }
        }
    }
    assert_eq!(blocks.len(), 1, "each block ends");
    most
}

/// The library as Redis gets it, without comments.
fn library() -> String {
    let list = read(&format!("{REDIS}/functions.rs"));
    between(&list, "include_str!(\"lua/", '"').map(|file| code(&read(&format!("{LUA}/{file}")))).collect()
}

#[test]
fn there_is_room_for_more_locals_in_the_library() {
    let library = library();
    let (count, line) = most_locals(&library);
    println!("{count} locals; {} are left", MOST - count);
    assert!(
        count <= ENOUGH,
        "the Lua library has {count} locals at once, the last of them in `{line}`. With more than {MOST}, Redis refuses to \
         load it, and every test fails. Make room: put what only one file needs between `do` and `end` and declare before \
         it what others call, or make functions that belong together fields of one table, as those of `kin` are"
    );
}

#[test]
fn locals_of_functions_and_of_blocks_that_have_ended_take_no_room() {
    let code = "\
local a, b = 1, 2
local function f(x)
  local in_f = x
  for _, y in ipairs(x) do in_f = y end
end
do
local c
local d = function(x) if x then return \"it's\", 'do' end end
d(c)
end
local e
function t.g() local in_g = 1 end
";
    assert_eq!(most_locals(code), (5, "local d = function(x) if x then return \"it's\", 'do' end end"));
}
