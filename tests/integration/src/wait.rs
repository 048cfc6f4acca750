//! Waiting for conditions.

use std::thread;
use std::time::{Duration, Instant};

/// Long enough for anything that a loaded two-core machine does, short enough to notice a hang.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What `condition` yields, as soon as it yields something; panics after a minute.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_within(DEADLINE, what, condition)
}

/// As [`until`], with another deadline.
pub fn until_within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} for {what}");
        thread::sleep(LOOK_EVERY);
    }
}
