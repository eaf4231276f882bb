//! What the allocator says of itself, and the sizes that it gives out. jemalloc keeps exact statistics; without it the
//! process's own figures stand in.

/// The size class that an allocation of `bytes` takes in jemalloc: 8, 16, then 16 apart up to 128, then four classes per
/// doubling (jemalloc's documentation, "size classes"). Other allocators are taken to do the same.
#[inline]
pub const fn good_size(bytes: usize) -> usize {
    if bytes <= 8 {
        8
    } else if bytes <= 128 {
        (bytes + 15) & !15
    } else {
        let step = 1usize << ((usize::BITS - 1 - (bytes - 1).leading_zeros()) - 2);
        (bytes + step - 1) & !(step - 1)
    }
}

/// Bytes, as the allocator counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocatorStats {
    /// Given out to the program.
    pub allocated: u64,
    /// In pages that hold what was given out.
    pub active: u64,
    /// In pages that are mapped and in memory.
    pub resident: u64,
    /// In mapped extents.
    pub mapped: u64,
    /// Kept for later use.
    pub retained: u64,
    /// In pages that the kernel may take back when it needs them.
    pub muzzy: u64,
    /// The allocator's own records.
    pub metadata: u64,
}

/// The allocator's name and version, for INFO.
pub fn name() -> &'static str {
    if cfg!(feature = "jemalloc") {
        "jemalloc-5.3.1"
    } else {
        "libc"
    }
}

/// Reads the statistics: about 20 microseconds.
#[cfg(feature = "jemalloc")]
pub fn stats() -> AllocatorStats {
    use tikv_jemalloc_ctl::{epoch, stats};
    // A failure leaves the figures of the last epoch, or zeros: they are statistics.
    let _ = epoch::advance();
    AllocatorStats {
        allocated: stats::allocated::read().unwrap_or(0) as u64,
        active: stats::active::read().unwrap_or(0) as u64,
        resident: stats::resident::read().unwrap_or(0) as u64,
        mapped: stats::mapped::read().unwrap_or(0) as u64,
        retained: stats::retained::read().unwrap_or(0) as u64,
        muzzy: (read_all(b"stats.arenas.4096.pmuzzy\0") * rustix::param::page_size()) as u64,
        metadata: stats::metadata::read().unwrap_or(0) as u64,
    }
}

/// A figure over all arenas: jemalloc gives the index 4096 to their sum.
#[cfg(feature = "jemalloc")]
fn read_all(name: &'static [u8]) -> usize {
    use tikv_jemalloc_ctl::{Access, AsName};
    name.name().read().unwrap_or(0)
}

/// Without jemalloc: the process's resident memory stands for all.
#[cfg(not(feature = "jemalloc"))]
pub fn stats() -> AllocatorStats {
    let resident = resident_bytes();
    AllocatorStats {
        allocated: resident,
        active: resident,
        resident,
        mapped: resident,
        ..AllocatorStats::default()
    }
}

/// Resident memory of the process, from the kernel; 0 when it does not say.
pub fn resident_bytes() -> u64 {
    let Ok(statm) = std::fs::read_to_string("/proc/self/statm") else {
        return 0;
    };
    let pages: u64 = statm
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Lets jemalloc give unused pages back from a thread of its own, in time rather than with the next allocation.
pub fn start_background() {
    #[cfg(feature = "jemalloc")]
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "the allocator gives memory back late: no background thread");
    }
}

/// Gives the pages that hold nothing back to the kernel. `false` when the allocator cannot.
#[cfg(feature = "jemalloc")]
pub fn purge() -> bool {
    use tikv_jemalloc_ctl::{Access, AsName};
    let Ok(arenas) = tikv_jemalloc_ctl::arenas::narenas::read() else {
        return false;
    };
    // An arena whose pages decay in no time gives them all back at once; `arena.<i>.purge` would need unsafe code.
    let mut purged = false;
    for arena in 0..arenas {
        for kind in ["dirty", "muzzy"] {
            let name = format!("arena.{arena}.{kind}_decay_ms\0");
            let name = name.as_bytes().name();
            // Arenas that were never used have nothing, and say so by an error.
            if let Ok(decay_ms) = Access::<isize>::update(name, 0) {
                purged |= name.write(decay_ms).is_ok();
            }
        }
    }
    purged
}

/// Without jemalloc there is nothing that could be asked.
#[cfg(not(feature = "jemalloc"))]
pub fn purge() -> bool {
    false
}

/// The most of the allocator's report that is kept.
#[cfg(feature = "jemalloc")]
const REPORT_BYTES: usize = 256 * 1024;

/// The allocator's own report of its state, cut at 256 KiB; `None` when it has none. Takes about a millisecond.
#[cfg(feature = "jemalloc")]
pub fn report() -> Option<Vec<u8>> {
    use tikv_jemalloc_ctl::{epoch, stats_print};
    // As in `stats`: a failure leaves older figures.
    let _ = epoch::advance();
    let mut options = stats_print::Options::default();
    // Arena by arena it would be megabytes.
    options.skip_per_arena = true;
    let mut report = Vec::new();
    stats_print::stats_print(&mut report, options).ok()?;
    report.truncate(REPORT_BYTES);
    Some(report)
}

/// Without jemalloc there is none.
#[cfg(not(feature = "jemalloc"))]
pub fn report() -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_size_follows_jemallocs_classes() {
        let pairs = [
            (1, 8),
            (8, 8),
            (9, 16),
            (17, 32),
            (33, 48),
            (128, 128),
            (129, 160),
            (257, 320),
            (513, 640),
            (536, 640),
        ];
        for (asked, class) in pairs {
            assert_eq!(good_size(asked), class, "{asked}");
        }
        assert_eq!(good_size(16 * 1024), 16 * 1024);
        assert_eq!(good_size(16 * 1024 + 1), 20 * 1024);
    }
}
