//! The server family without what INFO and the logs show: LOLWUT, MONITOR, ROLE, SHUTDOWN, TIME; and WAIT, WAITAOF of the
//! generic one, which ask about replicas: there are none.

use std::sync::Arc;

use super::{Caller, Done, Handler, timeout_ms};
use crate::base::rng::Rng;
use crate::base::version::REDIS_VERSION;
use crate::resp::reply::Reply;
use crate::state::clients::client_flags;
use crate::state::session::After;
use crate::table::{Args, Category, Command, CommandError, Family, Flags, Row};

/// The rows of this file.
pub const ROWS: &[Row<Handler>] = &[
    Row::new(
        Command {
            name: "lolwut",
            family: Family::Server,
            since: "5.0.0",
            summary: "Draws a picture and says the version.",
            complexity: "O(N) in the size of the picture.",
            usage: "[VERSION version:int]",
            flags: Flags::READONLY.union(Flags::FAST),
            ..Command::NEW
        },
        Handler::Admin(lolwut),
    ),
    Row::new(
        Command {
            name: "monitor",
            family: Family::Server,
            since: "1.0.0",
            summary: "Sends this connection a line for each command of all clients.",
            complexity: "O(1) for each command and monitor.",
            flags: Flags::ADMIN
                .union(Flags::NOSCRIPT)
                .union(Flags::LOADING)
                .union(Flags::STALE),
            ..Command::NEW
        },
        Handler::Admin(monitor),
    ),
    Row::new(
        Command {
            name: "role",
            family: Family::Server,
            since: "2.8.12",
            summary: "Says whether the server is a primary or a replica, and with whom it replicates.",
            flags: Flags::NOSCRIPT
                .union(Flags::LOADING)
                .union(Flags::STALE)
                .union(Flags::FAST),
            categories: Category::ADMIN.union(Category::DANGEROUS),
            ..Command::NEW
        },
        Handler::Admin(role),
    ),
    Row::new(
        Command {
            name: "shutdown",
            family: Family::Server,
            since: "1.0.0",
            summary: "Ends the server.",
            complexity: "O(N) in the number of connections.",
            usage: "[NOSAVE|SAVE] [NOW@7.0.0] [FORCE@7.0.0] [ABORT@7.0.0]",
            flags: Flags::ADMIN
                .union(Flags::NOSCRIPT)
                .union(Flags::LOADING)
                .union(Flags::STALE)
                .union(Flags::NO_MULTI)
                .union(Flags::ALLOW_BUSY),
            history: &[("7.0.0", "The options NOW, FORCE and ABORT.")],
            ..Command::NEW
        },
        Handler::Admin(shutdown),
    ),
    Row::new(
        Command {
            name: "time",
            family: Family::Server,
            since: "2.6.0",
            summary: "Returns the server's time: seconds of the Unix epoch, and microseconds.",
            flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
            tips: &["nondeterministic_output"],
            ..Command::NEW
        },
        Handler::Admin(time),
    ),
    Row::new(
        Command {
            name: "wait",
            family: Family::Generic,
            since: "3.0.0",
            summary: "Waits until replicas have this connection's writes, and returns how many have.",
            usage: "numreplicas:int timeout:int",
            flags: Flags::NOSCRIPT,
            categories: Category::CONNECTION,
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            ..Command::NEW
        },
        Handler::Admin(wait),
    ),
    Row::new(
        Command {
            name: "waitaof",
            family: Family::Generic,
            since: "7.2.0",
            summary: "Waits until this connection's writes are on the disks of the server and of replicas.",
            usage: "numlocal:int numreplicas:int timeout:int",
            flags: Flags::NOSCRIPT,
            categories: Category::CONNECTION,
            tips: &["request_policy:all_shards", "response_policy:agg_min"],
            ..Command::NEW
        },
        Handler::Admin(waitaof),
    ),
];

/// What LOLWUT draws: concentric quoits.
struct Picture {
    columns: usize,
    rows: usize,
    rings: usize,
}

impl Picture {
    /// Options come as `VERSION v columns rows rings`; without VERSION they are passed over, as in Redis.
    fn parse(args: &mut Args<'_>) -> Result<Self, CommandError> {
        let mut sizes = [66, 16, 4];
        if args.remaining() > 1 && args.keyword("VERSION") {
            args.integer()?;
            for size in &mut sizes {
                if !args.is_empty() {
                    *size = args.integer()?;
                }
            }
        }
        let [columns, rows, rings] = sizes;
        Ok(Picture {
            columns: columns.clamp(1, MOST_COLUMNS) as usize,
            rows: rows.clamp(1, MOST_ROWS) as usize,
            rings: rings.clamp(1, MOST_RINGS) as usize,
        })
    }

