//! Random scripts, made of pieces that have been trouble, under bounds of time and memory: the engine answers afterwards.

use std::cell::RefCell;

use super::*;
use crate::base::rng::Rng;

thread_local! {
    static VICTIM: RefCell<Option<Arc<Interrupt>>> = const { RefCell::new(None) };
}

/// Ends a script that has run for some milliseconds.
fn breathe_and_end() {
    breathe();
    if BREATHS.get() >= 3 {
        VICTIM.with_borrow(|victim| victim.iter().for_each(|victim| victim.kill()));
    }
}

/// Builds scripts.
struct Author<'a> {
    rng: &'a Rng,
    budget: usize,
}

impl Author<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    fn pick<'p>(&mut self, pieces: &[&'p str]) -> &'p str {
        pieces[self.below(pieces.len())]
    }

    fn expression(&mut self) -> String {
        self.budget = self.budget.saturating_sub(1);
        if self.budget == 0 {
            return "1".into();
        }
        match self.below(16) {
            0..=3 => self
                .pick(&[
                    "nil",
                    "true",
                    "0",
                    "-1",
                    "1e308",
                    "0/0",
                    "2^53",
                    "''",
                    "'a\\0b'",
                    "'%s%d%f'",
                    "_G",
                    "a",
                    "b",
                    "KEYS",
                    "string",
                    "redis",
                    "getmetatable('')",
                    "getmetatable(_G)",
                    "{}",
                    "{1, 2, 3}",
                    "...",
                    "string.rep('x', 1000)",
                    "coroutine.running()",
                ])
                .into(),
            4 => format!("{{{}, k = {}}}", self.expression(), self.expression()),
            5 => format!(
                "function(...) {} return {} end",
                self.statement(),
                self.expression()
            ),
            6 => {
                let operator = self.pick(&["+", "..", "==", "<", "and", "or", "%", "^"]);
                format!("({} {operator} {})", self.expression(), self.expression())
            }
            7 => {
                let index = self.pick(&["x", "__index", "err", "ok", "map", "set", "double", "1"]);
                format!("({})['{index}']", self.expression())
            }
            8 => format!("#({})", self.expression()),
            _ => self.call(),
        }
    }

    fn call(&mut self) -> String {
        let function = self.pick(&[
            "pcall",
            "xpcall",
            "error",
            "assert",
            "select",
            "unpack",
            "next",
            "pairs",
            "ipairs",
            "rawget",
            "rawset",
            "rawequal",
            "setmetatable",
            "getmetatable",
            "tostring",
            "tonumber",
            "type",
            "loadstring",
            "load",
            "collectgarbage",
            "gcinfo",
            "redis.call",
            "redis.pcall",
            "redis.error_reply",
            "redis.status_reply",
            "redis.sha1hex",
            "redis.setresp",
            "redis.log",
            "redis.set_repl",
            "redis.acl_check_cmd",
            "string.format",
            "string.byte",
            "string.char",
            "string.sub",
            "string.dump",
            "string.upper",
            "string.reverse",
            "table.insert",
            "table.remove",
            "table.sort",
            "table.concat",
            "table.foreach",
            "table.foreachi",
            "table.maxn",
            "table.getn",
            "math.random",
            "math.randomseed",
            "math.floor",
            "math.fmod",
            "coroutine.create",
            "coroutine.resume",
            "coroutine.wrap",
            "coroutine.status",
            "coroutine.yield",
            "coroutine.running",
            "os.clock",
            "string.len",
            "math.max",
        ]);
        let count = self.below(4);
        let arguments: Vec<String> = (0..count).map(|_| self.expression()).collect();
        format!("{function}({})", arguments.join(", "))
    }

    fn statement(&mut self) -> String {
        self.budget = self.budget.saturating_sub(1);
        if self.budget == 0 {
            return String::new();
        }
        match self.below(14) {
            0 => format!("local a = {}", self.expression()),
            1 => format!("local b = {}", self.expression()),
            2 => format!("a = {}", self.expression()),
            3 => format!(
                "if {} then {} else {} end",
                self.expression(),
                self.statement(),
                self.statement()
            ),
            4 => format!(
                "for i = 1, {} do {} end",
                self.expression(),
                self.statement()
            ),
            5 => format!(
                "for k, v in pairs({}) do {} end",
                self.expression(),
                self.statement()
            ),
            6 => format!("while {} do {} end", self.expression(), self.statement()),
            7 => format!(
                "({})[{}] = {}",
                self.expression(),
                self.expression(),
                self.expression()
            ),
            8 => format!(
                "local function f(...) {} return f(...) end pcall(f, {})",
                self.statement(),
                self.expression()
            ),
            9 => format!("repeat {} until {}", self.statement(), self.expression()),
            10 => "local s = 'x' for i = 1, 40 do s = s .. s end".into(),
            _ => format!("local _ = {}", self.call()),
        }
    }

    fn script(&mut self) -> String {
        self.budget = 40;
        let count = 1 + self.below(6);
        let statements: Vec<String> = (0..count).map(|_| self.statement()).collect();
        format!(
            "local a, b = ARGV[1], 5 {}; return {}",
            statements.join("; "),
            self.expression()
        )
    }
}

#[test]
fn random_scripts_leave_the_engine_answering() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let rounds = std::env::var("ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    println!("SEED={seed}");
    let rng = Rng::seeded(seed);
    let mut engine = Engine::new(EngineOptions {
        memory_limit: 4 * 1024 * 1024,
        breathe: breathe_and_end,
        redis_version: "7.0.15",
    });
    for round in 0..rounds.unwrap_or(3_000) {
        let mut author = Author {
            rng: &rng,
            budget: 0,
        };
        let text = author.script();
        let interrupt = Arc::new(Interrupt::default());
        VICTIM.set(Some(Arc::clone(&interrupt)));
        BREATHS.set(0);
        let values = OwnedArguments::from(&[b"value"]);
        let none = OwnedArguments::default();
        let reply = sent(Protocol::Resp3, |reply| {
            let script = Script::new(Bytes::from(text.clone()))?;
            let run = ScriptRun {
                host: &mut FakeServer::default(),
                interrupt: &interrupt,
            };
            engine.eval(
                &script,
                none.as_arguments(),
                values.as_arguments(),
                run,
                reply,
            )
        });
        VICTIM.set(None);
        let whole = crate::resp::frame::frame_len(&reply);
        assert!(
            whole == Ok(Some(reply.len())) || whole == Err(crate::resp::frame::FrameError::TooDeep),
            "round {round}: {text}\n{}",
            reply.escape_ascii()
        );
        let look = "return {tostring(rawget(_G, 'x')), tostring(rawget(_G, 1)), ('a'):upper(), type(redis.call), \
            tostring(rawget(string, 'x')), tostring(getmetatable('').x)}";
        assert_eq!(
            eval(&mut engine, look),
            "*6\r\n$3\r\nnil\r\n$3\r\nnil\r\n$1\r\nA\r\n$8\r\nfunction\r\n$3\r\nnil\r\n$3\r\nnil\r\n",
            "round {round}: {text}"
        );
        assert!(!engine.is_spoiled(), "round {round}: {text}");
    }
}
