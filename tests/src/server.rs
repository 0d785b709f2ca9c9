use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use rustix::net::{self, AddressFamily, SocketType};

use crate::clients::Dockerd;
use crate::program::{World, code};

/// A running `gantry serve` on a free port of loopback.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
}

impl Server {
    /// Serves the world's store; `args` go behind `serve`.
    #[track_caller]
    pub fn start(world: &World, args: &[&str]) -> Self {
        Self::listen(world.command(["serve", "--addr", "127.0.0.1:0"]).args(args))
    }

    /// The same in the network namespace of a dockerd, on the loopback that this one sees.
    #[track_caller]
    pub fn start_beside(dockerd: &Dockerd, world: &World, args: &[&str]) -> Self {
        let serve = world.command(["serve", "--addr", "127.0.0.1:0"]);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", dockerd.pid()));
        command.arg(serve.get_program()).args(serve.get_args()).args(args).stdin(Stdio::null());
        Self::listen(&mut command)
    }

    #[track_caller]
    fn listen(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("gantry starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut seen = Vec::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else { panic!("gantry serve did not listen: {seen:?}") };
            if let Some(address) = address_in(&line) {
                break address;
            }
            seen.push(line);
        };
        // The pipe must not fill up.
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, address }
    }

    /// Asks it to end as Ctrl-C does; it must end with status 0.
    #[track_caller]
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        assert_eq!(code(self.child.wait().expect("a child")), 0);
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first word of a line that is an address on loopback with a port.
fn address_in(line: &str) -> Option<String> {
    let begin = line.find("127.0.0.1:")?;
    let rest = &line[begin..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
    Some(rest[..end].trim_end_matches('.').to_owned())
}

/// A htpasswd file's text for user `alice` with password `wonderland` (bcrypt, cost 4).
pub fn htpasswd() -> &'static str {
    "alice:$2y$04$nOLhhsJBNw9Ck4lXqhuIGOpCmOIpB7dU6cAUDRFuHIjU2etvaJ.Km\n"
}

/// A port of loopback that refuses everybody and that nobody else can take as long as the value lives.
#[derive(Debug)]
pub struct ClosedPort {
    /// `127.0.0.1:PORT`
    pub address: SocketAddrV4,
    /// Bound, and not listening.
    _socket: OwnedFd,
}

impl ClosedPort {
    /// Takes a free one.
    #[expect(clippy::new_without_default, reason = "it takes a port")]
    pub fn new() -> Self {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = net::getsockname(&socket).expect("it is bound").try_into().expect("of IPv4");
        ClosedPort { address, _socket: socket }
    }
}
