//! The scripts of a server, the machines that run them, and the runs that are under way.
//!
//! A script is known by the SHA-1 of its text from its first EVAL or SCRIPT LOAD on. What came by EVAL only is forgotten
//! when there are too many ([`EVAL_SCRIPTS`]), the longest unused first; what was loaded stays until SCRIPT FLUSH.
//!
//! Every thread that runs scripts has a [`Seat`] with a Lua machine of its own, built when it is first needed. The seat shows
//! to others what runs in it and since when: SCRIPT KILL, FUNCTION STATS and those who wait for the run's keys look there.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use parking_lot::Mutex;
use quanta::Instant;
use tokio::sync::Notify;

use super::functions::Library;
use crate::base::clock::Millis;
use crate::base::version::REDIS_VERSION;
use crate::base::worker::give_worker_away;
use crate::cluster::ask::LoadedScript;
use crate::keyspace::lock::{Place, Plan};
use crate::resp::decode::{Arguments, OwnedArguments};
use crate::script::engine::{Engine, EngineOptions};
use crate::script::{Interrupt, Script, ScriptFlags, ScriptName};
use crate::table::CommandError;

/// Scripts that are kept although nobody loaded them: what redis-server 7.4 keeps.
const EVAL_SCRIPTS: usize = 500;
/// Bytes of their texts.
const EVAL_BYTES: usize = 64 * 1024 * 1024;
/// What the request of a run that is over may still take.
const KEPT_BYTES: usize = 16 * 1024;
/// What one machine's values may take, at most.
const MEMORY_LIMIT: usize = 256 * 1024 * 1024;

/// A script and what was found out about it.
pub struct Known {
    /// The script.
    pub script: Script,
    /// When it was loaded, in milliseconds since 1970: then it stays. 0: it was not.
    loaded_ms: AtomicI64,
    /// Whether it was used since it was last looked at. A hint, so relaxed, as the next one.
    is_used: AtomicBool,
    /// Whether it has reached for keys that it did not declare: it is run with the leave to lock more from the start.
    strays: AtomicBool,
    /// Set when it is taken out of the table, read by who remembers it from there. Relaxed: whoever reads it while it is set
    /// could have looked into the table just before.
    is_forgotten: AtomicBool,
}

impl Known {
    /// Whether it is the script of this SHA-1, in digits of lower case, and still known. It is used then.
    pub fn is(&self, sha1: &[u8]) -> bool {
        let is_it = self.script.sha1 == *sha1 && !self.is_forgotten.load(Ordering::Relaxed);
        if is_it {
            self.is_used.store(true, Ordering::Relaxed);
        }
        is_it
    }

    fn forget(&self) {
        self.is_forgotten.store(true, Ordering::Relaxed);
    }
}

impl Known {
    fn is_loaded(&self) -> bool {
        self.loaded_ms.load(Ordering::Relaxed) != 0
    }
}

/// Texts that came by EVAL, in the order of their coming.
#[derive(Default)]
struct Evaluated {
    order: VecDeque<ScriptName>,
    bytes: usize,
}

/// The scripts of a server and their runs.
pub struct Scripts {
    known: DashMap<ScriptName, Arc<Known>>,
    /// A leaf lock.
    evaluated: Mutex<Evaluated>,
    /// Texts forgotten since the start.
    evicted: AtomicU64,
    /// When the last SCRIPT FLUSH was, in milliseconds since 1970; 0 for never.
    flushed_ms: AtomicI64,
    /// Counts SCRIPT FLUSHes: a machine that was filled before the last one is emptied before it is used again.
    flushes: AtomicU64,
    /// A leaf lock.
    seats: Mutex<Vec<Weak<Seat>>>,
    /// Runs that have taken longer than a millisecond. Who waits for partitions rests longer while there are some.
    long_runs: AtomicUsize,
    /// Somebody waits for the end of a long run.
    ended: Notify,
    memory_limit: usize,
}

/// Where one thread runs scripts of one server.
pub struct Seat {
    scripts: Weak<Scripts>,
    /// How the run is ended from outside.
    pub interrupt: Arc<Interrupt>,
    /// Whether the run has called a command that writes. Written by the run, read by SCRIPT KILL.
    pub has_written: AtomicBool,
    /// Bytes of the machine's values after its last run.
    memory_bytes: AtomicUsize,
    /// A leaf lock.
    running: Mutex<Running>,
}

