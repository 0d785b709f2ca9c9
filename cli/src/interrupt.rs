//! Ctrl-C and SIGTERM while a command works on the store.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::output;
use crate::whole_file;

/// As long as this lives, a signal ends the program with a word and the code that shells give it.
#[derive(Debug)]
pub(crate) struct ExitOnSignal {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    /// What is said about what was begun.
    words: Arc<Mutex<String>>,
}

/// Ends the program when it is interrupted. That is safe at any moment: what is half written has no name yet; what of it
/// is in the store is removed by the next command, and processes of a build die with it.
pub(crate) fn exit_on_signal() -> io::Result<ExitOnSignal> {
    let words = Arc::new(Mutex::new("what was not finished is taken away by the next command".to_owned()));
    let said = words.clone();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let handle = signals.handle();
    let thread = std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // To the very end, so that nothing is finished after it was said that it is not.
            let _unfinished = whole_file::remove_unfinished();
            let words = said.lock().unwrap_or_else(PoisonError::into_inner);
            // Behind the `^C` and the bars.
            if output::stderr_is_terminal() {
                output::note("");
            }
            output::note(format!("interrupted: {words}"));
            std::process::exit(128 + signal);
        }
    });
    Ok(ExitOnSignal { handle, thread: Some(thread), words })
}

impl ExitOnSignal {
    /// From now on an interrupt leaves this behind.
    pub(crate) fn leaves(&self, words: String) {
        *self.words.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }
}

/// What is left of a file that [`whole_file`] writes; of stdout when there is no path.
pub(crate) fn unwritten(path: Option<&Path>) -> String {
    match path {
        Some(path) => format!("{} was not written", path.display()),
        None => "what went to stdout is not whole".to_owned(),
    }
}

impl Drop for ExitOnSignal {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
