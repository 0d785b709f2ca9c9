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
    command.args(args).current_dir(world.path()).env("HOME", world.path().join("home")).stdin(Stdio::null());
    finish(&mut command, None)
}

/// A dockerd of our own, with its data and socket in the test's folder and no part in the host's network.
#[derive(Debug)]
pub struct Dockerd {
    child: Child,
    socket: PathBuf,
}

impl Dockerd {
    /// Starts one that shares the host's network, so that it reaches a registry on loopback, but sets up no bridge and
    /// no firewall rules there.
    ///
    /// `None` when dockerd is missing or does not start here.
    pub fn start(folder: &Path) -> Option<Self> {
        let program = find("dockerd")?;
        let at = folder.join("dockerd");
        std::fs::create_dir_all(&at).expect("a folder");
        let socket = at.join("docker.sock");
        let log = std::fs::File::create(at.join("log")).expect("a file");
        let mut child = Command::new(program)
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
            .ok()?;
        let mut running = true;
        wait_for("dockerd", || {
            running = matches!(child.try_wait(), Ok(None));
            let answers = Command::new("docker")
                .arg("-H")
                .arg(format!("unix://{}", socket.display()))
                .arg("version")
                .output();
            !running || answers.is_ok_and(|output| output.status.success())
        });
        running.then_some(Dockerd { child, socket })
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
