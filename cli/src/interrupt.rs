//! Ctrl-C and SIGTERM while a command works on the store.

use std::io;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::output;

/// As long as this lives, a signal ends the program with a word and the code that shells give it.
#[derive(Debug)]
pub(crate) struct ExitOnSignal {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// Ends the program when it is interrupted. That is safe at any moment: what is half written has no name yet and is
/// removed by the next command, and processes of a build die with it.
pub(crate) fn exit_on_signal() -> io::Result<ExitOnSignal> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let thread = std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Behind the `^C` and the bars.
            if output::stderr_is_terminal() {
                output::note("");
            }
            output::note("interrupted: what was not finished is taken away by the next command");
            std::process::exit(128 + signal);
        }
    });
    Ok(ExitOnSignal { handle, thread: Some(thread) })
}

impl Drop for ExitOnSignal {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
