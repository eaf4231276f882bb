//! Libraries: what nodes of a ring tell each other of them.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::*;

/// A library with one function, which is named as the library is.
fn library(name: &str, version: u32) -> Arc<Library> {
    library_with(name, name, version)
}

fn library_with(name: &str, function: &str, version: u32) -> Arc<Library> {
    let text = format!("#!lua name={name}\n-- {function} {version}");
    let text = LibraryText::parse(Bytes::from(text)).expect("a library's text");
    Arc::new(Library {
        text,
        functions: vec![FunctionSpec {
            name: function.to_owned(),
            description: None,
            flags: crate::script::ScriptFlags::empty(),
        }],
        strays: AtomicBool::new(false),
    })
}

/// Makes a library of what [`library_with`] wrote.
fn load(text: &[u8]) -> Option<Arc<Library>> {
    let text = std::str::from_utf8(text).ok()?;
    let (name, rest) = text.strip_prefix("#!lua name=")?.split_once("\n-- ")?;
    let (function, version) = rest.split_once(' ')?;
    Some(library_with(name, function, version.parse().ok()?))
}

fn put(functions: &Functions, library: Arc<Library>, now: i64) {
    let mut change = functions.change();
    change.next.remove(&library.text.name);
    change.next.add(library).expect("the names are free");
    change.commit(Millis(now));
}

fn delete(functions: &Functions, name: &str, now: i64) {
    let mut change = functions.change();
    assert!(change.next.remove(name));
    change.commit(Millis(now));
}

/// `to` learns what `from` knows. Whether that was anything.
fn learn(to: &Functions, from: &Functions) -> bool {
    let news = to.current().news(from.current().states());
    let is_any = !news.is_empty();
    to.change().merge(news, load).expect("all can be loaded");
    is_any
}

fn texts(functions: &Functions) -> Vec<String> {
    let current = functions.current();
    let libraries = current.by_name.values();
    libraries
        .map(|library| String::from_utf8_lossy(&library.text.text).into_owned())
        .collect()
}

/// Aim: a node that comes takes what is there; one that was away takes what was changed and deleted meanwhile, and brings
/// what was changed at it alone.
#[test]
fn nodes_come_to_the_same() {
    let (a, b) = (Functions::default(), Functions::default());
    put(&a, library("one", 1), 100);
    put(&a, library("two", 1), 101);
    assert!(learn(&b, &a));
    assert_eq!(texts(&a), texts(&b));
    assert_eq!(a.current().digest(), b.current().digest());
    assert!(!learn(&b, &a) && !learn(&a, &b));
    put(&a, library("one", 2), 200);
    delete(&a, "two", 201);
    put(&b, library("three", 1), 150);
    assert!(learn(&b, &a));
    assert!(learn(&a, &b));
    assert_eq!(texts(&a).len(), 2);
    assert_eq!(texts(&a), texts(&b));
    assert!(texts(&a)[0].ends_with("one 2"));
    assert!(!learn(&b, &a) && !learn(&a, &b));
    // One that has only what was deleted since.
    let late = Functions::default();
    put(&late, library("two", 1), 99);
    assert!(!learn(&a, &late));
    assert!(learn(&late, &a));
    assert_eq!(texts(&late), texts(&a));
}

/// Aim: two loads of one moment end in the same library everywhere, whoever learns first.
#[test]
fn a_tie_is_decided_the_same_way_everywhere() {
    for first in [true, false] {
        let (a, b) = (Functions::default(), Functions::default());
        put(&a, library("one", 1), 100);
        put(&b, library("one", 2), 100);
        let (x, y) = if first { (&a, &b) } else { (&b, &a) };
        learn(x, y);
        learn(y, x);
        assert_eq!(texts(&a), texts(&b));
        assert!(texts(&a)[0].ends_with("one 2"));
    }
}

#[test]
fn a_change_is_later_than_the_one_before_whatever_the_clock_says() {
    let (a, b) = (Functions::default(), Functions::default());
    put(&a, library("one", 1), 100);
    learn(&b, &a);
    put(&b, library("one", 2), 50);
    assert!(learn(&a, &b));
    assert!(texts(&a)[0].ends_with("one 2"));
}

#[test]
fn what_has_no_room_is_left_out() {
    let (a, b) = (Functions::default(), Functions::default());
    put(&a, library_with("mine", "f", 1), 100);
    put(&b, library_with("theirs", "f", 1), 200);
    put(&b, library("good", 1), 200);
    let news = a.current().news(b.current().states());
    assert_eq!(a.change().merge(news, load), Err(vec!["theirs".to_owned()]));
    let names: Vec<String> = a.current().by_name.keys().cloned().collect();
    assert_eq!(names, ["good", "mine"]);
    // A library that needs the name of another one's function, in place of an older one of its own.
    put(&b, library_with("good", "f2", 2), 300);
    put(&a, library_with("mine", "f2", 2), 301);
    let news = a.current().news(b.current().states());
    let refused = a.change().merge(news, load);
    assert_eq!(refused, Err(vec!["good".to_owned()]));
    assert!(
        a.current().find("f").is_some(),
        "what had no room has it now"
    );
    assert!(
        a.current().by_name.contains_key("good"),
        "the older one is still there"
    );
}

#[test]
fn deleted_ones_are_remembered_up_to_a_bound() {
    let functions = Functions::default();
    for number in 0..DELETED_MAX as i64 + 10 {
        let name = format!("l{number}");
        put(&functions, library(&name, 1), 10 * number);
        delete(&functions, &name, 10 * number + 1);
    }
    let states = functions.current().states();
    assert_eq!(states.len(), DELETED_MAX);
    assert!(states.iter().all(|state| state.since_ms >= 100));
}
