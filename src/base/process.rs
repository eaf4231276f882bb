//! What the kernel says of this process. Read from `/proc`, so zeros where there is none.

use std::time::Duration;

/// Processor time of the process, of its ended children, and of its first thread. Known to a tick of the kernel (10 ms).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Spent in the kernel.
    pub system: Duration,
    /// Spent outside it.
    pub user: Duration,
    /// Of ended children, in the kernel.
    pub system_children: Duration,
    /// Of ended children, outside it.
    pub user_children: Duration,
    /// Of the first thread, in the kernel.
    pub system_main: Duration,
    /// Of the first thread, outside it.
    pub user_main: Duration,
}

/// Processor time used so far.
pub fn cpu_times() -> CpuTimes {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let process = ticks(&read("/proc/self/stat"));
    let pid = std::process::id();
    let main = ticks(&read(&format!("/proc/self/task/{pid}/stat")));
    let time = |ticks: u64| {
        Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second())
    };
    CpuTimes {
        user: time(process[0]),
        system: time(process[1]),
        user_children: time(process[2]),
        system_children: time(process[3]),
        user_main: time(main[0]),
        system_main: time(main[1]),
    }
}

/// utime, stime, cutime and cstime of a line of `/proc/*/stat` (proc(5)): the 14th to 17th field. The second is the
/// program's name in parentheses and may hold anything, so counting begins behind the last one.
fn ticks(line: &str) -> [u64; 4] {
    let mut ticks = [0; 4];
    let Some((_, rest)) = line.rsplit_once(')') else {
        return ticks;
    };
    let numbers = rest.split_whitespace().skip(11);
    for (tick, number) in ticks.iter_mut().zip(numbers) {
        *tick = number.parse().unwrap_or(0);
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 2 3 4 11 12 13 14 20 0 9 0 5 6 7";
        assert_eq!(ticks(line), [11, 12, 13, 14]);
        assert_eq!(ticks(""), [0; 4]);
        assert_eq!(ticks("1 (x) S 1"), [0; 4]);
    }
}
