//! The result of a script as a reply.
//!
//! Numbers are truncated to integers, arrays end at their first nil, tables with `ok`, `err`, `double`, `big_number`,
//! `verbatim_string`, `map` or `set` are what these say, whatever else cannot be told is a null. Metatables are not asked.
//! Tables may be nested as deep as a script can build them: what is open is kept in a list, not in recursion.

use mlua::{Function, Table, Value};

use super::raise::{c_text, to_integer};
use crate::resp::reply::{Deferred, Protocol, Reply};

/// How deep tables may be nested: an array takes one, a map or a set three. Redis counts in slots of Lua's stack, too, and
/// has 7,995 of them; here some are taken by the engine.
const MAX_OPEN_SLOTS: usize = 7_900;

/// The text of an error table, as it goes to a client, and whether the server has counted the error.
pub fn error_of(value: &Value) -> Option<(Vec<u8>, bool)> {
    let Value::Table(table) = value else {
        return None;
    };
    let text = string_field(table, "err")?;
    let counted = table.raw_get::<Value>("ignore_error_stats_update");
    Some((
        one_line(&text.as_bytes()),
        matches!(counted, Ok(Value::Boolean(true))),
    ))
}

/// The text as one line: up to its first NUL, without line ends at its end, blanks for those inside.
pub fn one_line(text: &[u8]) -> Vec<u8> {
    let text = c_text(text);
    let end = text.iter().rev();
    let end = end.take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    blank_breaks(&text[..text.len() - end])
}

fn blank_breaks(text: &[u8]) -> Vec<u8> {
    let blank = |byte: &u8| match byte {
        b'\r' | b'\n' => b' ',
        byte => *byte,
    };
    text.iter().map(blank).collect()
}

/// A result that is longer than it may be. A table of a few bytes can name itself, or one long string, over and over.
#[derive(Debug)]
pub struct TooLong;

/// How results are written.
pub struct Conversion<'a> {
    /// The protocol that the script has chosen for itself.
    pub script_protocol: Protocol,
    /// Lua's `next`.
    pub next: &'a Function,
    /// How long the reply may be, in about bytes.
    pub max_bytes: usize,
}

impl Conversion<'_> {
    /// Writes a value. If it is too long only a part is written.
    pub fn write(&self, value: Value, reply: &mut Reply<'_>) -> Result<(), TooLong> {
        let mut writer = Writer {
            reply,
            next_pair: self.next,
            script_protocol: self.script_protocol,
            open: Vec::new(),
            slots: 0,
            room_bytes: self.max_bytes,
        };
        writer.value(value)?;
        while let Some(next) = writer.next() {
            writer.value(next)?;
        }
        Ok(())
    }
}

/// What an element takes beside its bytes, and a table with its end.
const FRAME_BYTES: usize = 8;

/// A table that is being written.
struct Open {
    table: Table,
    kind: OpenKind,
    begun: Deferred,
    /// Of the elements, or pairs, written so far.
    count: usize,
}

enum OpenKind {
    Array,
    Map {
        key: Value,
        /// The value that belongs to the key just written.
        pending: Option<Value>,
    },
    Set {
        key: Value,
    },
}

impl Open {
    fn slots(&self) -> usize {
        match self.kind {
            OpenKind::Array => 1,
            OpenKind::Map { .. } | OpenKind::Set { .. } => 3,
        }
    }

    /// The next value to write, if there is one.
    fn next(&mut self, next_pair: &Function) -> Option<Value> {
        let next = match &mut self.kind {
            OpenKind::Array => {
                let element = self.table.raw_get::<Value>(self.count + 1).ok()?;
                (!element.is_nil()).then_some(element)?
            }
            OpenKind::Map { key, pending } => {
                if let Some(value) = pending.take() {
                    return Some(value);
                }
                let (next, value) = pair_behind(&self.table, key, next_pair)?;
                *pending = Some(value);
                next
            }
            OpenKind::Set { key } => pair_behind(&self.table, key, next_pair)?.0,
        };
        self.count += 1;
        Some(next)
    }
}

/// The pair behind `key`, which becomes its key.
fn pair_behind(table: &Table, key: &mut Value, next_pair: &Function) -> Option<(Value, Value)> {
    let pair: (Value, Value) = next_pair.call((table, &*key)).ok()?;
    if pair.0.is_nil() {
        return None;
    }
    *key = pair.0.clone();
    Some(pair)
}

struct Writer<'w, 'r> {
    reply: &'w mut Reply<'r>,
    next_pair: &'w Function,
    script_protocol: Protocol,
    open: Vec<Open>,
    slots: usize,
    room_bytes: usize,
}

impl Writer<'_, '_> {
    /// The next value of the innermost open table; tables that are through are finished on the way.
    fn next(&mut self) -> Option<Value> {
        loop {
            let next = self.open.last_mut()?.next(self.next_pair);
            if next.is_some() {
                return next;
            }
            self.finish();
        }
    }