/// What runs in a seat.
#[derive(Default)]
struct Running {
    begun: Option<Instant>,
    is_long: bool,
    /// How long it runs before it tries to give its worker away again.
    gives_away_at: Duration,
    /// Of a function.
    function: Option<String>,
    request: OwnedArguments,
    places: Plan,
}

/// What is run.
#[derive(Clone)]
pub enum Subject {
    /// A script.
    Script(Arc<Known>),
    /// A function of a library.
    Function(Arc<Library>, String),
}

impl Subject {
    /// What it may do.
    pub fn flags(&self) -> ScriptFlags {
        match self {
            Subject::Script(known) => known.script.flags,
            Subject::Function(library, name) => {
                let spec = library.functions.iter().find(|spec| spec.name == *name);
                spec.map_or(ScriptFlags::empty(), |spec| spec.flags)
            }
        }
    }

    /// Whether it has reached for keys that it did not declare.
    pub fn strays(&self) -> bool {
        self.straying().load(Ordering::Relaxed)
    }

    /// Notes that it has.
    pub fn note_straying(&self) {
        self.straying().store(true, Ordering::Relaxed);
    }

    fn straying(&self) -> &AtomicBool {
        match self {
            Subject::Script(known) => &known.strays,
            Subject::Function(library, _) => &library.strays,
        }
    }
}

/// A run under way, as FUNCTION STATS shows it.
pub struct Shown {
    /// The function's name, or nothing for a script.
    pub function: Option<String>,
    /// The request.
    pub request: OwnedArguments,
    /// How long it has run.
    pub took: Duration,
}

/// How an attempt to end the runs went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// At least one ends.
    Done,
    /// None is under way.
    NotBusy,
    /// What is under way has written.
    Unkillable,
    /// What is under way is a script, and a function was to be ended, or the other way round.
    OtherKind,
}

struct Workbench {
    seat: Arc<Seat>,
    engine: Engine,
    flushes: u64,
}

thread_local! {
    static WORKBENCH: RefCell<Option<Workbench>> = const { RefCell::new(None) };
    /// The seat of the last run on this thread, which may be under way.
    static SEATED: RefCell<Option<Arc<Seat>>> = const { RefCell::new(None) };
}

impl Scripts {
    /// None. `memory_bytes`: what the machine has, if it is known; a script may take a quarter of it.
    pub fn new(memory_bytes: Option<u64>) -> Arc<Scripts> {
        let quarter = memory_bytes.map_or(MEMORY_LIMIT, |bytes| (bytes / 4) as usize);
        Arc::new(Scripts {
            known: DashMap::new(),
            evaluated: Mutex::default(),
            evicted: AtomicU64::new(0),
            flushed_ms: AtomicI64::new(0),
            flushes: AtomicU64::new(0),
            seats: Mutex::default(),
            long_runs: AtomicUsize::new(0),
            ended: Notify::new(),
            memory_limit: quarter.min(MEMORY_LIMIT),
        })
    }

    /// The script with this SHA-1, in digits of either case.
    pub fn find(&self, sha1: &[u8]) -> Option<Arc<Known>> {
        let mut digits = <[u8; 40]>::try_from(sha1).ok()?;
        digits.make_ascii_lowercase();
        let known = self.known.get(&ScriptName(digits))?;
        known.is_used.store(true, Ordering::Relaxed);
        Some(Arc::clone(&known))
    }

    /// The script of this text; compiled and kept if it is not known.
    ///
    /// # Errors
    /// It is not a script.
    pub fn of_text(self: &Arc<Self>, text: &[u8]) -> Result<Arc<Known>, CommandError> {
        let sha1 = crate::script::sha1_hex(text);
        match self.find(&sha1) {
            Some(known) => Ok(known),
            None => self.add(text, None),
        }
    }

