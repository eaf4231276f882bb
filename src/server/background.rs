//! What runs beside the requests: active expiry, eviction that requests left unfinished, the end of idle clients, samples
//! for INFO.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::base::rng::Rng;
use crate::keyspace::effects::Effects;
use crate::keyspace::evict::{self, Outcome, Pressure};
use crate::keyspace::expire::{CYCLE, Sweeper};
use crate::state::latency::LatencyEvent;
use crate::state::{Server, memory};

/// Background work between two turns of the clients.
const WORK: Duration = Duration::from_micros(500);
/// Rest after each piece of work at active-expire-effort 1: a quarter of one core at most (redis
/// `ACTIVE_EXPIRE_CYCLE_SLOW_TIME_PERC` is 25 too). More effort rests less.
const REST: Duration = Duration::from_micros(1500);
/// How often memory is looked at when requests left it over the limit.
const EVICT_EVERY: Duration = Duration::from_millis(100);
/// How often rates and the peak of memory are sampled (redis takes ten samples a second too).
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// How often the memory of all clients is added up, if it is limited.
const CLIENT_MEMORY_EVERY: Duration = Duration::from_millis(100);
/// How often the table of CLIENT TRACKING is looked after.
const TEND_EVERY: Duration = Duration::from_millis(100);
/// How often idle clients are looked for.
const IDLE_EVERY: Duration = Duration::from_secs(1);
/// Keys evicted in one go.
const EVICT_ROUNDS: usize = 128;

/// Runs until it is aborted.
pub async fn run(server: Arc<Server>) {
    tokio::join!(
        expire(&server),
        evict(&server),
        close_idle(&server),
        limit_client_memory(&server),
        tend_tracking(&server),
        sample(&server)
    );
}

/// Samples what INFO shows as rates, and the peak of memory.
async fn sample(server: &Arc<Server>) {
    let begun = Instant::now();
    loop {
        let at_us = begun.elapsed().as_micros() as u64;
        server.stats.rates.sample(at_us, server.stats.totals());
        server
            .peak
            .observe(memory::used_bytes(server), server.clock.now());
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

async fn expire(server: &Arc<Server>) {
    let mut sweeper = Sweeper::default();
    let mut effects = Effects::default();
    let counts = &server.stats.expiry;
    loop {
        let cycle = Instant::now();
        let mut begun = Instant::now();
        let with_expiry: usize = server.keyspace.built().map(|(_, db)| db.expires()).sum();
        let mut expired = 0;
        while server.active_expire.load(Ordering::Relaxed) {
            effects.begin(server.keyspace.listeners.interest());
            let step = sweeper.step(&server.keyspace, server.clock.now(), &mut effects);
            settle(server, &mut effects);
            expired += step.expired;
            if step.cycle_done {
                counts.cycle(expired as u64, with_expiry as u64);
                break;
            }
            if begun.elapsed() >= WORK {
                worked(server, begun.elapsed());
                counts.cap_reached.add(1);
                let effort = server.config.settings().active_expire_effort.clamp(1, 10);
                tokio::time::sleep(REST / effort).await;
                begun = Instant::now();
            }
        }
        worked(server, begun.elapsed());
        tokio::time::sleep(CYCLE.saturating_sub(cycle.elapsed()).max(REST)).await;
    }
}

/// Counts a piece of active expiry.
fn worked(server: &Server, took: Duration) {
    server.stats.expiry.micros.add(took.as_micros() as u64);
    server.note_latency(LatencyEvent::ExpireCycle, took);
}

async fn evict(server: &Arc<Server>) {
    let mut effects = Effects::default();
    let mut rest = EVICT_EVERY;
    loop {
        tokio::time::sleep(rest).await;
        let outcome = evict_some(server, &mut effects);
        let is_over = outcome != Outcome::Within;
        server.stats.over_limit.observe(is_over, server.clock.now());
        settle(server, &mut effects);
        rest = match outcome {
            Outcome::Unfinished => REST,
            Outcome::Within | Outcome::Exhausted => EVICT_EVERY,
        };
    }
}

fn evict_some(server: &Server, effects: &mut Effects) -> Outcome {
    let rules = server.rules.load();
    let rng = Rng::from_system();
    let base_bytes = server.base_bytes.load(Ordering::Relaxed);
    let mut pressure = Pressure {
        rules: &rules,
        base_bytes,
        now: server.clock.now(),
        rng: &rng,
        watch: None,
    };
    if !pressure.is_over(&server.keyspace, 0) {
        return Outcome::Within;
    }
    let watch = |took| server.note_latency(LatencyEvent::EvictionDel, took);
    let begun = Instant::now();
    pressure.watch = server.watches_latency().then_some(&watch);
    effects.begin(server.keyspace.listeners.interest());
    let (outcome, evicted) = evict::evict(&server.keyspace, &pressure, EVICT_ROUNDS, effects);
    server.stats.mine().evicted.add(evicted as u64);
    server.note_latency(LatencyEvent::EvictionCycle, begun.elapsed());
    outcome
}

/// Keeps the table of CLIENT TRACKING within its bounds.
async fn tend_tracking(server: &Arc<Server>) {
    let rng = Rng::from_system();
    loop {
        let is_unfinished = server.tracking.tend(&rng);
        tokio::time::sleep(if is_unfinished { REST } else { TEND_EVERY }).await;
    }
}

/// Closes clients that are too many bytes for maxmemory-clients.
async fn limit_client_memory(server: &Arc<Server>) {
    loop {
        tokio::time::sleep(CLIENT_MEMORY_EVERY).await;
        let limit = server.config.settings().maxmemory_clients_bytes();
        if limit == 0 {
            continue;
        }
        for client in server.clients.over_limit(limit) {
            let bytes = client.memory_bytes();
            tracing::warn!(client = client.id, addr = %client.addr, bytes, "closed: clients take more than maxmemory-clients");
            server.stats.evicted_clients.add(1);
            client.kill(false);
        }
    }
}

/// Closes clients that were silent for `timeout`.
async fn close_idle(server: &Arc<Server>) {
    loop {
        tokio::time::sleep(IDLE_EVERY).await;
        let timeout = server.config.settings().timeout;
        if timeout.is_zero() {
            continue;
        }
        let silent_since = server.clock.now().plus(-(timeout.as_millis() as i64));
        for client in server.clients.snapshot() {
            if client.is_idle_since(silent_since) {
                tracing::debug!(client = client.id, addr = %client.addr, "closed: idle for longer than timeout");
                client.kill(false);
            }
        }
    }
}

/// Does what work beside the requests leaves to be done: tells listeners, frees, counts.
pub(super) fn settle(server: &Server, effects: &mut Effects) {
    effects.publish(&server.keyspace.listeners);
    effects.broadcast(&server.keyspace.listeners);
    if let Some(garbage) = effects.take_garbage() {
        server.discard(garbage);
    }
    server.keyspace.account(std::mem::take(&mut effects.bytes));
    let mine = server.stats.mine();
    mine.expired.add(std::mem::take(&mut effects.expired));
    let expired_fields = std::mem::take(&mut effects.expired_fields);
    mine.expired_fields.add(expired_fields);
}
