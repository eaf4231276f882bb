//! What the unit tests of this folder share: a machine without surprises, and directories that clean up after themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::cgroup::Machine;

/// No limits, 1 GiB, four processors.
pub(super) const MACHINE: Machine = Machine {
    memory_limit_bytes: None,
    memory_total_bytes: 1 << 30,
    cpu_count: 4,
};

/// A new directory under the system's temporary one, removed when dropped.
pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new(name: &str) -> TempDir {
        // Written and read by tests of one process only; any order will do, since only uniqueness counts.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!(
            "quoit-{name}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(unique);
        fs::create_dir(&path).expect("the name is new");
        TempDir(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, with the directories on the way.
    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("it is below the directory"))
            .expect("the directory is ours");
        fs::write(&path, text).expect("the directory is ours");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A directory left behind harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