    fn push(&mut self, open: Open) {
        self.slots += open.slots();
        self.open.push(open);
    }

    fn finish(&mut self) {
        let Some(open) = self.open.pop() else {
            return;
        };
        self.slots -= open.slots();
        match open.kind {
            OpenKind::Array => self.reply.set_array(open.begun, open.count),
            OpenKind::Map { .. } => self.reply.set_map(open.begun, open.count),
            OpenKind::Set { .. } => self.reply.set_set(open.begun, open.count),
        }
    }

    /// Counts an element with so many bytes.
    fn take_room(&mut self, bytes: usize) -> Result<(), TooLong> {
        let room_bytes = self.room_bytes.checked_sub(bytes + FRAME_BYTES);
        self.room_bytes = room_bytes.ok_or(TooLong)?;
        Ok(())
    }

    /// Writes a value; of a table only its beginning.
    fn value(&mut self, value: Value) -> Result<(), TooLong> {
        self.take_room(0)?;
        match value {
            Value::Table(_) if self.slots >= MAX_OPEN_SLOTS => {
                self.reply.error("ERR reached lua stack limit");
            }
            Value::String(text) => {
                let text = text.as_bytes();
                self.take_room(text.len())?;
                self.reply.bulk(&text);
            }
            Value::Integer(number) => self.reply.integer(number),
            Value::Number(number) => self.reply.integer(to_integer(number)),
            Value::Boolean(value) => match (self.script_protocol, value) {
                (Protocol::Resp3, value) => self.reply.boolean(value),
                (Protocol::Resp2, true) => self.reply.integer(1),
                (Protocol::Resp2, false) => self.reply.null(),
            },
            Value::Table(table) => return self.table(table),
            _ => self.reply.null(),
        }
        Ok(())
    }

    fn table(&mut self, table: Table) -> Result<(), TooLong> {
        if let Some(text) = string_field(&table, "err") {
            let text = one_line(&text.as_bytes());
            self.take_room(text.len())?;
            self.reply.error_bytes(&text);
            return Ok(());
        }
        if let Some(text) = string_field(&table, "ok") {
            let text = text.as_bytes();
            self.take_room(text.len())?;
            self.reply.simple_bytes(c_text(&text));
            return Ok(());
        }
        match table.raw_get::<Value>("double") {
            Ok(Value::Number(number)) => {
                self.reply.double(number);
                return Ok(());
            }
            Ok(Value::Integer(number)) => {
                self.reply.double(number as f64);
                return Ok(());
            }
            _ => {}
        }
        if let Some(digits) = string_field(&table, "big_number") {
            let digits = blank_breaks(&digits.as_bytes());
            self.take_room(digits.len())?;
            self.big_number(&digits);
            return Ok(());
        }
        if let Some(verbatim) = table_field(&table, "verbatim_string")
            && let Some(format) = string_field(&verbatim, "format")
            && let Some(text) = string_field(&verbatim, "string")
        {
            let text = text.as_bytes();
            self.take_room(text.len())?;
            self.verbatim(&format.as_bytes(), &text);
            return Ok(());
        }
        let key = Value::Nil;
        let (table, kind) = if let Some(map) = table_field(&table, "map") {
            (map, OpenKind::Map { key, pending: None })
        } else if let Some(set) = table_field(&table, "set") {
            (set, OpenKind::Set { key })
        } else {
            (table, OpenKind::Array)
        };
        let begun = self.reply.deferred();
        self.push(Open {
            table,
            kind,
            begun,
            count: 0,
        });
        Ok(())
    }

    fn big_number(&mut self, digits: &[u8]) {
        match self.reply.protocol() {
            Protocol::Resp2 => self.reply.bulk(digits),
            Protocol::Resp3 => self.reply.raw(&[b"(", digits, b"\r\n"].concat()),
        }
    }

    fn verbatim(&mut self, format: &[u8], text: &[u8]) {
        if self.reply.protocol() == Protocol::Resp2 {
            return self.reply.bulk(text);
        }
        let mut three = *b"   ";
        let format = c_text(format);
        let len = format.len().min(3);
        three[..len].copy_from_slice(&format[..len]);
        let length = itoa::Buffer::new().format(text.len() + 4).to_owned();
        let header = [b"=", length.as_bytes(), b"\r\n", &three, b":"].concat();
        self.reply.raw(&header);
        self.reply.raw(text);
        self.reply.raw(b"\r\n");
    }
}

fn string_field(table: &Table, name: &str) -> Option<mlua::LuaString> {
    match table.raw_get::<Value>(name) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn table_field(table: &Table, name: &str) -> Option<Table> {
    match table.raw_get::<Value>(name) {
        Ok(Value::Table(table)) => Some(table),
        _ => None,
    }
}
