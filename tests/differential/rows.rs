//! What COMMAND says of the commands that both know: arity, flags, keys, categories, tips, and the argument tree of DOCS.
//!
//! Summaries, complexities, histories and notes are in our own words and not compared. Neither is what came after 7.0.

use crate::pair::Pair;
use crate::support::{Client, Value, show};
use crate::usage::is_known_in;

/// What rows say otherwise than 7.0.15 on purpose: full name, what of it, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    (
        "bitop",
        "arguments",
        "7.2 names the operations, 7.0 has a text there",
    ),
    ("zrank", "arity", "7.2 takes WITHSCORE"),
    ("zrevrank", "arity", "7.2 takes WITHSCORE"),
];

fn is_meant(name: &str, what: &str) -> bool {
    DIFFERENCES
        .iter()
        .any(|(named, of, _)| *named == name && *of == what)
}

/// A map of RESP2's flat arrays, or an empty one.
fn field(value: &Value, name: &str) -> Value {
    value.field(name).unwrap_or(Value::NilBulk)
}

fn sorted(value: &Value) -> Vec<String> {
    let mut words: Vec<String> = value.items().iter().map(show).collect();
    words.sort();
    words
}

/// Key specs without their notes.
fn specs(value: &Value) -> Vec<String> {
    let specs = value.items();
    let fields = |spec: &Value| {
        ["begin_search", "find_keys"]
            .map(|name| show(&field(spec, name)))
            .join(" ")
    };
    specs
        .iter()
        .map(|spec| format!("{} {:?}", fields(spec), sorted(&field(spec, "flags"))))
        .collect()
}

/// Compares an entry of COMMAND INFO, and those of its subcommands that both have.
fn compare_info(redis: &Value, quoit: &Value, found: &mut Vec<String>) {
    let (theirs, ours) = (redis.items(), quoit.items());
    let name = theirs[0].text();
    type Normal = fn(&Value) -> Vec<String>;
    let parts: [(&str, usize, Normal); 8] = [
        ("arity", 1, |value| vec![show(value)]),
        ("flags", 2, sorted),
        ("first key", 3, |value| vec![show(value)]),
        ("last key", 4, |value| vec![show(value)]),
        ("key step", 5, |value| vec![show(value)]),
        ("categories", 6, sorted),
        ("tips", 7, sorted),
        ("key specs", 8, specs),
    ];
    for (what, index, normal) in parts {
        let (redis, quoit) = (normal(&theirs[index]), normal(&ours[index]));
        if redis != quoit && !is_meant(&name, what) {
            found.push(format!(
                "{name}: {what}\n  redis: {}\n  quoit: {}",
                redis.join(" "),
                quoit.join(" ")
            ));
        }
    }
    for subcommand in theirs[9].items() {
        let name = subcommand.items()[0].clone();
        if let Some(ours) = ours[9].items().iter().find(|ours| ours.items()[0] == name) {
            compare_info(&subcommand, ours, found);
        }
    }
}

fn ask(client: &mut Client, words: &[&str]) -> Vec<Value> {
    client.run(words).items()
}

#[test]
fn command_info_agrees() {
    let Some(pair) = Pair::start("command_info_agrees") else {
        return;
    };
    let (mut redis, mut quoit) = (pair.redis.client(), pair.quoit.client());
    let ours = ask(&mut quoit, &["COMMAND"]);
    let mut found = Vec::new();
    let mut count = 0;
    for redis in ask(&mut redis, &["COMMAND"]) {
        let name = redis.items()[0].clone();
        if let Some(quoit) = ours.iter().find(|ours| ours.items()[0] == name) {
            count += 1;
            compare_info(&redis, quoit, &mut found);
        }
    }
    assert!(count > 60, "only {count} commands that both know");
    assert!(
        found.is_empty(),
        "{} differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// The argument tree in one line, without what came after the oracle.
fn tree(arguments: &Value) -> String {
    if arguments.is_nil() {
        return String::new();
    }
    let known: Vec<Value> = arguments
        .items()
        .into_iter()
        .filter(is_known_in_docs)
        .collect();
    let shown = known.iter().map(|argument| {
        let plain = [
            "name",
            "type",
            "key_spec_index",
            "token",
            "since",
            "deprecated_since",
        ]
        .map(|name| show(&field(argument, name)));
        let flags = argument
            .field("flags")
            .map(|flags| sorted(&flags).join("+"));
        let members = tree(&field(argument, "arguments"));
        format!(
            "({} {} {members})",
            plain.join(" "),
            flags.unwrap_or_default()
        )
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn is_known_in_docs(argument: &Value) -> bool {
    argument
        .field("since")
        .is_none_or(|since| is_known_in(&since.text()))
}

#[test]
fn command_docs_agree() {
    let Some(pair) = Pair::start("command_docs_agree") else {
        return;
    };
    let (mut redis, mut quoit) = (pair.redis.client(), pair.quoit.client());
    let [theirs, ours] = [&mut redis, &mut quoit].map(|client| client.run(&["COMMAND", "DOCS"]));
    let mut found = Vec::new();
    let mut count = 0;
    for pair in theirs.items().chunks_exact(2) {
        if let Some(ours) = ours.field(&pair[0].text()) {
            count += 1;
            compare_docs(&pair[0].text(), &pair[1], &ours, &mut found);
        }
    }
    assert!(count > 60, "only {count} commands that both know");
    assert!(
        found.is_empty(),
        "{} differ:\n{}",
        found.len(),
        found.join("\n")
    );
}

fn compare_docs(name: &str, redis: &Value, quoit: &Value, found: &mut Vec<String>) {
    for what in [
        "group",
        "since",
        "deprecated_since",
        "doc_flags",
        "arguments",
    ] {
        let [theirs, ours] = [redis, quoit].map(|docs| match (what, field(docs, what)) {
            ("arguments", arguments) => tree(&arguments),
            (_, value) => show(&value),
        });
        if theirs != ours && !is_meant(name, what) {
            found.push(format!(
                "{name}: {what}\n  redis: {theirs}\n  quoit: {ours}"
            ));
        }
    }
    if let (Some(theirs), Some(ours)) = (redis.field("subcommands"), quoit.field("subcommands")) {
        for pair in theirs.items().chunks_exact(2) {
            if let Some(ours) = ours.field(&pair[0].text()) {
                compare_docs(&pair[0].text(), &pair[1], &ours, found);
            }
        }
    }
}
