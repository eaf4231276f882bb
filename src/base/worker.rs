//! Work that holds a thread for longer than other connections should wait.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs work that may take long: where the runtime allows it, the worker's other tasks move to another thread first.
pub fn give_worker_away<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
