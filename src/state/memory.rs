//! The memory account of the server: what INFO memory, MEMORY STATS and MEMORY DOCTOR show.
//!
//! `used` is what maxmemory limits: what the server itself took when it was ready to serve, and the keys with their tables
//! as their size classes count them. Clients' buffers are apart, as data and buffers have budgets of their own
//! (DESIGN.md, section 4): they stand in `clients_normal`, and in the allocator's own figures.
//!
//! The peak is sampled: by the background task ten times a second, and whenever the account is read.

use std::sync::atomic::{AtomicI64, Ordering};

use super::Server;
use super::clients::{Client, ClientKind};
use crate::base::allocator::{self, AllocatorStats};
use crate::base::clock::Millis;

/// Bytes of an entry that are neither key nor value: its header.
const HEADER_BYTES: u64 = 8;
/// Bytes of an entry's expiry.
const EXPIRY_BYTES: u64 = 8;

/// The most memory that was used, and when. Written by whoever sees more; two that see more at once may leave the time of
/// the smaller one, a tenth of a second off.
#[derive(Debug, Default)]
pub struct Peak {
    bytes: AtomicI64,
    at: AtomicI64,
}

impl Peak {
    /// Takes a sample.
    pub fn observe(&self, bytes: i64, now: Millis) {
        if self.bytes.fetch_max(bytes, Ordering::Relaxed) < bytes {
            self.at.store(now.0, Ordering::Relaxed);
        }
    }

    /// The most bytes seen.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed).max(0) as u64
    }

    /// When that was.
    pub fn at(&self) -> Millis {
        Millis(self.at.load(Ordering::Relaxed))
    }
}

/// The overhead of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseOverhead {
    /// Its number as clients know it.
    pub number: u32,
    /// Its tables.
    pub tables: u64,
    /// Its tables and the headers of its entries.
    pub main: u64,
    /// The expiries of its entries.
    pub expires: u64,
}

/// The account at one moment.
#[derive(Clone, Debug)]
pub struct Memory {
    /// What maxmemory limits.
    pub used: u64,
    /// The most that was used.
    pub peak: u64,
    /// When that was.
    pub peak_at: Millis,
    /// What the server itself took when it was ready to serve.
    pub startup: u64,
    /// Databases that hold keys.
    pub databases: Vec<DatabaseOverhead>,
    /// Keys in all databases.
    pub keys: u64,
    /// Ordinary clients: buffers and registry.
    pub clients_normal: u64,
    /// MONITORs and replicas.
    pub clients_replicas: u64,
    /// Largest buffer of requests of any client.
    pub max_input: u64,
    /// Largest buffer of replies of any client.
    pub max_output: u64,
    /// What the allocator says.
    pub allocator: AllocatorStats,
    /// Resident memory of the process.
    pub resident: u64,
}

/// By how much one figure is larger than another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    /// The one by the other.
    pub ratio: f64,
    /// The one less the other.
    pub bytes: i64,
}

impl Excess {
    fn of(more: u64, less: u64) -> Excess {
        Excess {
            ratio: ratio(more, less),
            bytes: more as i64 - less as i64,
        }
    }
}

/// How much more each layer takes than the one it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fragmentation {
    /// Pages in use over what was given out.
    pub allocator: Excess,
    /// Pages in memory over pages in use.
    pub allocator_resident: Excess,
    /// The process over the allocator.
    pub process: Excess,
    /// The process over what maxmemory limits.
    pub total: Excess,
}

/// What maxmemory limits, in bytes.
pub fn used_bytes(server: &Server) -> i64 {
    server.base_bytes.load(Ordering::Relaxed) + server.keyspace.used_bytes()
}

