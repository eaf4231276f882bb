//! The configuration file: read with its includes, and rewritten in place.
//!
//! A line is blank, a comment (`#` first), or a parameter and its words, quoted as in the protocol's inline requests. `include path`
//! stands for the lines of another file; `*` and `?` in the last part of the path name several, taken in order of their names. As in
//! redis-server, a relative path starts from the working directory, and a pattern may match nothing, but a plain path must exist.
//!
//! Rewriting keeps what people wrote: every line whose parameter has not changed stays as it is (line ends become `\n`), comments and all. A changed
//! parameter's lines are replaced where they stand; what has no line is added at the end. "Changed" is measured against what the
//! file, read again with its includes, would give. If an include follows a changed line, it could undo the change: the line then
//! moves to the end. The file is replaced by rename, so a crash leaves the old or the new one, never half of one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin};
use super::parameters::Row;
use super::settings::Settings;
use crate::base::split::split_args;

/// A parameter and its words, wherever they stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it stood.
    pub(super) origin: Origin,
    /// As it stood there.
    pub(super) text: String,
    /// The name, then the value; never empty.
    pub(super) words: Vec<String>,
}

/// How deep files may include each other; a file that includes itself ends here.
const MAX_DEPTH: usize = 16;

/// The lines of a file, each `include` replaced by the lines it stands for.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, ConfigError> {
    let mut lines = Vec::new();
    read_into(path, 0, &mut lines).map_err(|why| unreadable(path, &why))??;
    Ok(lines)
}

/// The same for text that came from elsewhere; `origin` names the place of a line.
pub(super) fn parse(
    text: &[u8],
    origin: impl Fn(usize) -> Origin,
) -> Result<Vec<Line>, ConfigError> {
    let mut lines = Vec::new();
    parse_into(text, &origin, 0, &mut lines)?;
    Ok(lines)
}

fn unreadable(path: &Path, why: &io::Error) -> ConfigError {
    ConfigError {
        origin: Origin::File {
            path: path.into(),
            line: 0,
        },
        text: String::new(),
        why: why.to_string(),
    }
}

/// The outer error says that the file itself could not be read, for the includer to name its line.
fn read_into(
    path: &Path,
    depth: usize,
    lines: &mut Vec<Line>,
) -> io::Result<Result<(), ConfigError>> {
    let text = fs::read(path)?;
    Ok(parse_into(
        &text,
        &|line| Origin::File {
            path: path.into(),
            line,
        },
        depth,
        lines,
    ))
}

fn parse_into(
    text: &[u8],
    origin: &dyn Fn(usize) -> Origin,
    depth: usize,
    lines: &mut Vec<Line>,
) -> Result<(), ConfigError> {
    for (at, bytes) in text.split(|&byte| byte == b'\n').enumerate() {
        let text = String::from_utf8_lossy(bytes).trim().to_owned();
        let error = |why: String| ConfigError {
            origin: origin(at + 1),
            text: shown(&text),
            why,
        };
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let words = words(bytes).map_err(|why| error(why.into()))?;
        let Some(name) = words.first() else { continue };
        if !name.eq_ignore_ascii_case("include") {
            lines.push(Line {
                origin: origin(at + 1),
                text,
                words,
            });
            continue;
        }
        if depth == MAX_DEPTH {
            return Err(error(format!(
                "more than {MAX_DEPTH} files include each other"
            )));
        }
        let [_, target] = &words[..] else {
            return Err(error("include takes one path".into()));
        };
        for path in targets(Path::new(target)).map_err(|why| error(why.to_string()))? {
            read_into(&path, depth + 1, lines)
                .map_err(|why| error(format!("{}: {why}", path.display())))??;
        }
    }
    Ok(())
}

/// A line as it may be repeated in a message: without the password it may hold.
pub(super) fn shown(text: &str) -> String {
    let name = text.split_ascii_whitespace().next().unwrap_or_default();
    let secret =
        Row::find(name.trim_matches(['-', '"', '\''])).is_some_and(|(row, _)| row.sensitive());
    if secret {
        format!("{name} ***")
    } else {
        text.into()
    }
}

