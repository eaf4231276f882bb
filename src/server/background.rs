//! What runs beside the requests: active expiry, eviction that requests left unfinished, the end of idle clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::base::rng::Rng;
use crate::keyspace::effects::Effects;
use crate::keyspace::evict::{self, Outcome, Pressure};
use crate::keyspace::expire::{CYCLE, Sweeper};
use crate::state::Server;

/// Background work between two turns of the clients.
const WORK: Duration = Duration::from_micros(500);
/// Rest after each piece of work at active-expire-effort 1: a quarter of one core at most (redis
/// `ACTIVE_EXPIRE_CYCLE_SLOW_TIME_PERC` is 25 too). More effort rests less.
const REST: Duration = Duration::from_micros(1500);
/// How often memory is looked at when requests left it over the limit.
const EVICT_EVERY: Duration = Duration::from_millis(10);
/// How often idle clients are looked for.
const IDLE_EVERY: Duration = Duration::from_secs(1);
/// Keys evicted in one go.
const EVICT_ROUNDS: usize = 128;

/// Runs until it is aborted.
pub async fn run(server: Arc<Server>) {
    tokio::join!(expire(&server), evict(&server), close_idle(&server));
}

async fn expire(server: &Arc<Server>) {
    let mut sweeper = Sweeper::default();
    let mut effects = Effects::default();
    loop {
        let cycle = Instant::now();
        let mut begun = Instant::now();
        while server.active_expire.load(Ordering::Relaxed) {
            effects.begin(server.keyspace.listeners.interest());
            let step = sweeper.step(&server.keyspace, server.clock.now(), &mut effects);
            settle(server, &mut effects);
            if step.cycle_done {
                break;
            }
            if begun.elapsed() >= WORK {
                let effort = server.config.settings().active_expire_effort.clamp(1, 10);
                tokio::time::sleep(REST / effort).await;
                begun = Instant::now();
            }
        }
        tokio::time::sleep(CYCLE.saturating_sub(cycle.elapsed()).max(REST)).await;
    }
}

async fn evict(server: &Arc<Server>) {
    let mut effects = Effects::default();
    loop {
        tokio::time::sleep(EVICT_EVERY).await;
        let outcome = evict_some(server, &mut effects);
        settle(server, &mut effects);
        if outcome == Outcome::Unfinished {
            tokio::task::yield_now().await;
        }
    }
}

fn evict_some(server: &Server, effects: &mut Effects) -> Outcome {
    let rules = server.rules.load();
    let rng = Rng::from_system();
    let base_bytes = server.base_bytes.load(Ordering::Relaxed);
    let pressure = Pressure {
        rules: &rules,
        base_bytes,
        now: server.clock.now(),
        rng: &rng,
    };
    if !pressure.is_over(&server.keyspace, 0) {
        return Outcome::Within;
    }
    effects.begin(server.keyspace.listeners.interest());
    let (outcome, evicted) = evict::evict(&server.keyspace, &pressure, EVICT_ROUNDS, effects);
    server.stats.mine().evicted.add(evicted as u64);
    outcome
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

fn settle(server: &Server, effects: &mut Effects) {
    effects.publish(&server.keyspace.listeners);
    if let Some(garbage) = effects.take_garbage() {
        server.discard(garbage);
    }
    server.keyspace.account(std::mem::take(&mut effects.bytes));
    server
        .stats
        .mine()
        .expired
        .add(std::mem::take(&mut effects.expired));
}
