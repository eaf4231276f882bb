//! The house rules that a program can check: layers, doors of dependencies, banned words, heads of files, a test for every
//! command, and README's list of commands.
//!
//! What it reads is text, not syntax: strings and comments are told apart well enough for this crate, and no further.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A folder of src/ may use those before it, never one after it.
const LAYERS: &[&str] = &[
    "base", "config", "data", "resp", "table", "script", "keyspace", "commands", "cluster",
    "state", "admin", "dispatch", "server",
];

/// Which files may name a crate: dependencies enter by one door.
const DOORS: &[(&str, &[&str])] = &[
    ("redis_protocol", &["src/resp/"]),
    (
        "hashbrown",
        &[
            "src/keyspace/mod.rs",
            "src/keyspace/lock.rs",
            "src/keyspace/partition.rs",
            "src/keyspace/tracking.rs",
            "src/data/dense",
            "src/data/index",
        ],
    ),
    (
        "dashmap",
        &[
            "src/keyspace/mod.rs",
            "src/keyspace/lock.rs",
            "src/keyspace/partition.rs",
            // A registry with one key.
            "src/state/scripts.rs",
        ],
    ),
    ("hashring", &["src/cluster/ring.rs"]),
    ("mlua", &["src/script/"]),
    ("rustls", &["src/server/tls.rs"]),
];

/// The only files that lift the ban of unsafe code.
const UNSAFE: &[&str] = &[
    "src/keyspace/entry.rs",
    "src/keyspace/entry/slab.rs",
    "src/keyspace/partition.rs",
];

/// Words that must not stand in any source.
const BANNED: &[&str] = &[
    "FIXME",
    "XXX",
    "dbg!(",
    "todo!(",
    "unimplemented!(",
    "#[ignore",
];

struct Source {
    /// Below the crate, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// Lines with their numbers from 1, without what belongs to tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if is_test_file(&self.path) {
            0
        } else {
            self.tests_begin()
        };
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .take(end)
    }

    /// The index of the line that begins the unit tests.
    fn tests_begin(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        lines
            .windows(2)
            .position(|pair| {
                pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
            })
            .unwrap_or(lines.len())
    }

    fn layer(&self) -> Option<usize> {
        let folder = self.path.strip_prefix("src/")?.split('/').next()?;
        let folder = folder.strip_suffix(".rs").unwrap_or(folder);
        LAYERS.iter().position(|layer| *layer == folder)
    }
}

fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.starts_with("tests/")
        || ["tests.rs", "testing.rs", "properties.rs"].contains(&name)
        || name.ends_with("_tests.rs")
        || path.contains("/tests/")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with this ending.
fn sources(folder: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == ending)
            {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let below = path.strip_prefix(root()).expect("it is below the crate");
                found.push(Source {
                    path: below.to_string_lossy().into_owned(),
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(folder != "src" || found.len() > 20, "the sources are found");
    found
}

/// The line without its comment. A `//` in a string counts as one if a blank stands before it: none of ours does.
fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.split_once(" // ").map_or(line, |(code, _)| code)
}

#[track_caller]
fn report(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

fn is_word_at(text: &str, at: usize, len: usize) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    !text[..at].ends_with(is_part) && !text[at + len..].starts_with(is_part)
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(at, _)| is_word_at(text, at, word.len()))
}

/// What follows each `crate::`: one name, or those of a group in braces.
fn used_layers(code: &str) -> Vec<&str> {
    let mut used = Vec::new();
    for (at, word) in code.match_indices("crate::") {
        if !is_word_at(code, at, "crate".len()) {
            continue;
        }
        let rest = &code[at + word.len()..];
        let group = match rest.strip_prefix('{') {
            Some(group) => group,
            None => {
                used.push(first_name(rest));
                continue;
            }
        };
        let mut depth = 0;
        let mut begin = true;
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begin = true,
                _ if begin && c.is_alphabetic() => {
                    used.push(first_name(&group[index..]));
                    begin = false;
                }
                _ => {}
            }
        }
    }
    used
}

