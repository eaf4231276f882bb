//! Work that holds a thread for longer than other connections should wait.

use std::io;
use std::time::Duration;

#[cfg(not(feature = "simulation"))]
use rustix::process::{getpriority_process, setpriority_process};
use rustix::time::{ClockId, Timespec, clock_gettime};
#[cfg(not(feature = "simulation"))]
use tokio::runtime::Builder;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

/// Runs work that may take long: where the runtime allows it, the worker's other tasks move to another thread first.
pub fn give_worker_away<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// What work costs: the time for which this thread has a core, without that for which it waits for one.
#[derive(Clone, Copy, Debug)]
pub struct Work(Timespec);

impl Work {
    /// From here on.
    pub fn begin() -> Work {
        Work(clock_gettime(ClockId::ThreadCPUTime))
    }

    /// Up to here, on the thread that has begun it.
    pub fn took(self) -> Duration {
        let took = clock_gettime(ClockId::ThreadCPUTime) - self.0;
        Duration::try_from(took).unwrap_or_default()
    }
}

/// A thread with a runtime of its own: for work that has to get on however busy the requests keep theirs. The system shares
/// the cores out; among tasks of one runtime it would get a turn when all others had theirs, and keep the core for all of it.
#[derive(Debug)]
pub struct Apart {
    handle: Handle,
    /// Dropped is stopped.
    _stop: oneshot::Sender<()>,
}

/// What a thread apart gets of a core that others want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// As much as each of them.
    Full,
    /// A fifth of that ([`NICE`]), and whoever wakes up takes the core from it.
    Small,
}

/// Not more: it has locks of partitions.
#[cfg(not(feature = "simulation"))]
const NICE: i32 = 7;

impl Apart {
    /// No thread: in a simulation all is done on the one that it runs on, in its time.
    #[cfg(feature = "simulation")]
    pub fn start(_: &str, _: Share) -> io::Result<Apart> {
        let (stop, _) = oneshot::channel();
        Ok(Apart {
            handle: Handle::current(),
            _stop: stop,
        })
    }

    /// Starts the thread.
    #[cfg(not(feature = "simulation"))]
    pub fn start(name: &str, share: Share) -> io::Result<Apart> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Of this thread alone, on Linux. Where it cannot be had the thread does the same work.
                if share == Share::Small && getpriority_process(None).is_ok_and(|nice| nice < NICE)
                {
                    let _ = setpriority_process(None, NICE);
                }
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

#[cfg(all(test, not(feature = "simulation")))]
mod tests {
    use super::*;

    /// Aim: work is what was done, not what was waited for.
    #[test]
    fn who_waits_does_not_work() {
        let work = Work::begin();
        while work.took() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        let before = work.took();
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let waited = Duration::from_millis(200);
        assert!(receiver.recv_timeout(waited).is_err());
        assert!(work.took() - before < waited / 2);
        drop(sender);
    }

    /// Aim: a thread steps back for those of the requests if it was told to, and no other does.
    #[tokio::test]
    async fn who_has_a_small_share_is_nice() {
        let before = getpriority_process(None);
        let small = before.map(|nice| nice.max(NICE));
        for (share, nice) in [(Share::Small, small), (Share::Full, before)] {
            let apart = Apart::start("apart", share).expect("a thread");
            let there = apart.handle().spawn(async { getpriority_process(None) });
            assert_eq!(there.await.expect("it does not panic"), nice, "{share:?}");
        }
        assert_eq!(getpriority_process(None), before);
    }
}
