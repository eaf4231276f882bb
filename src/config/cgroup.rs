//! What the machine, or the container we run in, lets us use: memory and processors.
//!
//! Linux tells a process its control group in `/proc/self/cgroup`; limits are files in a directory tree that mirrors the groups.
//! Every ancestor's limit holds too, so the tree is walked from the group to its root and the smallest limit wins. In a container
//! the path may name a place that is not visible inside (no cgroup namespace): then only the mount's root exists, which is the
//! container's own group, and the walk finds it as its last step.
//!
//! | | version 2 | version 1 |
//! |---|---|---|
//! | memory | `memory.max`, and `memory.high` (above it the kernel throttles, which looks like a hang) | `memory.limit_in_bytes` |
//! | processors | `cpu.max`: quota and period | `cpu.cfs_quota_us`, `cpu.cfs_period_us` |
//!
//! Both versions can be mounted at once, so both are read. Functions take the root of the file system, `/` in life and a
//! directory in tests. A file that is absent or unreadable is no limit: the server must start anywhere.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The resources of this process. Read once at start; limits changed later are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The control group's limit, when there is one below the machine's memory.
    pub memory_limit_bytes: Option<u64>,
    /// Memory of the whole machine; 0 when unknown.
    pub memory_total_bytes: u64,
    /// Processors worth a thread each, at least 1: the quota rounded up, else what the scheduler may use.
    pub cpu_count: u32,
}

impl Machine {
    /// What this process finds.
    pub fn probe() -> Machine {
        let parallelism =
            std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        Machine::read(Path::new("/"), parallelism)
    }

    /// The same under another root; `parallelism` is the answer when nothing limits the processors.
    pub fn read(root: &Path, parallelism: u32) -> Machine {
        let total = memory_total(root).unwrap_or(0);
        let limit = memory_limit(root).filter(|&limit| total == 0 || limit < total);
        let quota = cpu_quota(root).map(|cpus| cpus.ceil() as u32);
        // available_parallelism knows quotas too, but rounds 1.5 down; the allowed list is what remains of it without them.
        let cpu_count = quota.map_or(parallelism, |quota| {
            quota.min(allowed_cpus(root).unwrap_or(parallelism))
        });
        Machine {
            memory_limit_bytes: limit,
            memory_total_bytes: total,
            cpu_count: cpu_count.max(1),
        }
    }

    /// What a percentage of memory is a percentage of: the limit, else the machine.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_limit_bytes.unwrap_or(self.memory_total_bytes)
    }
}

/// The smallest memory limit on the way from our group to the root, in bytes.
pub fn memory_limit(root: &Path) -> Option<u64> {
    let unified = ancestors(root, "")
        .into_iter()
        .flat_map(|dir| [dir.join("memory.max"), dir.join("memory.high")]);
    let legacy = ancestors(root, "memory")
        .into_iter()
        .map(|dir| dir.join("memory.limit_in_bytes"));
    unified
        .chain(legacy)
        .filter_map(|file| number(&file))
        .filter(|&bytes| bytes < NO_LIMIT)
        .min()
}

/// Version 1 writes "unlimited" as the largest multiple of the page size below 2^63.
const NO_LIMIT: u64 = 1 << 62;

/// The smallest processor quota on the way from our group to the root: 0.5 is half of one processor's time.
pub fn cpu_quota(root: &Path) -> Option<f64> {
    let unified = ancestors(root, "").into_iter().filter_map(|dir| {
        let text = fs::read_to_string(dir.join("cpu.max")).ok()?;
        let (quota, period) = text.trim().split_once(' ')?;
        ratio(quota.parse().ok()?, period.parse().ok()?)
    });
    let legacy = ancestors(root, "cpu").into_iter().filter_map(|dir| {
        ratio(
            number(&dir.join("cpu.cfs_quota_us"))?,
            number(&dir.join("cpu.cfs_period_us"))?,
        )
    });
    unified.chain(legacy).min_by(f64::total_cmp)
}

fn memory_total(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn allowed_cpus(root: &Path) -> Option<u32> {
    let text = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let list = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    list.trim().split(',').map(range_len).sum()
}

/// The length of `3` or `0-7`.
fn range_len(range: &str) -> Option<u32> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    last.parse::<u32>()
        .ok()?
        .checked_sub(first.parse().ok()?)?
        .checked_add(1)
}