impl Memory {
    /// Reads the account. Costs about 50 microseconds, and a few nanoseconds per client and partition.
    pub fn measure(server: &Server, now: Millis) -> Memory {
        let used = used_bytes(server);
        server.peak.observe(used, now);
        let databases: Vec<DatabaseOverhead> = server
            .keyspace
            .built()
            .filter(|(_, database)| !database.is_empty())
            .map(|(number, database)| {
                let tables = database.table_bytes().max(0) as u64;
                DatabaseOverhead {
                    number,
                    tables,
                    main: tables + database.len() as u64 * HEADER_BYTES,
                    expires: database.expires() as u64 * EXPIRY_BYTES,
                }
            })
            .collect();
        let mut memory = Memory {
            used: used.max(0) as u64,
            peak: server.peak.bytes(),
            peak_at: server.peak.at(),
            startup: server.base_bytes.load(Ordering::Relaxed).max(0) as u64,
            databases,
            keys: server
                .keyspace
                .built()
                .map(|(_, database)| database.len() as u64)
                .sum(),
            clients_normal: 0,
            clients_replicas: 0,
            max_input: 0,
            max_output: 0,
            allocator: allocator::stats(),
            resident: allocator::resident_bytes(),
        };
        server
            .clients
            .snapshot()
            .iter()
            .for_each(|client| memory.add_client(client));
        memory
    }

    fn add_client(&mut self, client: &Client) {
        let input = client.query_bytes.load(Ordering::Relaxed) as u64
            + client.query_free.load(Ordering::Relaxed) as u64;
        let output = client.output_bytes.load(Ordering::Relaxed) as u64;
        let all = client.memory_bytes() as u64;
        match client.kind() {
            ClientKind::Normal | ClientKind::Pubsub => self.clients_normal += all,
            ClientKind::Replica | ClientKind::Master => self.clients_replicas += all,
        }
        self.max_input = self.max_input.max(input);
        self.max_output = self.max_output.max(output);
    }

    /// What is used and is not key or value: the server itself, tables, headers, expiries.
    pub fn overhead(&self) -> u64 {
        let databases: u64 = self
            .databases
            .iter()
            .map(|one| one.main + one.expires)
            .sum();
        self.startup + databases
    }

    /// Bytes per key of what is used beside the server itself; 0 without keys.
    pub fn bytes_per_key(&self) -> u64 {
        let data = self.used.saturating_sub(self.startup);
        data.checked_div(self.keys).unwrap_or(0)
    }

    /// How much more each layer takes than the one it holds.
    pub fn fragmentation(&self) -> Fragmentation {
        let AllocatorStats {
            allocated,
            active,
            resident,
            ..
        } = self.allocator;
        Fragmentation {
            allocator: Excess::of(active, allocated),
            allocator_resident: Excess::of(resident, active),
            process: Excess::of(self.resident, resident),
            total: Excess::of(self.resident, self.used),
        }
    }

    /// Keys and values.
    pub fn dataset(&self) -> u64 {
        self.used.saturating_sub(self.overhead())
    }

    /// Keys and values in percent of what is used beside the server itself.
    pub fn dataset_percent(&self) -> f64 {
        percent(self.dataset(), self.used.saturating_sub(self.startup))
    }

    /// What is used in percent of the peak.
    pub fn peak_percent(&self) -> f64 {
        percent(self.used, self.peak)
    }
}

/// `part` in percent of `whole`; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    ratio(part, whole) * 100.0
}

/// `part` by `whole`; 0 of nothing.
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// A size as INFO shows it to people: `894.78K` (redis `bytesToHuman`).
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["K", "M", "G", "T", "P"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let step = (bytes.ilog2() / 10) as usize;
    match UNITS.get(step - 1) {
        Some(unit) => format!("{:.2}{unit}", bytes as f64 / (1u64 << (10 * step)) as f64),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (916_256, "894.78K"),
            (1_048_575, "1024.00K"),
            (1 << 20, "1.00M"),
            (25_276_510_208, "23.54G"),
            (3 << 40, "3.00T"),
            (1 << 50, "1.00P"),
            (1 << 60, "1152921504606846976B"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn shares_of_nothing_are_nothing() {
        assert_eq!((percent(1, 0), ratio(0, 0)), (0.0, 0.0));
        assert_eq!(percent(1, 8), 12.5);
    }

    #[test]
    fn the_peak_keeps_the_most_and_its_time() {
        let peak = Peak::default();
        peak.observe(10, Millis(1));
        peak.observe(5, Millis(2));
        assert_eq!((peak.bytes(), peak.at()), (10, Millis(1)));
        peak.observe(11, Millis(3));
        assert_eq!((peak.bytes(), peak.at()), (11, Millis(3)));
    }
}
