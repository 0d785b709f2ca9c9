//! Foreign programs: found on the PATH, run with a home of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::program::{Outcome, World, finish, wait_for};

/// Whether a program is installed.
pub fn has(program: &str) -> bool {
    find(program).is_some()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Runs a foreign program to its end.
#[track_caller]
pub fn run_client(world: &World, program: &str, args: &[&str]) -> Outcome {
    let mut command = Command::new(program);
    command.args(args).current_dir(world.path()).stdin(Stdio::null());
    finish(world.clean(&mut command), None)
}

/// A dockerd of our own, with its data and socket in the test's folder, and in network and mount namespaces of its own:
/// the host's bridges, firewall and mounts stay as they are. A registry that it shall reach is started by
/// [`crate::Server::start_beside`].
#[derive(Debug)]
pub struct Dockerd {
    child: Child,
    socket: PathBuf,
}

impl Dockerd {
    /// Starts one; `None` when dockerd is missing, or this is not root.
    pub fn start(folder: &Path) -> Option<Self> {
        let program = find("dockerd").filter(|_| crate::is_root())?;
        let at = folder.join("dockerd");
        std::fs::create_dir_all(&at).expect("a folder");
        let socket = at.join("docker.sock");
        let log = std::fs::File::create(at.join("log")).expect("a file");
        let child = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
            .arg(program)
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--group", "root"])
            .arg("--data-root")
            .arg(at.join("data"))
            .arg("--exec-root")
            .arg(at.join("exec"))
            .arg("--pidfile")
            .arg(at.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare is part of every Debian");
        let mut dockerd = Dockerd { child, socket };
        let host = format!("unix://{}", dockerd.socket.display());
        wait_for("dockerd", || {
            let ended = dockerd.child.try_wait().expect("a child");
            let log = || std::fs::read_to_string(at.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "dockerd ended:\n{}", log());
            let answer = Command::new("docker").args(["-H", &host, "version"]).output();
            answer.is_ok_and(|output| output.status.success())
        });
        Some(dockerd)
    }

    /// The daemon's process, whose network namespace others may enter.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs `docker …` against it.
    #[track_caller]
    pub fn docker(&self, world: &World, args: &[&str]) -> Outcome {
        let host = format!("unix://{}", self.socket.display());
        let args: Vec<&str> = ["-H", &host].into_iter().chain(args.iter().copied()).collect();
        run_client(world, "docker", &args)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}