    fn draw(&self, rng: &Rng) -> String {
        let within = |size: usize| rng.fraction() * size as f64;
        // Characters are about twice as high as wide.
        let rings: Vec<(f64, f64, f64)> = (0..self.rings)
            .map(|_| {
                let radius = 2.0 + within(self.rows) / 2.0;
                (within(self.columns), within(self.rows), radius)
            })
            .collect();
        let mut text = String::with_capacity((self.columns + 1) * self.rows);
        for row in 0..self.rows {
            for column in 0..self.columns {
                let on_ring = |&&(x, y, radius): &&(f64, f64, f64)| {
                    let distance = ((column as f64 - x) / 2.0).hypot(row as f64 - y);
                    (distance - radius).abs() < 0.5
                };
                text.push(match rings.iter().filter(on_ring).count() {
                    0 => ' ',
                    1 => 'o',
                    _ => '@',
                });
            }
            text.push('\n');
        }
        text
    }
}

/// Limits of Redis's pictures.
const MOST_COLUMNS: i64 = 1000;
const MOST_ROWS: i64 = 200;
const MOST_RINGS: i64 = 200;

fn lolwut(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let picture = Picture::parse(args)?;
    let drawn = picture.draw(&caller.session.rng);
    let text = format!("{drawn}\nQuoits, thrown at random. Redis ver. {REDIS_VERSION}\n");
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn monitor(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    // Who watches already gets no second answer, as in Redis.
    if caller.session.monitor {
        return Ok(());
    }
    caller.session.monitor = true;
    let client = &caller.session.client;
    client.set_flag(client_flags::MONITOR, true);
    caller.server.monitors.add(Arc::clone(client));
    reply.ok();
    Ok(())
}

fn role(_: &mut Args<'_>, _: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    // A primary at offset 0 without replicas: nothing is replicated yet.
    reply.array(3);
    reply.bulk(b"master");
    reply.integer(0);
    reply.array(0);
    Ok(())
}

/// What SHUTDOWN asks for. NOW is what always happens: there is no replica to wait for.
#[derive(Default)]
struct Ending {
    save: bool,
    nosave: bool,
    now: bool,
    force: bool,
    abort: bool,
}

impl Ending {
    fn parse(args: &mut Args<'_>) -> Result<Self, CommandError> {
        let mut ending = Ending::default();
        while !args.is_empty() {
            if args.keyword("NOSAVE") {
                ending.nosave = true;
            } else if args.keyword("SAVE") {
                ending.save = true;
            } else if args.keyword("NOW") {
                ending.now = true;
            } else if args.keyword("FORCE") {
                ending.force = true;
            } else if args.keyword("ABORT") {
                ending.abort = true;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let others = ending.save || ending.nosave || ending.now || ending.force;
        if ending.abort && others || ending.save && ending.nosave {
            return Err(CommandError::Syntax);
        }
        Ok(ending)
    }
}

fn shutdown(args: &mut Args<'_>, caller: &mut Caller<'_>, _: &mut Reply<'_>) -> Done {
    let ending = Ending::parse(args)?;
    if ending.abort {
        // A server that ends runs no more commands, so there is never one to be stopped.
        return Err(CommandError::fixed("ERR No shutdown in progress."));
    }
    if ending.save && !ending.force {
        tracing::error!(
            "SHUTDOWN SAVE refused: this server writes no snapshots; SHUTDOWN NOSAVE ends it"
        );
        return Err(CommandError::fixed(
            "ERR Errors trying to SHUTDOWN. Check logs.",
        ));
    }
    tracing::info!(client = caller.session.client.id, addr = %caller.session.client.addr, "SHUTDOWN: stopping");
    caller.session.after = After::Close;
    caller.server.shutdown.ask();
    Ok(())
}

fn time(_: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let micros = caller.server.clock.micros();
    reply.array(2);
    reply.integer_bulk(micros.div_euclid(1_000_000));
    reply.integer_bulk(micros.rem_euclid(1_000_000));
    Ok(())
}

fn wait(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    args.integer()?;
    timeout_ms(args.bytes()?, caller.now)?;
    // Without replicas there is nothing to wait for, however many are asked for.
    reply.integer(0);
    Ok(())
}

fn waitaof(args: &mut Args<'_>, caller: &mut Caller<'_>, reply: &mut Reply<'_>) -> Done {
    let local = args.integer()?;
    if !(0..=1).contains(&local) {
        return Err(CommandError::fixed(
            "ERR value is out of range, value must between 0 and 1",
        ));
    }
    if args.integer()? < 0 {
        return Err(CommandError::NotPositive);
    }
    timeout_ms(args.bytes()?, caller.now)?;
    if local > 0 {
        return Err(CommandError::fixed(
            "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
        ));
    }
    reply.array(2);
    reply.integer(0);
    reply.integer(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::testing::Host;

    /// TIME and ROLE.
    #[test]
    fn time_and_role() {
        let host = Host::new();
        let mut client = host.client();
        host.server
            .clock
            .advance(std::time::Duration::from_millis(25));
        assert_eq!(
            client.run("TIME"),
            "*2\r\n$10\r\n1700000000\r\n$5\r\n25000\r\n"
        );
        assert_eq!(client.run("ROLE"), "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
    }

    /// WAIT and WAITAOF answer at once, and refuse what Redis refuses.
    #[test]
    fn waits() {
        let host = Host::new();
        let mut client = host.client();
        for (line, reply) in [
            ("WAIT 0 0", ":0\r\n"),
            ("WAIT 3 1000", ":0\r\n"),
            ("WAIT -1 0", ":0\r\n"),
            (
                "WAIT x 0",
                "-ERR value is not an integer or out of range\r\n",
            ),
            (
                "WAIT 0 x",
                "-ERR timeout is not an integer or out of range\r\n",
            ),
            ("WAIT 0 -1", "-ERR timeout is negative\r\n"),
            ("WAITAOF 0 0 0", "*2\r\n:0\r\n:0\r\n"),
            (
                "WAITAOF 2 0 0",
                "-ERR value is out of range, value must between 0 and 1\r\n",
            ),
            (
                "WAITAOF 0 -1 0",
                "-ERR value is out of range, must be positive\r\n",
            ),
            ("WAITAOF 0 0 -1", "-ERR timeout is negative\r\n"),
            (
                "WAITAOF 1 0 0",
                "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n",
            ),
        ] {
            assert_eq!(client.run(line), reply, "{line}");
        }
    }

    /// Options of SHUTDOWN: what is refused does not end the server, what is taken does, without a reply.
    #[test]
    fn shutdown_options() {
        for (options, reply) in [
            ("foo", "-ERR syntax error\r\n"),
            ("SAVE NOSAVE", "-ERR syntax error\r\n"),
            ("ABORT NOW", "-ERR syntax error\r\n"),
            ("ABORT NOSAVE", "-ERR syntax error\r\n"),
            ("ABORT", "-ERR No shutdown in progress.\r\n"),
            ("SAVE", "-ERR Errors trying to SHUTDOWN. Check logs.\r\n"),
            ("", ""),
            ("nosave", ""),
            ("NOW FORCE", ""),
            ("SAVE FORCE", ""),
        ] {
            let host = Host::new();
            let mut client = host.client();
            assert_eq!(client.run(&format!("SHUTDOWN {options}")), reply);
            assert_eq!(
                host.server.shutdown.is_requested(),
                reply.is_empty(),
                "{options}"
            );
            let ends = client.session.after == After::Close;
            assert_eq!(ends, reply.is_empty(), "{options}");
        }
    }

    /// MONITOR is answered once.
    #[test]
    fn monitor_once() {
        let host = Host::new();
        let mut client = host.client();
        assert_eq!(client.run("MONITOR"), "+OK\r\n");
        assert_eq!(client.run("MONITOR"), "");
        assert!(host.server.monitors.any());
    }

    /// Pictures have the size that was asked for, within bounds, and say the version.
    #[test]
    fn lolwut_sizes() {
        let host = Host::new();
        let mut client = host.client();
        client.run("HELLO 3");
        for (options, columns, rows) in [
            ("", 66, 16),
            ("x", 66, 16),
            ("VERSION 5", 66, 16),
            ("VERSION 5 10 3 2", 10, 3),
            (
                "VERSION 5 -9223372036854775808 9223372036854775807 9223372036854775807",
                1,
                200,
            ),
        ] {
            let text = client.run(&format!("LOLWUT {options}"));
            let (_, text) = text.split_once("txt:").expect("a verbatim string");
            let lines: Vec<&str> = text.split('\n').collect();
            assert_eq!(lines[0].len(), columns, "{options}");
            assert_eq!(lines[rows], "", "{options}");
            assert!(lines[rows + 1].ends_with(&format!("Redis ver. {REDIS_VERSION}")));
        }
        assert_eq!(
            client.run("LOLWUT VERSION x"),
            "-ERR value is not an integer or out of range\r\n"
        );
    }
}