fn words(line: &[u8]) -> Result<Vec<String>, &'static str> {
    let words =
        split_args(line).map_err(|_| "a quote is not closed, or text follows a closing quote")?;
    words
        .into_iter()
        .map(|word| String::from_utf8(word).map_err(|_| "the text is not UTF-8"))
        .collect()
}

/// The files that the path of an `include` names.
fn targets(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if !name.contains(['*', '?']) {
        return Ok(vec![path.into()]);
    }
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?.file_name();
        if entry
            .to_str()
            .is_some_and(|entry| wildcard(name.as_bytes(), entry.as_bytes()))
        {
            found.push(dir.join(entry));
        }
    }
    found.sort();
    Ok(found)
}

/// `*` and `?` as a shell takes them: hidden files must be asked for. Linear: only the last `*` is ever tried again.
fn wildcard(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star, taken)) = retry else {
                    return false;
                };
                retry = Some((star, taken + 1));
                p = star + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

const ADDED: &str = "# Added by CONFIG REWRITE";

/// `original` changed so that it says what `settings` say. `baseline` is what it says now, includes and all; `held` are names and
/// values that another source than the file decides: where they still hold, nothing is written.
pub(super) fn rewrite(
    original: &str,
    baseline: &Settings,
    settings: &Settings,
    held: &[(&'static str, String)],
) -> String {
    let mut lines: Vec<Vec<String>> = original.lines().map(|line| vec![line.to_owned()]).collect();
    let names: Vec<Option<String>> = original.lines().map(name_of).collect();
    let last_include = names
        .iter()
        .rposition(|name| name.as_deref() == Some("include"));
    let mut added = Vec::new();
    for row in Row::all() {
        let wanted = row.lines(settings);
        let is_held = held
            .iter()
            .any(|(name, value)| *name == row.name() && *value == row.value(settings));
        if is_held || wanted == row.lines(baseline) {
            continue;
        }
        let mut wanted = wanted
            .into_iter()
            .map(|value| format!("{} {value}", row.name()));
        let own: Vec<usize> = (0..names.len())
            .filter(|&at| {
                names[at]
                    .as_deref()
                    .is_some_and(|name| row.names().any(|own| own == name))
            })
            .collect();
        let undone = last_include > own.first().copied();
        for &at in &own {
            lines[at] = if undone {
                Vec::new()
            } else {
                wanted.next().into_iter().collect()
            };
        }
        match own.last() {
            // One parameter's lines stay together.
            Some(&last) if !undone => lines[last].extend(wanted),
            _ => added.extend(wanted),
        }
    }
    if !added.is_empty() && !original.lines().any(|line| line == ADDED) {
        lines.push(vec![String::new(), ADDED.into()]);
    }
    lines.push(added);
    lines
        .into_iter()
        .flatten()
        .map(|line| line + "\n")
        .collect()
}

/// The parameter a line sets, in lower case.
fn name_of(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    Some(words(line.as_bytes()).ok()?.first()?.to_ascii_lowercase())
}

/// Replaces a file's content at once. The new file has the old one's mode; without an old one only its owner may read it, since
/// it may hold a password.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Through a link, the file behind it is the one to replace.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    let name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_new(&temporary, text, &path).and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // The write's error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

fn write_new(temporary: &Path, text: &str, old: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // A left-over of a crash, or a link somebody placed here, must not be written through.
    match fs::remove_file(temporary) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    if let Ok(old) = fs::metadata(old) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::cgroup::Machine;
    use super::super::testing::{MACHINE, TempDir};
    use super::*;

    fn words_of(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.words.join("|")).collect()
    }

    fn stdin(line: usize) -> Origin {
        Origin::Stdin { line }
    }

    #[test]
    fn lines_of_a_file() {
        // Aim: comments, blanks, quotes, CRLF, no line end at the end.
        let lines = parse(
            b"# c\n\n  port 1 \r\n\tsave \"\"\nrequirepass 'a # b'\nbind a -b",
            stdin,
        )
        .expect("the text is good");
        assert_eq!(
            words_of(&lines),
            ["port|1", "save|", "requirepass|a # b", "bind|a|-b"]
        );
        assert_eq!(
            (lines[1].origin.clone(), lines[1].text.as_str()),
            (Origin::Stdin { line: 4 }, "save \"\"")
        );
    }

    #[test]
    fn bad_lines() {
        // Aim: line number, line and reason.
        for (text, why) in [
            (
                &b"port 1\nbind \"x"[..],
                "a quote is not closed, or text follows a closing quote",
            ),
            (b"port 1\nbind \xff", "the text is not UTF-8"),
            (b"port 1\ninclude a b", "include takes one path"),
            (
                b"port 1\ninclude /nowhere/x.conf",
                "/nowhere/x.conf: No such file or directory (os error 2)",
            ),
        ] {
            let error = parse(text, stdin).expect_err(why);
            assert_eq!(
                (error.origin, error.why.as_str()),
                (Origin::Stdin { line: 2 }, why)
            );
        }
        let error = read(Path::new("/nowhere/x.conf"))
            .expect_err("there is no such file")
            .to_string();
        assert_eq!(
            error,
            "cannot read configuration file /nowhere/x.conf\nNo such file or directory (os error 2)"
        );
    }

    #[test]
    fn includes() {
        // Aim: lines come in the include's place; a pattern takes files by name and may match none; a circle ends with an error.
        let dir = TempDir::new("include");
        let at = |name: &str| dir.path().join(name).display().to_string();
        dir.write("d/2.conf", "timeout 2\n");
        dir.write("d/1.conf", "timeout 1\n");
        dir.write("d/1.conf.bak", "bogus\n");
        dir.write("d/.0.conf", "bogus\n");
        let main = dir.write(
            "a.conf",
            &format!(
                "port 1\ninclude {}\ninclude {}\nport 2\n",
                at("d/*.conf"),
                at("d/none*")
            ),
        );
        let lines = read(&main).expect("the files are good");
        assert_eq!(
            words_of(&lines),
            ["port|1", "timeout|1", "timeout|2", "port|2"]
        );
        assert_eq!(
            lines[1].origin,
            Origin::File {
                path: dir.path().join("d/1.conf"),
                line: 1
            }
        );

        let circle = dir.write("c.conf", &format!("include {}\n", at("c.conf")));
        assert_eq!(
            read(&circle).expect_err("it never ends").why,
            "more than 16 files include each other"
        );
    }

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".a.conf", false),
            (".*", ".a", true),
            ("?.c", "a.c", true),
            ("?.c", ".c", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "abc", false),
            ("a**", "a", true),
        ] {
            assert_eq!(
                wildcard(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    /// Rewrites `original` after the changes; the baseline is what `original` says (it has no includes).
    fn rewritten(
        original: &str,
        changes: &[(&str, &str)],
        held: &[(&'static str, String)],
    ) -> String {
        let baseline = super::super::load::from_lines(
            &parse(original.as_bytes(), stdin).expect("the text is good"),
            MACHINE,
        );
        let mut settings = baseline.clone();
        for (name, value) in changes {
            let (row, _) = Row::find(name).expect("the parameter exists");
            row.set_text(&mut settings, value)
                .expect("the value is good");
        }
        rewrite(original, &baseline, &settings, held)
    }

    #[test]
    fn rewriting_keeps_what_did_not_change() {
        let original = "# mine\nPORT 7000\n\n  MaxMemory 102400kb\nslave-read-only yes\nbogus 1\nsave 100 1\nsave 200 2\n";
        assert_eq!(rewritten(original, &[], &[]), original);
        assert_eq!(rewritten("timeout 5", &[], &[]), "timeout 5\n");
    }

    #[test]
    fn rewriting_replaces_drops_and_adds() {
        // Aim: in place, under its present name; several lines become one and one several; new ones at the end under one heading.
        let original =
            "# mine\nlua-time-limit 10\n# memory\nmaxmemory 100mb\nsave 100 1\nsave 200 2\n# end\n";
        let changes = [
            ("busy-reply-threshold", "5000"),
            ("maxmemory", "209715200"),
            ("save", ""),
            ("requirepass", "a\"b"),
            ("client-output-buffer-limit", "replica 1024 0 5"),
        ];
        let expected = "# mine\nbusy-reply-threshold 5000\n# memory\nmaxmemory 200mb\nsave \"\"\n# end\n\n# Added by CONFIG REWRITE\n\
            requirepass \"a\\\"b\"\nclient-output-buffer-limit normal 0 0 0\nclient-output-buffer-limit replica 1kb 0 5\n\
            client-output-buffer-limit pubsub 32mb 8mb 60\n";
        let text = rewritten(original, &changes, &[]);
        assert_eq!(text, expected);
        // And again: the heading is there already.
        let again = rewritten(
            &text,
            &[
                ("timeout", "9"),
                ("client-output-buffer-limit", "normal 1 1 1"),
            ],
            &[],
        );
        assert_eq!(
            again,
            expected.replace("normal 0 0 0", "normal 1 1 1") + "timeout 9\n"
        );
    }

    #[test]
    fn rewriting_says_the_same_when_read_again() {
        // Aim: for every parameter, a changed value survives the file.
        for row in Row::all().filter(|row| row.name() != "rename-command") {
            for value in [
                "",
                "x\nhz 9",
                "yes",
                "no",
                "7",
                "77",
                "debug",
                "allkeys-lru",
                "local",
                "10 20",
                "normal 1 2 3",
                "a \"b\" \\",
            ] {
                let mut settings = Settings::new(MACHINE);
                if row.set_text(&mut settings, value).is_err() {
                    continue;
                }
                let text = rewrite("", &Settings::new(MACHINE), &settings, &[]);
                let read = super::super::load::from_lines(
                    &parse(text.as_bytes(), stdin).expect("we wrote it"),
                    MACHINE,
                );
                assert_eq!(
                    row.value(&read),
                    row.value(&settings),
                    "{}: {text}",
                    row.name()
                );
            }
        }
    }

    #[test]
    fn rewriting_minds_other_sources() {
        // Aim: a password from the environment is not written down, until it is changed; an include cannot undo a change.
        let held = [("requirepass", "hunter2".to_string())];
        assert_eq!(
            rewritten("port 1\n", &[("requirepass", "hunter2")], &held),
            "port 1\n"
        );
        let changed = rewritten("port 1\n", &[("requirepass", "other")], &held);
        assert_eq!(
            changed,
            "port 1\n\n# Added by CONFIG REWRITE\nrequirepass \"other\"\n"
        );

        let mut settings = Settings::new(Machine {
            cpu_count: 2,
            ..MACHINE
        });
        settings.hz = 20;
        let text = rewrite(
            "hz 5\ninclude x\nhz 6\ntimeout 1\n",
            &Settings::new(MACHINE),
            &settings,
            &[],
        );
        assert_eq!(
            text,
            "include x\ntimeout 1\n\n# Added by CONFIG REWRITE\nhz 20\n"
        );
        let text = rewrite("hz 5\ninclude x\n", &Settings::new(MACHINE), &settings, &[]);
        assert_eq!(text, "include x\n\n# Added by CONFIG REWRITE\nhz 20\n");
    }

    #[test]
    fn replacing_a_file() {
        // Aim: content and mode; a link stays a link; nothing is left behind; a failure says why.
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new("replace");
        let path = dir.write("a.conf", "old");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("the file is ours");
        let link = dir.path().join("link.conf");
        std::os::unix::fs::symlink(&path, &link).expect("the directory is ours");
        replace(&link, "new\n").expect("the directory can be written");
        assert_eq!(fs::read_to_string(&path).expect("it exists"), "new\n");
        assert_eq!(
            fs::metadata(&path).expect("it exists").permissions().mode() & 0o777,
            0o640
        );
        assert!(fs::symlink_metadata(&link).expect("it exists").is_symlink());
        assert_eq!(fs::read_dir(dir.path()).expect("it exists").count(), 2);
        let error =
            replace(&dir.path().join("none/a.conf"), "x").expect_err("there is no such directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
