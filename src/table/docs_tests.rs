//! Compares with redis-server: rows made of its own COMMAND and COMMAND DOCS, but with our usage lines, must print what it
//! prints, byte by byte (containers and whole lists: member by member). Skipped, with a message,
//! when redis-server is not on the PATH.

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::resp::decode::OwnedArguments;
use crate::resp::reply::{Output, Protocol};
use crate::table::category::categories;
use crate::table::{Family, Row};

/// Name, tab, usage line of each command of redis-server 7.0.15.
const USAGES: &str = include_str!("usage_7_0_15.txt");

/// The only place that knows how a reply writer is made.
fn written(resp3: bool, write: impl FnOnce(&mut Reply<'_>)) -> Vec<u8> {
    let mut output = Output::new();
    let protocol = if resp3 {
        Protocol::Resp3
    } else {
        Protocol::Resp2
    };
    write(&mut Reply::new(&mut output, protocol));
    let mut bytes = Vec::new();
    while !output.is_empty() {
        let mut slices = [IoSlice::new(&[]); 8];
        let count = output.fill(&mut slices);
        let part: Vec<u8> = slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        bytes.extend_from_slice(&part);
        output.advance(part.len());
    }
    bytes
}

fn request(words: &[&str]) -> OwnedArguments {
    OwnedArguments::from(words)
}

/// Every command of the oracle: COMMAND, COMMAND INFO and COMMAND DOCS are the same bytes in both protocols.
#[test]
fn commands_print_as_redis_prints_them() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let table: Table<()> = Table::build(oracle.rows());
    assert_eq!(USAGES.lines().count(), table.entries().len());
    let none = request(&[]);
    for resp3 in [false, true] {
        oracle.ask(&["HELLO", if resp3 { "3" } else { "2" }]);
        for entry in table.entries() {
            let (name, names) = (&*entry.full_name, request(&[&entry.full_name]));
            let same = if entry.is_container() {
                assert_same_members
            } else {
                assert_same
            };
            let ours = written(resp3, |reply| {
                command_info(&table, &names.as_arguments(), reply)
            });
            same(&ours, &oracle.ask(&["COMMAND", "INFO", name]), name);
            let ours = written(resp3, |reply| {
                command_docs(&table, &names.as_arguments(), reply)
            });
            same(&ours, &oracle.ask(&["COMMAND", "DOCS", name]), name);
        }
        let ours = written(resp3, |reply| command(&table, reply));
        assert_same_members(&ours, &oracle.ask(&["COMMAND"]), "COMMAND");
        let ours = written(resp3, |reply| {
            command_docs(&table, &none.as_arguments(), reply)
        });
        assert_same_members(&ours, &oracle.ask(&["COMMAND", "DOCS"]), "COMMAND DOCS");
        let ours = written(resp3, |reply| command_count(&table, reply));
        assert_same(&ours, &oracle.ask(&["COMMAND", "COUNT"]), "COMMAND COUNT");
        let unknown = request(&["nosuch", "config|get|x", "get|x"]);
        let ours = written(resp3, |reply| {
            command_info(&table, &unknown.as_arguments(), reply)
        });
        assert_same(
            &ours,
            &oracle.ask(&["COMMAND", "INFO", "nosuch", "config|get|x", "get|x"]),
            "unknown",
        );
    }
}

/// COMMAND LIST with its filters gives the same names; the order of ours is that of the rows.
#[test]
fn lists_as_redis_lists() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let table: Table<()> = Table::build(oracle.rows());
    let mut compare = |filter: ListFilter<'_>, words: &[&str]| {
        let mut theirs = oracle.read(words).list();
        let mut ours = parse(&written(true, |reply| command_list(&table, filter, reply))).list();
        theirs.sort();
        ours.sort();
        assert_eq!(ours, theirs, "{words:?}");
    };
    compare(ListFilter::All, &["COMMAND", "LIST"]);
    compare(
        ListFilter::Module,
        &["COMMAND", "LIST", "FILTERBY", "MODULE", "x"],
    );
    compare(
        ListFilter::Matching(&|name| name.starts_with("xi")),
        &["COMMAND", "LIST", "FILTERBY", "PATTERN", "xi*"],
    );
    compare(
        ListFilter::Category(b"nosuch"),
        &["COMMAND", "LIST", "FILTERBY", "ACLCAT", "nosuch"],
    );
    for name in Category::all().names() {
        compare(
            ListFilter::Category(name.as_bytes()),
            &["COMMAND", "LIST", "FILTERBY", "ACLCAT", name],
        );
    }
}

