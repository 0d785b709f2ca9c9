//! What the tests of several modules need.

use std::time::{Duration, Instant};

/// Waits until a lock that was let go is free, a minute at most: a process that another test starts at that moment has
/// all our descriptors until it executes its program.
#[track_caller]
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited a minute");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
