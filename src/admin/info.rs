//! INFO: what the server says of itself, in sections of `field:value` lines.
//!
//! Tools read it field by field, so names, order and formats are Redis's ([`sections`]). Every value is true: what is not
//! built reads 0, and what has no meaning here is left out. Our own fields stand at the end of their sections. The cost is
//! bounded by the number of clients, commands and partitions, about 0.2 ms at the start.

mod sections;
#[cfg(test)]
mod tests;

use std::fmt::{Display, Write};

use super::{Caller, Done, Handler};
use crate::base::clock::Millis;
use crate::cluster::ask::DatabaseTotal;
use crate::config::Settings;
use crate::resp::decode::Arguments;
use crate::resp::reply::Reply;
use crate::state::Server;
use crate::state::session::KeyTotals;
use crate::table::{Across, Args, Category, Command, Family, Flags, Row};
use sections::SECTIONS;
pub use sections::mode;

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[Row::new(
    Command {
        name: "info",
        family: Family::Server,
        since: "1.0.0",
        summary: "Tells the state of the server and its statistics, section by section.",
        complexity: "O(1)",
        usage: "[section ...]",
        flags: Flags::LOADING.union(Flags::STALE),
        categories: Category::DANGEROUS,
        across: Across::WithTotals(tells_keys),
        tips: &[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ],
        history: &[("7.0.0", "Takes more than one section.")],
        ..Command::NEW
    },
    Handler::Admin(info),
)];

fn info(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let wanted: Vec<&[u8]> = args.rest().collect();
    let totals = caller.session.totals.take();
    let settings = caller.server.config.settings();
    let facts = Facts {
        server: caller.server,
        settings: &settings,
        now: caller.now,
        sees_cluster: caller.sees_cluster,
        totals: totals.as_deref(),
    };
    reply.verbatim("txt", text(&facts, &wanted).as_bytes());
    Ok(())
}

/// Whether the sections that a request asks for tell how many keys there are.
fn tells_keys(request: &Arguments<'_>) -> bool {
    let wanted: Vec<&[u8]> = request.iter().skip(1).collect();
    let mut telling = SECTIONS.iter().filter(|section| section.tells_keys);
    telling.any(|section| section.is_wanted(&wanted))
}

/// The text of the sections that `wanted` names, in the order of the sections; unknown names are skipped, no name means the
/// default ones.
fn text(facts: &Facts<'_>, wanted: &[&[u8]]) -> String {
    let mut lines = Lines::default();
    for section in SECTIONS {
        if section.is_wanted(wanted) {
            lines.section(section.title);
            (section.write)(facts, &mut lines);
        }
    }
    lines.0
}

/// How many keys each database holds, if it holds any.
pub fn database_totals(server: &Server) -> Vec<DatabaseTotal> {
    sections::totals(&server.keyspace, server.clock.now())
}

/// What sections are written from.
struct Facts<'a> {
    server: &'a Server,
    settings: &'a Settings,
    now: Millis,
    sees_cluster: bool,
    /// Of all nodes.
    totals: Option<&'a KeyTotals>,
}

/// One section.
struct Section {
    /// As its head shows it; its name in any case.
    title: &'static str,
    /// Whether it is shown without being asked for.
    is_default: bool,
    /// Whether it tells how many keys there are.
    tells_keys: bool,
    write: fn(&Facts<'_>, &mut Lines),
}

impl Section {
    fn is_wanted(&self, wanted: &[&[u8]]) -> bool {
        let named = |name: &&[u8]| {
            name.eq_ignore_ascii_case(self.title.as_bytes())
                || name.eq_ignore_ascii_case(b"all")
                || name.eq_ignore_ascii_case(b"everything")
                || self.is_default && name.eq_ignore_ascii_case(b"default")
        };
        if wanted.is_empty() {
            self.is_default
        } else {
            wanted.iter().any(named)
        }
    }
}

/// The text so far.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn section(&mut self, title: &str) {
        let gap = if self.0.is_empty() { "" } else { "\r\n" };
        self.push(format_args!("{gap}# {title}\r\n"));
    }

    fn field(&mut self, name: &str, value: impl Display) {
        self.push(format_args!("{name}:{value}\r\n"));
    }

    /// Fields of what is not built: there is nothing to count.
    fn zeros(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.field(name, 0));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.0
            .write_fmt(text)
            .expect("writing to a String cannot fail");
    }
}
