//! What keeps a library function from running or growing without end.

use mlua::{Error, Lua, Result};

use super::raise;

/// The bounds of all library functions of a machine: its app data. Without it nothing is stopped, and buffers may have
/// [`LARGEST_BUFFER`].
pub struct Bounds {
    /// Asked now and then by work that may take long, every few thousand steps, which are less than a millisecond: true if
    /// the script is to end. It may also do what else has to be done while a script runs.
    pub is_over: Box<dyn Fn() -> bool>,
    /// The most bytes that one function may gather outside of the machine's own memory.
    pub buffer_bytes: usize,
}

/// The longest string that clients can be sent, and that a function makes in one call.
pub const LARGEST_BUFFER: usize = 512 * 1024 * 1024;

/// Steps until [`Bounds::is_over`] is asked.
const STEPS: usize = 10_000;

/// Counts the steps of one call.
pub(super) struct Steps<'a> {
    lua: &'a Lua,
    left: usize,
    buffer_bytes: Option<usize>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(lua: &'a Lua) -> Steps<'a> {
        Steps {
            lua,
            left: STEPS,
            buffer_bytes: None,
        }
    }

    /// Counts so many steps.
    ///
    /// # Errors
    /// The script is to end.
    #[inline]
    pub(super) fn count(&mut self, steps: usize) -> Result<()> {
        match self.left.checked_sub(steps) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => self.ask(),
        }
    }

    #[cold]
    fn ask(&mut self) -> Result<()> {
        self.left = STEPS;
        let bounds = self.lua.app_data_ref::<Bounds>();
        match bounds.is_some_and(|bounds| (bounds.is_over)()) {
            true => Err(Error::external(Over)),
            false => Ok(()),
        }
    }

    /// Makes sure that a buffer may have so many bytes.
    ///
    /// # Errors
    /// It may not.
    #[inline]
    pub(super) fn check_size(&mut self, bytes: usize) -> Result<()> {
        // Most buffers are smaller than any bound.
        if bytes < 1024 || bytes <= self.buffer_bytes() {
            return Ok(());
        }
        Err(raise::out_of_memory())
    }

    fn buffer_bytes(&mut self) -> usize {
        let lua = self.lua;
        *self.buffer_bytes.get_or_insert_with(|| {
            lua.app_data_ref::<Bounds>()
                .map_or(LARGEST_BUFFER, |bounds| {
                    bounds.buffer_bytes.min(LARGEST_BUFFER)
                })
        })
    }
}

/// The error of a function that [`Bounds::is_over`] has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over;

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script killed by user with SCRIPT KILL.")
    }
}

impl std::error::Error for Over {}
