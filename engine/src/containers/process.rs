//! Which process a container's record means: a PID alone says little, since it is given away again.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

/// A process, told apart from all others that had or will have its PID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// As the host sees it.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub start_ticks: u64,
    /// Which start of the machine that was.
    pub boot_id: String,
}

impl Process {
    /// The process that has `pid` now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_ticks = start_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Process { pid, start_ticks, boot_id: boot_id()? })
    }

    /// It still runs. One that has ended but was not waited for does not.
    pub fn is_alive(&self) -> bool {
        Process::of(self.pid).is_ok_and(|now| now == *self)
    }

    /// Kills it and waits for its end. One that has ended is no error.
    pub(super) fn kill(&self) -> io::Result<()> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            pidfd => pidfd?,
        };
        // What is open now is what is compared now.
        if !self.is_alive() {
            return Ok(());
        }
        crate::sys::send_signal(&pidfd, libc::SIGKILL)?;
        let mut polled = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None))?;
        Ok(())
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Out of `/proc/PID/stat`; `None` for a process that has ended as well.
///
/// Format: `proc_pid_stat(5)`. The name in parentheses may hold anything, parentheses too.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // The state is the third field, the start time the 22nd.
    fields.nth(22 - 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_with_its_pid_is_not() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Process { start_ticks: own.start_ticks - 1, ..own.clone() }.is_alive());
        assert!(!Process { boot_id: "before".into(), ..own }.is_alive());
    }

    #[test]
    fn hostile_names_do_not_move_the_fields() {
        let stat = "7 (a) R 1 (b) S 1 7 7 0 -1 4194304 1 0 0 0 2 3 0 0 20 0 1 0 4711 99 100";
        assert_eq!(start_ticks(stat), Some(4711));
        assert_eq!(start_ticks(&stat.replace(" S 1 7", " Z 1 7")), None);
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    fn a_killed_process_is_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        process.kill().unwrap();
        assert!(!process.is_alive());
        process.kill().unwrap();
        child.wait().unwrap();
        process.kill().unwrap();
    }
}