    /// Keeps a script until SCRIPT FLUSH.
    ///
    /// # Errors
    /// It is not a script.
    pub fn load(self: &Arc<Self>, text: &[u8], now: Millis) -> Result<Arc<Known>, CommandError> {
        let sha1 = crate::script::sha1_hex(text);
        // After the last SCRIPT FLUSH, also within its millisecond.
        let now = Millis(now.0.max(self.flushed_ms() + 1));
        match self.find(&sha1) {
            Some(known) => {
                known.loaded_ms.fetch_max(now.0, Ordering::Relaxed);
                Ok(known)
            }
            None => self.add(text, Some(now)),
        }
    }

    fn add(
        self: &Arc<Self>,
        text: &[u8],
        loaded: Option<Millis>,
    ) -> Result<Arc<Known>, CommandError> {
        let script = Script::new(Bytes::copy_from_slice(text))?;
        self.with_engine(|engine, _| engine.compile(&script))?;
        let sha1 = ScriptName(script.sha1);
        let known = Arc::new(Known {
            script,
            loaded_ms: AtomicI64::new(loaded.map_or(0, |loaded| loaded.0)),
            is_used: AtomicBool::new(false),
            strays: AtomicBool::new(false),
            is_forgotten: AtomicBool::new(false),
        });
        match self.known.insert(sha1, Arc::clone(&known)) {
            Some(replaced) => replaced.forget(),
            None if loaded.is_some() => {}
            None => self.note_evaluated(sha1, text.len()),
        }
        Ok(known)
    }

    /// Forgets what is too much.
    fn note_evaluated(&self, sha1: ScriptName, bytes: usize) {
        let mut evicted = Vec::new();
        let mut evaluated = self.evaluated.lock();
        evaluated.order.push_back(sha1);
        evaluated.bytes += bytes;
        // Each is looked at twice at most: once it loses its mark of use, then it goes.
        let mut looks = 2 * evaluated.order.len();
        while (evaluated.order.len() > EVAL_SCRIPTS || evaluated.bytes > EVAL_BYTES) && looks > 0 {
            looks -= 1;
            let Some(oldest) = evaluated.order.pop_front() else {
                break;
            };
            let Some(known) = self.known.get(&oldest).map(|known| Arc::clone(&known)) else {
                continue;
            };
            if known.is_used.swap(false, Ordering::Relaxed) && oldest != sha1 {
                evaluated.order.push_back(oldest);
                continue;
            }
            evaluated.bytes = evaluated.bytes.saturating_sub(known.script.text.len());
            if !known.is_loaded() {
                evicted.push(oldest);
            }
        }
        drop(evaluated);
        self.evicted
            .fetch_add(evicted.len() as u64, Ordering::Relaxed);
        for sha1 in evicted {
            if let Some((_, known)) = self.known.remove(&sha1) {
                known.forget();
            }
        }
    }

    /// Forgets all.
    pub fn flush(&self, now: Millis) {
        self.flushed_ms.fetch_max(now.0, Ordering::Relaxed);
        let mut evaluated = self.evaluated.lock();
        *evaluated = Evaluated::default();
        self.known.retain(|_, known| {
            known.forget();
            false
        });
        self.flushes.fetch_add(1, Ordering::Release);
    }

    /// When the last SCRIPT FLUSH was, in milliseconds since 1970; 0 for never.
    pub fn flushed_ms(&self) -> i64 {
        self.flushed_ms.load(Ordering::Relaxed)
    }

    /// A hash of the names of all that are loaded, whatever their order.
    pub fn digest(&self) -> u128 {
        let loaded = self.known.iter().filter(|known| known.is_loaded());
        loaded.fold(0, |sum, known| {
            sum ^ xxhash_rust::xxh3::xxh3_128(&known.script.sha1)
        })
    }

    /// Loaded scripts whose names come behind `last`, in order, up to some bytes of text and one script more.
    pub fn loaded_after(&self, last: &[u8], bytes: usize) -> Vec<LoadedScript> {
        let loaded = self.known.iter().filter(|known| known.is_loaded());
        let mut behind: Vec<[u8; 40]> = loaded
            .map(|known| known.script.sha1)
            .filter(|name| &name[..] > last)
            .collect();
        behind.sort_unstable();
        let (mut found, mut taken) = (Vec::new(), 0);
        for name in behind {
            let Some(known) = self.known.get(&ScriptName(name)) else {
                continue;
            };
            taken += known.script.text.len();
            found.push(LoadedScript {
                since_ms: known.loaded_ms.load(Ordering::Relaxed),
                text: known.script.text.to_vec(),
            });
            if taken > bytes {
                break;
            }
        }
        found
    }