fn first_name(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

#[test]
fn used_layers_are_found() {
    // Aim: the check below sees every form that an import has.
    assert_eq!(
        used_layers(
            "use crate::data::number; use crate::{resp::{a, b}, table, base::x}; pub(crate) fn crate::state::f()"
        ),
        ["data", "resp", "table", "base", "state"]
    );
}

#[test]
fn layers_use_only_those_below() {
    let mut found = Vec::new();
    for source in sources("src", "rs") {
        let Some(layer) = source.layer() else {
            continue;
        };
        let lines: Vec<&str> = source
            .code()
            .map(|(_, line)| without_comment(line))
            .collect();
        for used in used_layers(&lines.join("\n")) {
            match LAYERS.iter().position(|known| *known == used) {
                Some(rank) if rank > layer => found.push(format!("{} uses {used}", source.path)),
                Some(_) => {}
                None => found.push(format!(
                    "{} uses crate::{used}, which is no layer",
                    source.path
                )),
            }
        }
    }
    report("a layer uses one above it", found);
}

#[test]
fn every_folder_is_a_layer() {
    let folders: BTreeSet<String> = fs::read_dir(root().join("src"))
        .expect("there are sources")
        .map(|entry| entry.expect("the folder can be read"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let layers = LAYERS.iter().map(|layer| (*layer).to_owned()).collect();
    assert_eq!(folders, layers);
}

#[test]
fn every_file_is_compiled() {
    // Aim: a file that no `mod` names is dead, and nothing else would say so.
    let all = sources("src", "rs");
    let mut found = Vec::new();
    for source in &all {
        let path = Path::new(&source.path);
        let stem = path.file_stem().expect("it is a file").to_string_lossy();
        let folder = path.parent().expect("it is in src");
        let (parents, name) = match &*stem {
            "main" | "lib" => continue,
            "mod" => (
                folder.parent().expect("src has no mod.rs"),
                folder.file_name().expect("a folder").to_string_lossy(),
            ),
            _ => (folder, stem.clone()),
        };
        let by_path = format!("#[path = \"{stem}.rs\"]");
        if all.iter().any(|other| {
            Path::new(&other.path).parent() == Some(folder) && other.text.contains(&by_path)
        }) {
            continue;
        }
        let candidates = [
            parents.join("mod.rs"),
            parents.join("lib.rs"),
            parents.with_extension("rs"),
        ];
        let declared = all
            .iter()
            .filter(|other| candidates.iter().any(|path| Path::new(&other.path) == path))
            .any(|other| other.text.contains(&format!("mod {name};")));
        if !declared {
            found.push(source.path.clone());
        }
    }
    report("no module declares", found);
}

#[test]
fn dependencies_enter_by_one_door() {
    let mut found = Vec::new();
    for source in sources("src", "rs")
        .iter()
        .chain(&sources("examples", "rs"))
    {
        for (number, line) in source.code() {
            for (name, doors) in DOORS {
                let is_door = doors.iter().any(|door| source.path.starts_with(door));
                if !is_door && has_word(without_comment(line), name) {
                    found.push(format!("{}:{number} names {name}", source.path));
                }
            }
        }
    }
    report("a dependency is named outside its door", found);
}

#[test]
fn unsafe_stays_where_it_is_allowed() {
    let mut found = Vec::new();
    for source in sources("src", "rs")
        .iter()
        .chain(&sources("examples", "rs"))
    {
        let is_allowed = UNSAFE.contains(&source.path.as_str());
        for (number, line) in source.text.lines().enumerate() {
            let code = without_comment(line);
            if !is_allowed && (has_word(code, "unsafe") || has_word(code, "unsafe_code")) {
                found.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    report("unsafe code", found);
    for path in UNSAFE {
        let text = fs::read_to_string(root().join(path)).expect("the list is up to date");
        let blocks = text.matches("unsafe {").count();
        let reasons = text.matches("SAFETY:").count();
        assert!(blocks > 0, "{path} needs the ban lifted no more");
        assert!(
            reasons >= blocks,
            "{path}: {blocks} unsafe blocks, {reasons} SAFETY reasons"
        );
    }
}

#[test]
fn no_banned_words() {
    let mut found = Vec::new();
    let folders = ["src", "tests", "benches", "examples"];
    for source in folders.iter().flat_map(|folder| sources(folder, "rs")) {
        if source.path == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let place = format!("{}:{}: {}", source.path, number + 1, line.trim());
            let is_banned = BANNED.iter().any(|word| line.contains(word))
                || has_word(line, "TODO") && !names_a_condition(line);
            if is_banned {
                found.push(place);
            } else if is_commented_out(line) {
                found.push(format!("{place} (code in a comment?)"));
            }
        }
    }
    report("banned words", found);
}

/// A TODO says what ends it.
fn names_a_condition(line: &str) -> bool {
    ["when ", "once ", "until ", "as soon as "]
        .iter()
        .any(|word| line.contains(word))
}

/// Code that somebody has switched off: a comment that ends or begins as a statement does.
fn is_commented_out(line: &str) -> bool {
    let Some(text) = line.trim_start().strip_prefix("// ") else {
        return false;
    };
    let text = text.trim();
    let begins = [
        "let ", "use ", "pub fn ", "fn ", "return ", "println!", "assert", "#[", "} else", "match ",
    ];
    let ends = [";", "{", "),", ");"];
    text == "}"
        || begins.iter().any(|word| text.starts_with(word))
            && ends.iter().any(|end| text.ends_with(end))
        || text.ends_with(");")
        || text.ends_with(" {")
}

#[test]
fn commented_out_code_is_told_from_prose() {
    for line in [
        "// let x = 1;",
        "    // foo(bar);",
        "// if x {",
        "// }",
        "// use a::b;",
    ] {
        assert!(is_commented_out(line), "{line}");
    }
    for line in [
        "// let it be",
        "/// f(x);",
        "//! a {",
        "// so it is; and stays",
        "// used by `x` (see above),",
    ] {
        assert!(!is_commented_out(line), "{line}");
    }
}

#[test]
fn files_open_with_what_they_are() {
    let folders = ["src", "tests", "benches", "examples"];
    let all = folders.iter().flat_map(|folder| sources(folder, "rs"));
    let found = all
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path);
    report("a file opens without //!", found.collect());
}

#[test]
fn sockets_and_sleeps_stay_out_of_unit_tests() {
    let mut found = Vec::new();
    for source in sources("src", "rs") {
        // These ask redis-server, for what only unit tests can compare with it.
        if ["src/table/docs_tests.rs", "src/admin/info/tests.rs"].contains(&source.path.as_str()) {
            continue;
        }
        let begin = if is_test_file(&source.path) {
            0
        } else {
            source.tests_begin()
        };
        for (number, line) in source.text.lines().enumerate().skip(begin) {
            let code = without_comment(line);
            if ["TcpStream", "TcpListener", "UnixStream", "UnixListener"]
                .iter()
                .any(|word| has_word(code, word))
                || code.contains("thread::sleep")
            {
                found.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    report("a unit test uses a socket or sleeps", found);
}

#[test]
fn tests_do_not_sleep() {
    // `within` polls; nothing else may wait for time to pass.
    let mut found = Vec::new();
    for source in sources("tests", "rs") {
        if ["tests/support/mod.rs", "tests/tidy.rs"].contains(&source.path.as_str()) {
            continue;
        }
        // Its time is simulated: it passes when everybody waits.
        let is_simulated = source.path.starts_with("tests/simulation/");
        for (number, line) in source.text.lines().enumerate() {
            let code = without_comment(line);
            if is_simulated && !code.contains("thread::sleep") {
                continue;
            }
            if code.contains("thread::sleep") || code.contains("time::sleep") {
                found.push(format!("{}:{}", source.path, number + 1));
            }
        }
    }
    report("a test sleeps", found);
}

#[test]
fn no_unwrap_outside_tests() {
    // What cannot fail is an `expect` with its reason.
    let mut found = Vec::new();
    for source in sources("src", "rs") {
        for (number, line) in source.code() {
            if without_comment(line).contains(".unwrap()") {
                found.push(format!("{}:{number}", source.path));
            }
        }
    }
    report("an unwrap without a reason", found);
}

/// The words of a text: letters, digits and dashes, as they are written.
fn tokens(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
        .filter(|token| !token.is_empty())
        .collect()
}

#[test]
fn every_command_is_tested() {
    // Aim: the name in capitals, as tests write commands, stands in a test: a subcommand's after its container's.
    let mut texts: Vec<String> = Vec::new();
    for source in sources("src", "rs") {
        let begin = if is_test_file(&source.path) {
            0
        } else {
            source.tests_begin()
        };
        texts.push(
            source
                .text
                .lines()
                .skip(begin)
                .collect::<Vec<_>>()
                .join("\n"),
        );
    }
    for ending in ["rs", "txt", "py", "js", "mjs"] {
        let all = sources("tests", ending);
        texts.extend(
            all.into_iter()
                .filter(|source| source.path != "tests/tidy.rs")
                .map(|source| source.text),
        );
    }
    let mut words: BTreeSet<&str> = BTreeSet::new();
    let mut pairs: BTreeSet<(&str, &str)> = BTreeSet::new();
    for text in &texts {
        let tokens = tokens(text);
        words.extend(&tokens);
        pairs.extend(tokens.windows(2).map(|pair| (pair[0], pair[1])));
    }
    let table = quoit::dispatch::directory();
    let untested = table.entries().iter().filter(|entry| {
        let name = entry.full_name.to_ascii_uppercase();
        match name.split_once('|') {
            Some((parent, name)) => !pairs.contains(&(parent, name)),
            None => !words.contains(name.as_str()),
        }
    });
    report(
        "no test mentions",
        untested.map(|entry| entry.full_name.clone()).collect(),
    );
}

#[test]
fn names_of_commands_stand_in_the_table_only() {
    // `quoit ping` is a client, and says what a client says.
    let table = quoit::dispatch::directory();
    let names: BTreeSet<String> = table
        .commands()
        .map(|entry| entry.full_name.clone())
        .collect();
    let mut found = Vec::new();
    for source in sources("src", "rs") {
        let is_ours = [
            "src/dispatch/",
            "src/server/",
            "src/state/",
            "src/keyspace/",
        ]
        .iter()
        .any(|folder| source.path.starts_with(folder));
        if !is_ours || source.path == "src/server/ping.rs" {
            continue;
        }
        for (number, line) in source.code() {
            let code = without_comment(line);
            let parts: Vec<&str> = code.split('"').collect();
            for at in (1..parts.len()).step_by(2) {
                let is_name = names.contains(&parts[at].to_ascii_lowercase());
                // Records and events are named by what was done: these write names, they compare none.
                let before = parts[at - 1].trim_end_matches('b').trim_end();
                let after = parts.get(at + 1).map_or("", |after| after.trim_start());
                let compares = before.ends_with("==")
                    || before.ends_with("!=")
                    || before.ends_with("eq_ignore_ascii_case(")
                    || after.starts_with("=>")
                    || after.starts_with('|')
                    || after.starts_with("==");
                if is_name && compares {
                    found.push(format!("{}:{number}: {}", source.path, parts[at]));
                }
            }
        }
    }
    report("a command's name is compared outside the table", found);
}

#[test]
fn readme_lists_the_commands() {
    let Ok(readme) = fs::read_to_string(root().join("README.md")) else {
        return println!("there is no README.md yet");
    };
    let Some((_, list)) = readme.split_once("<!-- commands -->") else {
        return println!(
            "README.md has no list of commands between <!-- commands --> and <!-- /commands -->"
        );
    };
    let (list, _) = list
        .split_once("<!-- /commands -->")
        .expect("the list of commands ends");
    let listed: BTreeMap<String, usize> = list
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
        .filter(|word| {
            word.len() > 1
                && word
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "-_".contains(c))
        })
        .fold(BTreeMap::new(), |mut counts, word| {
            *counts.entry(word.to_ascii_lowercase()).or_default() += 1;
            counts
        });
    let table = quoit::dispatch::directory();
    let known: BTreeSet<String> = table
        .commands()
        .map(|entry| entry.full_name.clone())
        .collect();
    let missing = known
        .iter()
        .filter(|name| !listed.contains_key(*name))
        .cloned();
    report("README does not list", missing.collect());
    let unknown = listed.keys().filter(|name| !known.contains(*name)).cloned();
    report(
        "README lists what the table does not have",
        unknown.collect(),
    );
}