/// COMMAND GETKEYS and GETKEYSANDFLAGS of commands whose specs suffice, of refused requests and of hostile counts.
#[test]
fn keys_as_redis_finds_them() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let table: Table<()> = Table::build(oracle.rows());
    let requests = "get k|mset a 1 b 2|mset a 1 b|msetnx a|zunionstore d 2 a b|zunionstore d 9 a b|zunionstore d 0 a b|\
        zinter 2 a b weights 1 2|zdiff -1 a b|lmpop 3 a b left|blmpop 0 1 a left|blpop a b 0|xread count 1 streams a b 0 0|\
        xread streams a b 0|xread count 1 streams a|xreadgroup group g c streams a >|bitop not d s|rename a b|ping k|\
        nosuch k|config get x|config nosuch x|object encoding k|xgroup create k g $|spublish c m|eval s 0|eval s x a|\
        eval s 2147483647 a|eval s 9223372036854775807 a|zmpop 9 a min|sintercard 1 a|touch a b c|memory usage k|\
        xread streams streams a b 0 0|copy a b db 1|lcs a b|subscribe c|publish c m|geoadd k 1 1 m|restore k 0 v|get a b";
    for line in requests.split('|') {
        let words: Vec<&str> = line.trim().split(' ').collect();
        let asked = request(&words);
        for (subcommand, with_access) in [("GETKEYS", false), ("GETKEYSANDFLAGS", true)] {
            let ours = written(true, |reply| {
                if let Err(error) =
                    command_getkeys(&table, &asked.as_arguments(), with_access, reply)
                {
                    reply.error(&error.text());
                }
            });
            let theirs = oracle.ask(&[&["COMMAND", subcommand], &words[..]].concat());
            assert_same(&ours, &theirs, line);
        }
    }
}

/// As [`assert_same`], in any order: Redis's is that of hash tables, which it may rehash in between.
#[track_caller]
fn assert_same_members(ours: &[u8], theirs: &[u8], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    assert!(parse(ours).sorted() == parse(theirs).sorted(), "{what}");
}

#[track_caller]
fn assert_same(ours: &[u8], theirs: &[u8], what: &str) {
    let same = ours
        .iter()
        .zip(theirs)
        .take_while(|(ours, theirs)| ours == theirs)
        .count();
    let around = |bytes: &[u8]| {
        let part = &bytes[same.saturating_sub(200)..bytes.len().min(same + 100)];
        String::from_utf8_lossy(part).replace("\r\n", " ")
    };
    assert!(
        ours == theirs,
        "{what}, byte {same}\nours:   {}\ntheirs: {}",
        around(ours),
        around(theirs)
    );
}

/// A redis-server of this test's own.
struct Oracle {
    server: Child,
    connection: BufReader<TcpStream>,
}

impl Oracle {
    fn start() -> Option<Oracle> {
        let free = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let port = free.port().to_string();
        let spawned = Process::new("redis-server")
            .args(["--save", "", "--port", &port, "--bind", "127.0.0.1"])
            .stdout(Stdio::null())
            .spawn();
        let Ok(server) = spawned else {
            eprintln!("SKIPPED: redis-server is not on the PATH, nothing was compared");
            return None;
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let connection = loop {
            match TcpStream::connect(free) {
                Ok(connection) => break BufReader::new(connection),
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "redis-server does not answer: {error}"
                ),
            }
            std::thread::yield_now();
        };
        let mut oracle = Oracle { server, connection };
        oracle.ask(&["HELLO", "3"]);
        Some(oracle)
    }