    /// Another node has forgotten all scripts at that time: forgets what was loaded before. What was only run stays: any
    /// client may name it again.
    pub fn forget_loaded_before(&self, flushed_ms: i64) {
        self.flushed_ms.fetch_max(flushed_ms, Ordering::Relaxed);
        self.known.retain(|_, known| {
            !known.is_loaded() || known.loaded_ms.load(Ordering::Relaxed) > flushed_ms
        });
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Bytes of their texts.
    pub fn text_bytes(&self) -> usize {
        self.known.iter().map(|known| known.script.text.len()).sum()
    }

    /// Bytes of all machines' values.
    pub fn machine_bytes(&self) -> usize {
        let seats = self.seats.lock();
        let alive = seats.iter().filter_map(Weak::upgrade);
        alive
            .map(|seat| seat.memory_bytes.load(Ordering::Relaxed))
            .sum()
    }

    /// Scripts forgotten since the start because there were too many.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Lets `work` use the thread's machine.
    pub fn with_engine<T>(self: &Arc<Self>, work: impl FnOnce(&mut Engine, &Arc<Seat>) -> T) -> T {
        WORKBENCH.with_borrow_mut(|workbench| {
            let flushes = self.flushes.load(Ordering::Acquire);
            let is_ours = |bench: &Workbench| {
                std::ptr::eq(bench.seat.scripts.as_ptr(), Arc::as_ptr(self))
                    && !bench.engine.is_spoiled()
            };
            let bench = match workbench {
                Some(bench) if is_ours(bench) => bench,
                _ => workbench.insert(self.workbench(flushes)),
            };
            if bench.flushes != flushes {
                bench.engine.flush();
                bench.flushes = flushes;
            }
            work(&mut bench.engine, &bench.seat)
        })
    }

    fn workbench(self: &Arc<Self>, flushes: u64) -> Workbench {
        let seat = Arc::new(Seat {
            scripts: Arc::downgrade(self),
            interrupt: Arc::default(),
            has_written: AtomicBool::new(false),
            memory_bytes: AtomicUsize::new(0),
            running: Mutex::default(),
        });
        let mut seats = self.seats.lock();
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(&seat));
        drop(seats);
        let engine = Engine::new(EngineOptions {
            memory_limit: self.memory_limit,
            breathe,
            redis_version: REDIS_VERSION,
        });
        Workbench {
            seat,
            engine,
            flushes,
        }
    }

    /// Whether a run has taken longer than a millisecond.
    #[inline]
    pub fn has_long_runs(&self) -> bool {
        self.long_runs.load(Ordering::Relaxed) > 0
    }

    /// Waits until a long run ends, or for a while.
    pub async fn a_long_run_ends(&self, patience: Duration) {
        let ended = self.ended.notified();
        let _ = tokio::time::timeout(patience, ended).await;
    }

    /// Whether a run that has taken longer than `limit` holds one of these partitions; `true` in it for a function's.
    pub fn overdue(&self, limit: Duration, wants: impl Fn(&[Place]) -> bool) -> Option<bool> {
        let seats = self.seats.lock();
        seats.iter().filter_map(Weak::upgrade).find_map(|seat| {
            let running = seat.running.lock();
            let is_over = running.begun?.elapsed() >= limit && wants(&running.places);
            is_over.then_some(running.function.is_some())
        })
    }

    /// The runs under way.
    pub fn shown(&self) -> Vec<Shown> {
        let seats = self.seats.lock();
        let alive = seats.iter().filter_map(Weak::upgrade);
        alive
            .filter_map(|seat| {
                let running = seat.running.lock();
                Some(Shown {
                    function: running.function.clone(),
                    request: running.request.clone(),
                    took: running.begun?.elapsed(),
                })
            })
            .collect()
    }

