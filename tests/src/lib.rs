//! End to end: the installed program as a user calls it, with real clients beside it.
//!
//! Each test has a store of its own in a temporary folder and ends with [`World::close`], which verifies the whole
//! store and looks for mounts left behind. What a test needs and this machine lacks is said by `skipped: REASON`, which
//! `cargo xtask test` counts.

#![expect(clippy::print_stderr, reason = "a test says what it could not do")]

mod clients;
mod images;
mod program;
mod server;
mod stalling;

pub use clients::{Dockerd, has, run_client};
pub use images::{busybox_root, busybox_world, import_busybox, import_debian, static_program};
pub use program::{Outcome, World, corpora, gantry_binary, is_root, wait_for};
pub use server::{ClosedPort, Server, htpasswd};
pub use stalling::{Answer, StallingRegistry};

/// Ends the test with a line that says why it cannot run here.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        eprintln!("skipped: {}", format_args!($($reason)*));
        return;
    }};
}

/// The world that an expression gives; the test is skipped with the reason when it gives none.
#[macro_export]
macro_rules! world_or_skip {
    ($world:expr) => {
        match $world {
            Ok(world) => world,
            Err(reason) => $crate::skip!("{reason}"),
        }
    };
}