    /// The bytes of the reply.
    fn ask(&mut self, words: &[&str]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len());
        words
            .iter()
            .for_each(|word| bytes.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.connection
            .get_mut()
            .write_all(bytes.as_bytes())
            .expect("the server reads");
        let mut reply = Vec::new();
        read_value(&mut self.connection, &mut reply);
        reply
    }

    fn read(&mut self, words: &[&str]) -> Value {
        parse(&self.ask(words))
    }

    /// Rows with everything that COMMAND and COMMAND DOCS say, in their order. Leaked: rows are static.
    fn rows(&mut self) -> &'static [Row<()>] {
        let docs = self.read(&["COMMAND", "DOCS"]);
        let infos = self.read(&["COMMAND"]).list();
        infos
            .iter()
            .map(|info| row(info, docs.at(&info.list()[0].text())))
            .collect::<Vec<_>>()
            .leak()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn row(info: &Value, docs: Value) -> Row<()> {
    let fields = info.list();
    let full_name = fields[0].text();
    let usage = USAGES
        .lines()
        .find_map(|line| line.split_once('\t').filter(|(name, _)| *name == full_name));
    let usage = usage
        .unwrap_or_else(|| panic!("{full_name}: no usage line"))
        .1;
    let flagged =
        |known: &&(Flags, &str)| fields[2].list().iter().any(|name| name.text() == known.1);
    let family = families()
        .find(|family| family.name() == docs.at("group").text())
        .expect("a known group");
    let subcommands = fields[9].list();
    let mut command = Command {
        name: full_name
            .rsplit('|')
            .next()
            .expect("a name")
            .to_owned()
            .leak(),
        family,
        since: docs.at("since").text().leak(),
        summary: docs.at("summary").text().leak(),
        complexity: docs.at("complexity").text().leak(),
        usage,
        flags: FLAG_NAMES
            .iter()
            .filter(flagged)
            .fold(Flags::empty(), |all, (flag, _)| all | *flag),
        keys: fields[8]
            .list()
            .iter()
            .map(key_spec_of)
            .collect::<Vec<_>>()
            .leak(),
        tips: fields[7]
            .list()
            .iter()
            .map(|tip| &*tip.text().leak())
            .collect::<Vec<_>>()
            .leak(),
        deprecated: (docs.at("deprecated_since") != Value::Null).then(|| {
            (
                &*docs.at("deprecated_since").text().leak(),
                &*docs.at("replaced_by").text().leak(),
            )
        }),
        history: docs
            .at("history")
            .list()
            .iter()
            .map(pair)
            .collect::<Vec<_>>()
            .leak(),
        ..Command::NEW
    };
    if docs
        .at("doc_flags")
        .list()
        .iter()
        .any(|flag| flag.text() == "syscmd")
    {
        command.flags |= Flags::SYSTEM;
    }
    command.categories = own_categories(&command, !subcommands.is_empty(), &fields[6]);
    let subcommand = |info: &Value| row(info, docs.at("subcommands").at(&info.list()[0].text()));
    Row {
        command,
        handler: (),
        subcommands: subcommands
            .iter()
            .map(subcommand)
            .collect::<Vec<_>>()
            .leak(),
    }
}

/// The categories that a row has to name so that all of the oracle's come out.
fn own_categories(command: &Command, container: bool, wanted: &Value) -> Category {
    let named =
        |name: &Value| Category::named(&name.text().as_bytes()[1..]).expect("a known category");
    let wanted = wanted
        .list()
        .iter()
        .map(named)
        .fold(Category::empty(), Category::union);
    let of_flags = categories(
        &Command {
            family: Family::Server,
            ..*command
        },
        container,
    );
    let computed = categories(command, container);
    wanted
        - if computed - of_flags == wanted & Category::OF_FAMILIES {
            computed
        } else {
            of_flags
        }
}

fn families() -> impl Iterator<Item = Family> {
    use Family::*;
    let data = [
        String,
        Bitmap,
        Generic,
        List,
        Set,
        Hash,
        SortedSet,
        Stream,
        HyperLogLog,
        Geo,
    ];
    data.into_iter()
        .chain([Connection, Server, PubSub, Scripting, Transactions, Cluster])
}

fn pair(pair: &Value) -> (&'static str, &'static str) {
    (pair.list()[0].text().leak(), pair.list()[1].text().leak())
}

fn key_spec_of(spec: &Value) -> KeySpec {
    let (begin, find) = (spec.at("begin_search"), spec.at("find_keys"));
    let field = |search: &Value, name: &str| match search.at("spec").at(name) {
        Value::Number(number) => number as i32,
        other => panic!("{name} is {other:?}"),
    };
    let begin = match &*begin.at("type").text() {
        "index" => Begin::Index(field(&begin, "index") as usize),
        "keyword" => Begin::Keyword(
            begin.at("spec").at("keyword").text().leak(),
            field(&begin, "startfrom"),
        ),
        _ => Begin::Unknown,
    };
    let step = |find: &Value| field(find, "keystep");
    let find = match &*find.at("type").text() {
        "range" => Find::Range {
            last: field(&find, "lastkey"),
            step: step(&find),
            limit: field(&find, "limit"),
        },
        "keynum" => Find::Count {
            count_at: field(&find, "keynumidx"),
            first: field(&find, "firstkey"),
            step: step(&find),
        },
        _ => Find::Unknown,
    };
    let flag =
        |name: &Value| KeyAccess::from_name(&name.text().to_uppercase()).expect("a known flag");
    let access = spec
        .at("flags")
        .list()
        .iter()
        .map(flag)
        .fold(KeyAccess::empty(), KeyAccess::union);
    KeySpec {
        begin,
        find,
        access,
        note: spec.at("notes").text().leak(),
    }
}

/// A reply as far as these tests look at it: a map is the list of its keys and values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Null,
    Number(i64),
    Text(String),
    List(Vec<Value>),
}

