//! Signals and `execve(2)`.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::ptr;

use rustix::thread::UnshareFlags;

/// The signals sent to this process, in the order of their arrival, in place of their default actions.
pub(crate) struct SignalQueue(File);

impl SignalQueue {
    /// From now on this thread's signals wait in the queue. Children inherit that they are blocked: see
    /// [`reset_signals`]. SIGCHLD is left out: child processes are waited for by descriptor.
    pub(crate) fn new() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises the set it is given; the other calls read or change that one, which lives on
        // this stack. A null old set is allowed. A descriptor of -1 asks signalfd for a new one, which nobody else owns.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            libc::sigdelset(set.as_mut_ptr(), libc::SIGCHLD);
            if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(SignalQueue(File::from_raw_fd(fd))),
            }
        }
    }

    /// Waits for the next signal and gives its number.
    pub(crate) fn next(&mut self) -> io::Result<i32> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        self.0.read_exact(&mut record)?;
        // `ssi_signo` is the first field.
        Ok(u32::from_ne_bytes([record[0], record[1], record[2], record[3]]).cast_signed())
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives every signal its default action and unblocks it, as a program expects at its start.
pub(crate) fn reset_signals() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: SIG_DFL is a valid action for every signal; for KILL, STOP and libc's own ones the call fails, which is
    // fine. sigemptyset initialises the set that sigprocmask reads.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// Becomes `program`, with exactly these arguments and this environment. Returns only the error.
pub(crate) fn execute(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: all strings end with a nul byte, both arrays with a null pointer, and all live until the call returns,
    // which it does only on failure.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Sends a signal by number, also a real-time one, to the process that `pidfd` means. One that has ended is no error.
pub(crate) fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call; a null info means that the kernel fills it in.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    match io::Error::last_os_error() {
        _ if result == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(error),
    }
}

/// Moves this process, which has one thread, into new namespaces.
pub(crate) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    // SAFETY: the file descriptor table stays shared, which is what the call's condition is about.
    Ok(unsafe { rustix::thread::unshare_unsafe(namespaces - UnshareFlags::FILES) }?)
}
