//! The limit of open files, which bounds how many connections there can be.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors kept for what is no client: listeners, log, the runtime (redis `CONFIG_MIN_RESERVED_FDS`).
const RESERVED: u64 = 32;

/// Makes sure that `maxclients` connections can be open, raising the limit of this process where it is too low. `Err` is
/// how many are possible; the limit is then as it was.
pub fn provide(maxclients: u32) -> Result<(), u64> {
    let wanted = u64::from(maxclients) + RESERVED;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit.
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: maximum.map(|maximum| maximum.max(wanted)),
    };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    let possible = maximum.unwrap_or(wanted).min(wanted);
    Err(possible.saturating_sub(RESERVED))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is within the limit changes nothing; what no kernel grants is refused with a smaller number, and the limit
    /// stays.
    #[test]
    fn refuses_the_impossible() {
        assert_eq!(provide(1), Ok(()));
        let before = getrlimit(Resource::Nofile);
        if before.current.is_some() {
            let possible = provide(u32::MAX).expect_err("more than any kernel grants");
            assert!(possible < u64::from(u32::MAX));
        }
        assert_eq!(getrlimit(Resource::Nofile), before);
    }
}
