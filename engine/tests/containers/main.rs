//! Runs real containers, as root, over a busybox root.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test program, though it is not built as one"
)]

mod commands;
mod confinement;
mod lifecycle;
mod mounts;
mod records;
mod terminal;
mod world;

use world::Test;

fn main() {
    engine::roles::dispatch();
    let words: Vec<String> = std::env::args().collect();
    if let [_, role, spec, script] = words.as_slice()
        && role == "victim"
    {
        lifecycle::victim(spec, script);
    }
    let tests: Vec<Test> = [
        commands::TESTS,
        confinement::TESTS,
        lifecycle::TESTS,
        mounts::TESTS,
        records::TESTS,
        terminal::TESTS,
    ]
    .concat();
    if words.get(1).is_some_and(|role| role == "write-to-own-program") {
        confinement::write_to_own_program();
    }
    std::process::exit(world::run_tests(&tests));
}