    /// Ends the scripts, or the functions, that have run for longer than `limit`.
    pub fn kill(&self, functions: bool, limit: Duration) -> Kill {
        let seats = self.seats.lock();
        let mut outcome = Kill::NotBusy;
        for seat in seats.iter().filter_map(Weak::upgrade) {
            let running = seat.running.lock();
            if running.begun.is_none_or(|begun| begun.elapsed() < limit) {
                continue;
            }
            if running.function.is_some() != functions {
                if outcome == Kill::NotBusy {
                    outcome = Kill::OtherKind;
                }
            } else if seat.has_written.load(Ordering::Relaxed) {
                if outcome != Kill::Done {
                    outcome = Kill::Unkillable;
                }
            } else {
                seat.interrupt.kill();
                outcome = Kill::Done;
            }
        }
        outcome
    }
}

impl Seat {
    /// Shows a run until what is returned is dropped.
    pub fn sit<'s>(
        self: &'s Arc<Seat>,
        subject: &Subject,
        request: Arguments<'_>,
        places: impl Iterator<Item = Place>,
    ) -> Sitting<'s> {
        let mut running = self.running.lock();
        running.begun = Some(Instant::now());
        running.is_long = false;
        running.gives_away_at = Duration::ZERO;
        running.function = match subject {
            Subject::Script(_) => None,
            Subject::Function(_, name) => Some(name.clone()),
        };
        running.request.clear();
        running.request.append(request);
        running.places.clear();
        running.places.extend(places);
        self.has_written.store(false, Ordering::Relaxed);
        self.interrupt.reset();
        drop(running);
        SEATED.with_borrow_mut(|seated| {
            if !seated.as_ref().is_some_and(|seat| Arc::ptr_eq(seat, self)) {
                *seated = Some(Arc::clone(self));
            }
        });
        Sitting(self)
    }

    /// Adds to the partitions that the run holds.
    pub fn add_places(&self, places: &[Place]) {
        self.running.lock().places.extend_from_slice(places);
    }

    /// Notes what the machine takes.
    pub fn note_memory(&self, bytes: usize) {
        self.memory_bytes.store(bytes, Ordering::Relaxed);
    }

    fn end(&self) {
        let mut running = self.running.lock();
        running.begun = None;
        if running.request.memory_bytes() > KEPT_BYTES {
            running.request = OwnedArguments::default();
        } else {
            running.request.clear();
        }
        let was_long = std::mem::take(&mut running.is_long);
        drop(running);
        if was_long && let Some(scripts) = self.scripts.upgrade() {
            scripts.long_runs.fetch_sub(1, Ordering::Relaxed);
            scripts.ended.notify_waiters();
        }
    }

    /// Called about every millisecond of a run: lets the worker's other tasks go to another thread. Nothing happens while
    /// none is under way, as when a library is loaded.
    fn breathe(&self) {
        let mut running = self.running.lock();
        let Some(begun) = running.begun else {
            return;
        };
        if !running.is_long {
            running.is_long = true;
            if let Some(scripts) = self.scripts.upgrade() {
                scripts.long_runs.fetch_add(1, Ordering::Relaxed);
            }
        }
        let ran = begun.elapsed();
        if ran < running.gives_away_at {
            return;
        }
        // The worker is taken over by another thread while this one is away. When that one is late, this one takes it back
        // and nobody can tell; so it goes away again and again, each time for longer, an eighth of the time it runs.
        let away = (ran / 8).clamp(AWAY_LEAST, AWAY_MOST);
        running.gives_away_at = ran + 9 * away;
        drop(running);
        give_worker_away(|| std::thread::sleep(away));
    }
}

/// How long a run stays away at first for its worker to be taken over: a thread is woken in less.
const AWAY_LEAST: Duration = Duration::from_micros(100);
/// How long at last: in less a thread begins on a machine that is very busy.
const AWAY_MOST: Duration = Duration::from_millis(50);

/// A run that is shown.
pub struct Sitting<'s>(&'s Arc<Seat>);

impl Drop for Sitting<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn breathe() {
    let seat = SEATED.with_borrow(Option::clone);
    if let Some(seat) = seat {
        seat.breathe();
    }
}