impl Value {
    /// The value of a map's field; null when there is none.
    fn at(&self, name: &str) -> Value {
        let list = self.list();
        let found = list.chunks(2).find(|field| field[0].text() == name);
        found.map_or(Value::Null, |field| field[1].clone())
    }

    /// With all lists sorted, the fields of maps included.
    fn sorted(self) -> Value {
        let Value::List(list) = self else { return self };
        let mut list: Vec<Value> = list.into_iter().map(Value::sorted).collect();
        list.sort();
        Value::List(list)
    }

    fn text(&self) -> String {
        if let Value::Text(text) = self {
            text.clone()
        } else {
            String::new()
        }
    }

    fn list(&self) -> Vec<Value> {
        if let Value::List(list) = self {
            list.clone()
        } else {
            Vec::new()
        }
    }
}

fn parse(mut bytes: &[u8]) -> Value {
    read_value(&mut bytes, &mut Vec::new())
}

/// Reads one reply and keeps its bytes.
fn read_value(input: &mut impl BufRead, bytes: &mut Vec<u8>) -> Value {
    let begun = bytes.len();
    input.read_until(b'\n', bytes).expect("the server answers");
    let line = String::from_utf8_lossy(&bytes[begun..])
        .trim_end()
        .to_owned();
    let (mark, rest) = line.split_at(1);
    let count = || rest.parse::<i64>().expect("a number");
    match mark {
        "+" | "-" => Value::Text(rest.to_owned()),
        ":" => Value::Number(count()),
        "_" => Value::Null,
        _ if count() < 0 => Value::Null,
        "$" => {
            let begun = bytes.len();
            input
                .take(count() as u64 + 2)
                .read_to_end(bytes)
                .expect("the server answers");
            Value::Text(String::from_utf8_lossy(&bytes[begun..bytes.len() - 2]).into_owned())
        }
        "*" | "~" => Value::List((0..count()).map(|_| read_value(input, bytes)).collect()),
        "%" => Value::List((0..count() * 2).map(|_| read_value(input, bytes)).collect()),
        other => panic!("a reply of type {other}"),
    }
}