fn ratio(quota: u64, period: u64) -> Option<f64> {
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The directories whose limits hold for us, our own first; `controller` is empty for version 2.
fn ancestors(root: &Path, controller: &str) -> Vec<PathBuf> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let ours = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some((controllers, path))
    });
    let Some((controllers, path)) = ours else {
        return Vec::new();
    };
    let base = root.join("sys/fs/cgroup");
    let mount = match controller {
        "" => Some(base),
        // Mounted under all of its names (`cpu,cpuacct`), usually with a link for each.
        _ => [controllers, controller]
            .map(|name| base.join(name))
            .into_iter()
            .find(|dir| dir.is_dir()),
    };
    let Some(mount) = mount else {
        return Vec::new();
    };
    let mut dir = mount.clone();
    // `..` leads out of a container's namespace, where nothing of ours is to be seen.
    dir.extend(
        Path::new(path)
            .components()
            .filter(|part| matches!(part, Component::Normal(_))),
    );
    dir.ancestors()
        .take_while(|dir| dir.starts_with(&mount))
        .map(Path::to_path_buf)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::TempDir;
    use super::*;

    fn root(name: &str, files: &[(&str, &str)]) -> TempDir {
        let dir = TempDir::new(name);
        for (path, text) in files {
            dir.write(path, text);
        }
        dir
    }

    #[test]
    fn version_2_walks_up() {
        // Aim: the smallest of max and high of all ancestors, "max" meaning none; a quota of 1.5 is worth two threads.
        let dir = root(
            "v2",
            &[
                ("proc/self/cgroup", "0::/pod/box\n"),
                ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-2,5\n"),
                (
                    "proc/meminfo",
                    "MemTotal:       2097152 kB\nMemFree: 1 kB\n",
                ),
                ("sys/fs/cgroup/pod/box/memory.max", "max\n"),
                ("sys/fs/cgroup/pod/box/memory.high", "900000000\n"),
                ("sys/fs/cgroup/pod/memory.max", "800000000\n"),
                ("sys/fs/cgroup/pod/box/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/pod/cpu.max", "150000 100000\n"),
            ],
        );
        assert_eq!(memory_limit(dir.path()), Some(800_000_000));
        assert_eq!(cpu_quota(dir.path()), Some(1.5));
        let machine = Machine::read(dir.path(), 64);
        assert_eq!(
            machine,
            Machine {
                memory_limit_bytes: Some(800_000_000),
                memory_total_bytes: 2 << 30,
                cpu_count: 2
            }
        );
        assert_eq!(machine.memory_bytes(), 800_000_000);
    }

    #[test]
    fn version_2_without_namespace() {
        // Aim: the path names nothing visible; the mount's root is the container's group. Paths with `..` do not escape.
        for group in ["0::/docker/0123\n", "0::/../../other\n", "0::/\n"] {
            let dir = root(
                "v2-bare",
                &[
                    ("proc/self/cgroup", group),
                    ("sys/fs/cgroup/memory.max", "67108864\n"),
                ],
            );
            assert_eq!(memory_limit(dir.path()), Some(64 << 20), "{group}");
            assert_eq!(cpu_quota(dir.path()), None);
        }
    }

    #[test]
    fn version_1() {
        // Aim: controllers mounted apart, an unlimited group, a limited parent, quota -1.
        let dir = root(
            "v1",
            &[
                ("proc/self/cgroup", "12:memory:/a/b\n4:cpu,cpuacct:/a\n"),
                ("proc/self/status", "Cpus_allowed_list:\t0-7\n"),
                (
                    "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                (
                    "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                    "134217728\n",
                ),
                ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "250000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ],
        );
        assert_eq!(memory_limit(dir.path()), Some(128 << 20));
        assert_eq!(cpu_quota(dir.path()), Some(2.5));
        assert_eq!(Machine::read(dir.path(), 1).cpu_count, 3);
    }

    #[test]
    fn nothing_to_read() {
        // Aim: an empty root is a machine without limits; a limit above the machine's memory is none.
        let dir = root("none", &[]);
        assert_eq!(
            Machine::read(dir.path(), 6),
            Machine {
                memory_limit_bytes: None,
                memory_total_bytes: 0,
                cpu_count: 6
            }
        );
        dir.write("proc/meminfo", "MemTotal: 1024 kB\n");
        dir.write("proc/self/cgroup", "0::/\n");
        dir.write("sys/fs/cgroup/memory.max", "1048576\n");
        assert_eq!(Machine::read(dir.path(), 6).memory_limit_bytes, None);
        assert_eq!(Machine::read(dir.path(), 6).memory_bytes(), 1 << 20);
    }

    #[test]
    fn odd_cpu_lists() {
        // Aim: a list we cannot read is no list, not a panic.
        assert_eq!(range_len("3"), Some(1));
        assert_eq!(range_len("4-7"), Some(4));
        for odd in ["", "7-4", "a-b", "0-4294967295"] {
            assert_eq!(range_len(odd), None, "{odd}");
        }
    }
}
