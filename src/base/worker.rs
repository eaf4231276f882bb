//! Work that holds a thread for longer than other connections should wait.

use std::io;

use tokio::runtime::{Builder, Handle, RuntimeFlavor};
use tokio::sync::oneshot;

/// Runs work that may take long: where the runtime allows it, the worker's other tasks move to another thread first.
pub fn give_worker_away<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// A thread with a runtime of its own: for work that has to get on however busy the requests keep theirs. The system shares
/// the cores out; among tasks of one runtime it would get a turn when all others had theirs.
#[derive(Debug)]
pub struct Apart {
    handle: Handle,
    /// Dropped is stopped.
    _stop: oneshot::Sender<()>,
}

impl Apart {
    /// Starts the thread.
    pub fn start(name: &str) -> io::Result<Apart> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // Nothing is ever sent: it ends when the other side is dropped.
                    let _ = stopped.await;
                });
            })?;
        Ok(Apart {
            handle,
            _stop: stop,
        })
    }

    /// To spawn tasks there. They end, wherever they wait, when this is dropped.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
